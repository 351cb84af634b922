"""Compares a build with what is served, at the same position of the feed, without holding anybody up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from psycopg import sql

from amends.database import Connection, Pool
from amends.physical import physical_name
from amends.public_views import COLUMNS
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

MADE_WITH = "select made_with from amends.generations where projection = %s and version = %s and generation = %s"
"""The settings that a build's rows were made with."""

KEY = """
select a.attname from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
where i.indrelid = to_regclass(%s) and i.indisprimary
"""
"""The columns of a table's key."""

PARKED = """
select d.xid::text || ':' || d.position from amends.dead_letters d
where d.projection = %s and d.version = %s and d.generation = %s and d.state <> 'skipped'
  and (d.xid, d.position) <= (%s::text::xid8, %s) order by d.xid, d.position
"""
"""The events that are parked, up to a position."""

HASH = "select count(*), coalesce(sum(hashtextextended(row({t})::text, 0)::numeric), 0)::text from {table} t"
"""How many rows, and a number that is the same for the same rows in any order."""

COUNT = "select count(*) from {}"
"""How many rows."""

DIFFER = """
with differing as materialized (
    select jsonb_build_array({keys}) as key,
           case when n.{first} is null then 'only_old' when o.{first} is null then 'only_new' else 'different' end
               as kind
    from {old} o full join {new} n on {same}
    where o.{first} is null or n.{first} is null or row({o})::text <> row({n})::text
)
select k.kind, k.rows, (
    select jsonb_agg(f.key) from (select d.key from differing d where d.kind = k.kind order by d.key limit {most}) f)
from (select d.kind, count(*) as rows from differing d group by d.kind) k
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
    pool: Pool, projection: Any, generation: int, level: Callable[[list[Position]], Awaitable[bool]]
) -> Report | None:
    """Compare a build with what is served.

    What is served stands still only while the build is brought level with it, the last few events; from then on both
    are looked at in one snapshot, and go on meanwhile.

    Args:
        pool: connections of the projector role.
        projection: what is built.
        generation: which build of it.
        level: brings the build's partitions to where those that are served stand; tells whether they stand there, for a
            build of another version may be ahead, or be shared in another way. Then rows are only counted.

    Returns:
        how they compare; None where what is served is of the same version and behind: it was rolled back just now.
    """
    name, new = projection.name, (projection.version, generation)
    async with pool.connection() as snapshot:
        await snapshot.set_autocommit(False)
        try:
            async with pool.connection() as holder, holder.transaction():
                version, served, positions = await served_at(holder, name, locked=True)
                is_level = await level(positions)
                await snapshot.execute("set transaction isolation level repeatable read, read only")
                await snapshot.execute("set local statement_timeout = 0")
                made_with = await _made_with(snapshot, name, version, served)  # takes the snapshot
            old, same_version = (version, served), version == projection.version
            if same_version and not is_level:
                return None
            # what a build that is ahead has parked there, what is served may not even have met
            until = max(positions) if is_level else min(positions)
            parked = [await _parked(snapshot, name, of[0], of[1], until) for of in (old, new)]
            reports = []
            for table in projection.tables.values():
                same = same_version or (table.since <= version and made_with == projection.made_with)
                names = [physical_name(table.name, *of) for of in (old, new)]
                report = await _counted(snapshot, table.name, names, same=same)
                if is_level:
                    await _compare_rows(snapshot, report, table.key, names)
                reports.append(report)
        finally:
            await snapshot.rollback()
            await snapshot.set_autocommit(True)
    return Report(
        same_version=same_version,
        old=old,
        new=new,
        position=str(max(positions)),
        tables=reports,
        newly_parked=sorted(parked[1] - parked[0]),
    )


async def _made_with(connection: Connection, name: str, version: int, generation: int) -> dict[str, str]:
    row = await (await connection.execute(MADE_WITH, (name, version, generation))).fetchone()
    return row[0] if row else {}


async def _parked(connection: Connection, name: str, version: int, generation: int, until: Position) -> set[str]:
    of = (name, version, generation, until.xid, until.number)
    return {at for (at,) in await (await connection.execute(PARKED, of)).fetchall()}


async def _counted(connection: Connection, table: str, names: list[str], *, same: bool) -> TableReport:
    counts: list[int | None] = []
    for name in names:
        row = None
        if await _columns(connection, name):
            count = sql.SQL(COUNT).format(sql.Identifier("read_models", name))
            row = await (await connection.execute(count)).fetchone()
        counts.append(row[0] if row else None)
    return TableReport(table=table, old_rows=counts[0], new_rows=counts[1] or 0, same=same)


async def _compare_rows(connection: Connection, report: TableReport, key: list[str], names: list[str]) -> None:
    """Compare the columns that both tables have, where both have the same key."""
    old, new = [await _columns(connection, name) for name in names]
    keys = [{column for (column,) in await _rows(connection, KEY, name)} for name in names]
    shared = [column for column, kind in new.items() if old.get(column) == kind]
    if not keys[0] == keys[1] <= set(shared):
        return
    report.compared = shared
    tables = [sql.Identifier("read_models", name) for name in names]
    hashes = [sql.SQL(HASH).format(t=_of("t", shared), table=table) for table in tables]
    found = [await (await connection.execute(each)).fetchone() for each in hashes]
    if found[0] != found[1]:
        columns = [sql.Identifier(name) for name in key]
        query = sql.SQL(DIFFER).format(
            keys=sql.SQL(", ").join(sql.SQL("coalesce(o.{0}, n.{0})").format(column) for column in columns),
            first=columns[0],
            old=tables[0],
            new=tables[1],
            o=_of("o", shared),
            n=_of("n", shared),
            same=sql.SQL(" and ").join(sql.SQL("o.{0} = n.{0}").format(column) for column in columns),
            most=sql.Literal(FIRST),
        )
        for kind, count, first in await (await connection.execute(query)).fetchall():
            report.differing[kind], report.first[kind] = count, first


def _of(alias: str, columns: list[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(alias, column) for column in columns)


async def _columns(connection: Connection, name: str) -> dict[str, str]:
    """The columns of a table and their types; none when there is no such table."""
    return dict(await _rows(connection, COLUMNS, name))


async def _rows(connection: Connection, query: str, name: str) -> list[Any]:
    return await (await connection.execute(query.encode(), (f'read_models."{name}"',))).fetchall()
