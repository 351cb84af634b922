"""What rows must be: every event applied as a batch of its own, and the rows compared with those that views show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from psycopg import AsyncConnection, AsyncCursor, Connection, sql
from sqlalchemy.schema import CreateTable

from amends.applying import write
from amends.batch import sort_out
from amends.feed import read
from amends.merging import DIALECT
from amends.projection import Projection
from amends.read_tables import ReadTable
from amends.records import START, Position

__all__ = ["GENERATION", "Difference", "Replay", "differences", "replay"]

GENERATION = 1_000_000
"""The replay's tables are those of a generation that no build ever comes to."""

COMMIT_EVERY = 2_000
"""Events from one commit to the next: each is a batch of its own all the same."""

SETTINGS = """
set synchronous_commit = off; set plan_cache_mode = force_generic_plan; set enable_seqscan = off;
set enable_hashjoin = off; set enable_mergejoin = off
"""
"""Each statement is planned once: for the row it is about to be found by its key, however many there will be."""

FIRST = 10
"""Keys of each kind that are named."""

DIFFER = """
select coalesce(array_agg(distinct ({keys})::text), '{{}}') from (
    (select {columns} from {one}) except all (select {columns} from {other})
) as differing
"""
"""Keys of the rows that are in the one and not, or not the same, in the other."""


@dataclass(frozen=True)
class Difference:
    """Rows of a view that are not those of the replay.

    Args:
        view: which.
        missing: keys of rows that it lacks, or has with other values.
        extra: keys of rows that it has, and the replay has not, or with other values.
    """

    view: str
    missing: list[str]
    extra: list[str]

    def __str__(self) -> str:
        told = [
            f"{len(keys)} rows {what}: {', '.join(keys[:FIRST])}{' …' if len(keys) > FIRST else ''}"
            for keys, what in (
                (sorted(set(self.missing) - set(self.extra)), "missing"),
                (sorted(set(self.extra) - set(self.missing)), "too many"),
                (sorted(set(self.missing) & set(self.extra)), "with other values"),
            )
            if keys
        ]
        return f"{self.view}: {'; '.join(told)}"


@dataclass(frozen=True)
class Replay:
    """How the replay went.

    Args:
        events: in the log.
        batches: of one event each, counted for each projection that handles it.
        to: where it stands.
    """

    events: int
    batches: int
    to: Position


class _Prepared:
    """A connection that keeps the plans of statements; who writes a batch asks for a new one each time."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection

    def cursor(self) -> AsyncCursor[Any]:
        return self._connection.cursor()

    async def execute(self, query: str, parameters: Sequence[Any], *, prepare: bool) -> None:
        await self._connection.execute(query.encode(), parameters, prepare=True)


async def replay(url: str, projections: Sequence[Projection], done: Callable[[int], None]) -> Replay:
    """Apply the whole log to tables of its own, each event by itself, as projections do with a batch.

    Args:
        url: of the database, as its owner.
        projections: whose rows.
        done: told how many events it has come to.

    Raises:
        RuntimeError: an event can't be applied.
    """
    at, events, batches = START, 0, 0
    async with await AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(SETTINGS)
        prepared = cast(AsyncConnection[Any], _Prepared(connection))
        for each in projections:
            for table in each.tables.values():
                await connection.execute(str(CreateTable(table.defined(GENERATION)).compile(dialect=DIALECT)).encode())
        while found := await read(connection, at, COMMIT_EVERY):
            # in a pipeline nobody waits for an answer: the statements, and their order, stay the same
            async with connection.transaction(), connection.pipeline():
                for row in found:
                    for each in projections:
                        if row.name in each.handlers:
                            batch = sort_out(each, [row])
                            if batch.letters:
                                raise RuntimeError(f"{each.name} can't apply {row.position}: {batch.letters[0].error}")
                            await write(prepared, GENERATION, batch)
                            batches += 1
            at, events = found[-1].position, events + len(found)
            done(events)
    return Replay(events, batches, at)


def differences(connection: Connection[Any], projections: Sequence[Projection]) -> Iterator[Difference]:
    """Compare all columns of all rows that views show with those of the replay, both having come equally far.

    Args:
        connection: of the owner.
        projections: whose views.
    """
    for each in projections:
        for table in each.tables.values():
            view, wanted = sql.Identifier("views", table.name), _replayed(table)
            missing, extra = (_differing(connection, table, *pair) for pair in ((wanted, view), (view, wanted)))
            if missing or extra:
                yield Difference(f"views.{table.name}", missing, extra)


def _replayed(table: ReadTable) -> sql.Identifier:
    return sql.Identifier("read_models", table.generation(GENERATION).name)


def _differing(connection: Connection[Any], table: ReadTable, one: sql.Identifier, other: sql.Identifier) -> list[str]:
    keys, columns = (
        sql.SQL(", ").join(map(sql.Identifier, names))
        for names in (table.key, [column.name for column in table.columns])
    )
    row = connection.execute(sql.SQL(DIFFER).format(keys=keys, columns=columns, one=one, other=other)).fetchone()
    assert row is not None
    return list(row[0])
