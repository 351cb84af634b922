"""Reads how projections stand, from the views that say so."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ARRAY, Text, bindparam, text

from amends.connections import Connections
from amends.freshness import Lag, Standing, served
from amends.records import Position

__all__ = ["Standings"]

STANDINGS = text("""
select projection, version, generation, served, state, last_error is not null as failed, xid, position, dead_letters
from views.projection_status
""")
"""Where every version of every projection stands; without the lag, which takes counting."""

LAG = text("""
select lag_events, coalesce(problem, last_error) from views.projection_status
where projection = :projection order by served desc, xid desc, position desc limit 1
""")
"""How much a projection has still to read, and what keeps it; for those who are told that it is stale."""

PARKED = text("""
select key, projection, version, generation from views.dead_letters
where key = any(:keys) and state in ('parked', 'retrying') group by key, projection, version, generation
""").bindparams(bindparam("keys", type_=ARRAY(Text)))
"""In which projections events of these keys are parked."""


PARKED_AT = text("""
select distinct projection, version, generation from views.dead_letters
where xid = :xid and position = :position and state in ('parked', 'retrying')
""")
"""In which projections the event at a position is parked."""


class Standings:
    """Asks the database how projections stand.

    Args:
        database: connections of the reader role, in autocommit.
    """

    def __init__(self, database: Connections) -> None:
        self._database = database

    async def read(self) -> dict[str, Standing]:
        """Every projection as its readers meet it, by name."""
        async with self._database.connect() as connection:
            rows = (await connection.execute(STANDINGS)).all()
        return served(
            Standing(
                projection=row.projection,
                version=row.version,
                generation=row.generation,
                served=row.served,
                state=row.state,
                failed=row.failed,
                position=Position(row.xid, row.position),
                dead_letters=row.dead_letters or 0,
            )
            for row in rows
        )

    async def parked(self, keys: Collection[str], standings: dict[str, Standing]) -> dict[str, set[str]]:
        """For each of these keys the projections in which events of it are parked, in the version that is shown."""
        if not keys:
            return {}
        async with self._database.connect() as connection:
            rows = (await connection.execute(PARKED, {"keys": sorted(keys)})).all()
        found: dict[str, set[str]] = {}
        for key, projection, version, generation in rows:
            shown = standings.get(projection)
            if shown and (shown.version, shown.generation) == (version, generation):
                found.setdefault(key, set()).add(projection)
        return found

    async def parked_at(self, position: Position, standings: dict[str, Standing]) -> set[str]:
        """The projections in which the event at this position is parked, in the version that is shown."""
        if not any(each.dead_letters for each in standings.values()):
            return set()
        async with self._database.connect() as connection:
            rows = (await connection.execute(PARKED_AT, {"xid": position.xid, "position": position.number})).all()
        shown = {(name, each.version, each.generation) for name, each in standings.items()}
        return {name for name, version, generation in rows if (name, version, generation) in shown}

    async def lag(self, projection: str) -> Lag:
        """What a projection that is stale has still to read, and what keeps it."""
        async with self._database.connect() as connection:
            row = (await connection.execute(LAG, {"projection": projection})).first()
        return Lag(*row) if row else Lag(None, None)
