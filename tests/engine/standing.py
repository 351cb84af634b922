"""Tables in the place of the views of projections' status and dead letters, so that a test says how things stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amends.records import START, Position
from tests.engine.readside_shop import connect

STAND_IN = """
do $$ declare name text; kind text; begin
    for name, kind in
        select c.relname, case c.relkind when 'v' then 'view' else 'table' end from pg_class c
        where c.relnamespace = 'views'::regnamespace and c.relname in ('projection_status', 'dead_letters')
    loop execute format('drop %s views.%I cascade', kind, name); end loop;
end $$;
create table views.projection_status (
    projection text, version integer, generation integer, served boolean, state text, healthy boolean, problem text,
    xid bigint, position bigint, events bigint, lag_events bigint, lag_seconds float8, rate float8, last_error text,
    failed_at timestamptz, dead_letters bigint, updated_at timestamptz);
create table views.dead_letters (
    projection text, version integer, generation integer, key text, xid bigint, position bigint, stream text,
    event text, error text, attempts integer, state text, actor text, reason text, parked_at timestamptz,
    settled_at timestamptz);
grant select on views.projection_status, views.dead_letters to amends_reader
"""

STATUS = """
insert into views.projection_status
    (projection, version, generation, served, state, healthy, problem, xid, position, lag_events, last_error,
     dead_letters)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""

LETTER = """
insert into views.dead_letters (projection, version, generation, key, state, xid, position)
values (%s, %s, %s, %s, %s, %s, %s)
"""


@dataclass(frozen=True)
class Stands:
    """How one build of a projection stands."""

    projection: str
    at: Position
    state: str = "live"
    version: int = 1
    generation: int = 1
    served: bool = True
    problem: str | None = None
    lag: int = 0
    error: str | None = None
    parked: int = 0


@dataclass(frozen=True)
class Parked:
    """A dead letter."""

    projection: str
    key: str
    state: str = "parked"
    version: int = 1
    generation: int = 1
    at: Position = START


async def standing(url: str, *rows: Stands | Parked) -> None:
    """From now on the status says this, and nothing else."""
    async with connect(url) as connection, connection.transaction():
        await connection.execute(STAND_IN.encode())
        for row in rows:
            await connection.execute(*_insert(row))


def _insert(row: Stands | Parked) -> tuple[bytes, tuple[Any, ...]]:
    if isinstance(row, Parked):
        whose = (row.projection, row.version, row.generation, row.key, row.state)
        return LETTER.encode(), (*whose, row.at.xid, row.at.number)
    facts = (row.projection, row.version, row.generation, row.served, row.state, row.problem is None, row.problem)
    return STATUS.encode(), (*facts, row.at.xid, row.at.number, row.lag, row.error, row.parked)
