"""The feed: everything that has happened, in an order in which nothing ever appears behind a reader."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from amends.database import Connection, Pool
from amends.messages import Event
from amends.personal_keys import clear_texts
from amends.records import START, Position, Recorded
from amends.sealing import all_clear, holds_sealed

__all__ = ["COLUMNS", "Feed", "Row", "read", "rows_of"]

COLUMNS = """e.xid::text::bigint, e.position, e.stream, e.version, e.event_id, e.name, e.schema_version, e.data::text,
       e.command_id, e.correlation_id, e.causation_id, e.actor, e.trace, e.recorded_at"""
"""What a `Row` is read from."""

READ = f"""
select {COLUMNS}
from amends.events e
where (e.xid, e.position) > (%s::xid8, %s) and e.xid < pg_snapshot_xmin(pg_current_snapshot())
order by e.xid, e.position
limit %s
"""
"""The next events that no open transaction can come before; sorted by the xid itself, not by its text."""

HEAD = """
select e.xid::text::bigint, e.position from amends.events e order by e.xid desc, e.position desc limit 1
"""
"""The last committed event in feed order, readers may have to wait for it still."""


class Row(NamedTuple):
    """An event as stored, its personal data in clear: they stay undecoded JSON until somebody wants them."""

    xid: int
    number: int
    stream: str
    version: int
    event_id: UUID
    name: str
    schema_version: int
    data: str
    command_id: str
    correlation_id: str
    causation_id: str
    actor: str
    trace: str | None
    recorded_at: datetime

    @property
    def position(self) -> Position:
        """Where it stands in the feed."""
        return Position(self.xid, self.number)

    def recorded(self) -> Recorded:
        """Read the event, in whatever version it was stored.

        Raises:
            MessageError: this code has no class for it.
            InvalidInput: its data don't fit the class.
        """
        event = Event.read(self.name, self.schema_version, self.data)
        if holds_sealed(self.data):
            all_clear(event)
        # by place, for a batch has thousands of them
        return Recorded(
            event,
            Position(self.xid, self.number),
            self.stream,
            self.version,
            self.event_id,
            self.command_id,
            self.correlation_id,
            self.causation_id,
            self.actor,
            self.trace,
            self.recorded_at,
        )


class Feed:
    """Reads events in commit-safe order, without locks: what it has passed over, nothing is added to.

    Args:
        pool: connections of a role that may read events; in autocommit, so that reading never holds the feed back.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read(self, after: Position, limit: int) -> list[Row]:
        """The next events.

        Args:
            after: the last position that was read; `START` for none.
            limit: most events to return.

        Returns:
            rows in feed order; fewer than `limit` when there are no more, or an open transaction holds the rest back.
        """
        async with self._pool.connection() as connection:
            return await read(connection, after, limit)

    async def head(self) -> Position:
        """The position of the last committed event; `START` when there is none."""
        async with self._pool.connection() as connection:
            row = await (await connection.execute(HEAD)).fetchone()
        return Position(*row) if row else START


async def read(connection: Connection, after: Position, limit: int) -> list[Row]:
    """The next events, read within a transaction; arguments and result as for `Feed.read`."""
    async with connection.cursor(binary=True) as cursor:
        # never a cached plan: one made while the log was short would scan all of it later
        await cursor.execute(READ, (str(after.xid), after.number, limit), prepare=False)
        return await rows_of(connection, await cursor.fetchall())


async def rows_of(connection: Connection, found: Sequence[tuple[Any, ...]]) -> list[Row]:
    """What was read of `COLUMNS`, personal data in clear.

    Args:
        connection: of a role that may open them.
        found: as fetched.
    """
    rows = [Row._make(row) for row in found]
    if not any(holds_sealed(row.data) for row in rows):
        return rows
    texts = await clear_texts(connection, [(row.stream, row.data) for row in rows])
    return [row._replace(data=text) for row, text in zip(rows, texts, strict=True)]
