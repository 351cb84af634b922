"""Compares a build with what is served, at the same position of the feed, without holding anybody up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from psycopg import sql

from amends.database import Connection, Pool
from amends.rebuild_request import Report, TableReport
from amends.records import Position

__all__ = ["compare", "served_at"]

FIRST = 10
"""Keys of each kind of difference that a report names."""

SERVED = """
select version, generation, xid::text::bigint, position from amends.checkpoints
where projection = %s and role = 'served' order by partition
"""
"""What is served, and where each of its partitions stands."""

TABLES = "select tables from amends.generations where projection = %s and version = %s and generation = %s"
"""What a build consists of."""

PARKED = """
select d.xid::text || ':' || d.position from amends.dead_letters d
where d.projection = %s and d.version = %s and d.generation = %s and d.state <> 'skipped'
  and (d.xid, d.position) <= (%s::text::xid8, %s) order by d.xid, d.position
"""
"""The events that are parked, up to a position."""

HASH = "select count(*), coalesce(sum(hashtextextended(row(t.*)::text, 0)::numeric), 0)::text from {} t"
"""How many rows, and a number that is the same for the same rows in any order; a bare `t` may be one of its columns."""

COUNT = "select count(*) from {}"
"""How many rows."""

DIFFER = """
with differing as (
    select jsonb_build_array({keys}) as key,
           case when n.{first} is null then 'only_old' when o.{first} is null then 'only_new' else 'different' end
               as kind
    from {old} o full join {new} n on {same} where row(o.*)::text is distinct from row(n.*)::text
)
select kind, count(*), to_jsonb((array_agg(key order by key))[1:{most}]) from differing group by kind
"""
"""Which rows are only in the one or the other table, or not the same."""


async def served_at(connection: Connection, name: str, *, locked: bool = False) -> tuple[int, int, list[Position]]:
    """What is served of a projection: version, generation, and where each partition stands.

    Args:
        connection: in a transaction, if it is to be locked: then nobody moves it until the transaction ends.
        name: of the projection.
        locked: whether to lock it.
    """
    rows = await (await connection.execute(SERVED + ("for update" if locked else ""), (name,))).fetchall()
    return rows[0][0], rows[0][1], [Position(xid, number) for _, _, xid, number in rows]


async def compare(
    pool: Pool, projection: Any, generation: int, level: Callable[[list[Position]], Awaitable[None]]
) -> Report:
    """Compare a build with what is served.

    What is served stands still only while the build is brought level with it, the last few events; from then on both
    are looked at in one snapshot, and go on meanwhile.

    Args:
        pool: connections of the projector role.
        projection: what is built.
        generation: which build of it.
        level: brings the build's partitions exactly to where those that are served stand.
    """
    name, new = projection.name, (projection.version, generation)
    async with pool.connection() as snapshot:
        await snapshot.set_autocommit(False)
        try:
            async with pool.connection() as holder, holder.transaction():
                version, served, positions = await served_at(holder, name, locked=True)
                await level(positions)
                await snapshot.execute("set transaction isolation level repeatable read, read only")
                await snapshot.execute("set local statement_timeout = 0")
                tables = await _tables(snapshot, name, version, served)  # takes the snapshot
            old, same = (version, served), version == projection.version
            # a build of another version is ahead: what it has parked there, what is served may not even have met
            until = max(positions) if same else min(positions)
            parked = [await _parked(snapshot, name, of[0], of[1], until) for of in (old, new)]
            reports = []
            for table in projection.tables.values():
                if same:
                    reports.append(await _compared(snapshot, table, served, generation))
                else:
                    of = next((t for t in tables if t.removeprefix(table.name).startswith(f"_v{version}")), None)
                    reports.append(await _counted(snapshot, table, of, generation))
        finally:
            await snapshot.rollback()
            await snapshot.set_autocommit(True)
    return Report(
        same_version=same,
        old=old,
        new=new,
        position=str(max(positions)),
        tables=reports,
        newly_parked=sorted(parked[1] - parked[0]),
    )


async def _tables(connection: Connection, name: str, version: int, generation: int) -> list[str]:
    row = await (await connection.execute(TABLES, (name, version, generation))).fetchone()
    return list(row[0]) if row else []


async def _parked(connection: Connection, name: str, version: int, generation: int, until: Position) -> set[str]:
    of = (name, version, generation, until.xid, until.number)
    return {at for (at,) in await (await connection.execute(PARKED, of)).fetchall()}


async def _compared(connection: Connection, table: Any, old: int, new: int) -> TableReport:
    of = [sql.Identifier("read_models", table.generation(number).name) for number in (old, new)]
    found = [await (await connection.execute(sql.SQL(HASH).format(each))).fetchone() for each in of]
    rows = [row[0] if row else 0 for row in found]
    report = TableReport(table=table.name, old_rows=rows[0], new_rows=rows[1])
    if found[0] != found[1]:
        keys = [sql.Identifier(name) for name in table.key]
        query = sql.SQL(DIFFER).format(
            keys=sql.SQL(", ").join(sql.SQL("coalesce(o.{0}, n.{0})").format(key) for key in keys),
            first=keys[0],
            old=of[0],
            new=of[1],
            same=sql.SQL(" and ").join(sql.SQL("o.{0} = n.{0}").format(key) for key in keys),
            most=sql.Literal(FIRST),
        )
        for kind, count, first in await (await connection.execute(query)).fetchall():
            report.differing[kind], report.first[kind] = count, first
    return report


async def _counted(connection: Connection, table: Any, old: str | None, new: int) -> TableReport:
    counts: list[int | None] = []
    for name in (old, table.generation(new).name):
        row = None
        if name is not None:
            count = sql.SQL(COUNT).format(sql.Identifier("read_models", name))
            row = await (await connection.execute(count)).fetchone()
        counts.append(row[0] if row else None)
    return TableReport(table=table.name, old_rows=counts[0], new_rows=counts[1] or 0)
