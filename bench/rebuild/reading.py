"""Reads views in a loop, and counts: whoever reads while a view is rebuilt must never miss a row."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from psycopg import AsyncConnection, sql

from amends.database import Connection, conninfo
from amends.projection import Projection
from amends.read_tables import ReadTable

__all__ = ["Looks", "RowsLost", "watch"]

SAMPLE = 200
"""Rows of each view that are looked for one by one; the others are counted."""

PAUSE = 0.02
"""Seconds between two looks at the sample."""

COUNT_EVERY = 25
"""Looks at the sample from one count of all rows to the next."""

CHOOSE = """
select {keys} from (select {keys}, row_number() over (order by {keys}) as number from {view}) as numbered
where number %% greatest(%s / {most}, 1) = 0 limit {most}
"""
"""Rows all over the view."""

COUNT = "select count(*) from {view}"
"""How many rows there are."""

FOUND = "select {keys} from {view} where ({keys}) in (values {wanted})"
"""Which of the sample are there."""


class RowsLost(Exception):
    """A reader has missed rows of a view; says which."""


@dataclass(slots=True)
class Looks:
    """What a reader has seen.

    Args:
        reads: how often it has looked.
        counts: how often it has counted all rows.
        longest: seconds of the look at a sample that took longest, waiting for a swap included.
    """

    reads: int = 0
    counts: int = 0
    longest: float = 0.0


@dataclass(slots=True)
class _View:
    name: str
    rows: int
    count: sql.Composed
    found: sql.Composed | None
    keys: list[tuple[Any, ...]]

    @classmethod
    async def of(cls, connection: Connection, table: ReadTable) -> _View:
        view = sql.Identifier("views", table.name)
        keys = sql.SQL(", ").join(map(sql.Identifier, table.key))
        count = sql.SQL(COUNT).format(view=view)
        (rows,) = await _one(connection, count)
        choose = sql.SQL(CHOOSE).format(keys=keys, view=view, most=sql.Literal(SAMPLE))
        chosen = await (await connection.execute(choose, (rows,))).fetchall()
        wanted = sql.SQL(", ").join(
            sql.SQL("({})").format(sql.SQL(", ").join(sql.Placeholder() * len(table.key))) for _ in chosen
        )
        found = sql.SQL(FOUND).format(keys=keys, view=view, wanted=wanted) if chosen else None
        return cls(table.name, rows, count, found, chosen)

    async def look(self, connection: Connection) -> None:
        if self.found is not None:
            there = await (await connection.execute(self.found, [part for key in self.keys for part in key])).fetchall()
            if len(there) < len(self.keys):
                gone = sorted(set(self.keys) - set(there))
                raise RowsLost(f"views.{self.name}: {len(gone)} of {len(self.keys)} rows were gone: {gone[:10]}")

    async def count_all(self, connection: Connection) -> None:
        (rows,) = await _one(connection, self.count)
        if rows < self.rows:
            raise RowsLost(f"views.{self.name}: {self.rows} rows, and then {rows}")
        self.rows = rows


async def watch(url: str, projection: Projection, ready: asyncio.Event, looks: Looks) -> None:
    """Look at a projection's views until cancelled.

    Args:
        url: of the database.
        projection: whose.
        ready: set once it is known what there is.
        looks: counts them.

    Raises:
        RowsLost: a row was gone that had been there, or there were fewer than before.
    """
    async with await AsyncConnection.connect(conninfo(url, "reader"), autocommit=True) as connection:
        views = [await _View.of(connection, table) for table in projection.tables.values() if table.view]
        ready.set()
        while True:
            for view in views:
                began = perf_counter()
                await view.look(connection)
                looks.longest = max(looks.longest, perf_counter() - began)
                looks.reads += 1
            if looks.reads // len(views) % COUNT_EVERY == 0:
                for view in views:
                    await view.count_all(connection)
                    looks.counts += 1
            await asyncio.sleep(PAUSE)


async def _one(connection: Connection, query: sql.Composed) -> tuple[Any, ...]:
    row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return row
