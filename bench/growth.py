"""Growth: what appending, tailing, rebuilding, asking and ordering cost with a short log and with a long one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import psycopg

from amends.database import open_pool
from amends.feed import Feed
from amends.projector import Projector
from amends.records import Position
from bench import append, sagas
from bench.grown_shop import Reads, fill
from bench.harness import Benchmark, Case, Contender, Sample
from bench.projection import PER_ORDER, Orders, orders
from bench.projection_sql import CLEAR, READ_BACK, RESET
from bench.sagas import Sagas
from bench.servers import Servers
from bench.work import Appends

__all__ = ["GROWTH", "Grown"]

TAILS = 50
"""Looks at the end of the log in a round."""

FEW = 100
"""Events that such a look finds."""

BEHIND = """
select e.xid::text::bigint, e.position from amends.events e order by e.xid desc, e.position desc offset %s limit 1
"""
"""A position so many events before the end."""

COUNT = "select count(*) from amends.events"
"""How many events there are."""

ORDERS = 20
"""That are placed in a round."""

FILLED = {
    "history": re.compile(r"o\d+"),
    "inventory": re.compile(r"S\d+"),
    "revenue": re.compile(r"2026-01-\d\d"),
}
"""Keys of the long log's rows; others are of what the benchmark does besides."""


@dataclass(frozen=True)
class Grown:
    """A log of this many events, to which more are appended.

    Args:
        run: names the round.
        events: how many there are.
        commands: how many are sent, by 8 writers.
    """

    run: str
    events: int
    commands: int

    @property
    def appends(self) -> Appends:
        """What is appended."""
        return Appends(f"{self.run}.{self.events}", writers=8, commands=self.commands // 8)

    def rows(self) -> Sequence[Any]:
        """What must be there: what was appended, and the read model of the orders before."""
        return [*self.appends.rows(), *Orders(self.run, self.events // PER_ORDER).rows()]


class Ours(Contender[Grown]):
    """The store, the feed, the projector, the views and a worker."""

    name = "Amends"
    note = (
        "append by 8 writers; a look at the last 100 events; the projection of the whole log from its start; questions "
        "to the shop's views; orders from start to end, one at a time, and peak memory of their worker"
    )

    async def open(self, servers: Servers) -> None:
        """Nothing yet: each size has a database."""
        self._servers = servers
        self._at: int | None = None
        self._shop: AsyncExitStack | None = None

    async def work(self, work: Grown) -> Sample:
        """Append, tail, rebuild, ask, order."""
        if self._at != work.events:
            await self._grow(work)
        appended = await self._appending.work(work.appends)
        placed = await self._sagas.work(Sagas(f"{work.run}.{work.events}", orders=ORDERS, concurrent=1))
        figures = {
            **await self._projected(),
            **await self._reads.take(),
            "saga": placed.figures["p50"],
            "worker memory": placed.figures["memory"],
        }
        return Sample(appended.units, appended.seconds, figures)

    async def _projected(self) -> dict[str, float]:
        url = self._appending.url
        async with open_pool(url, "projector", 2) as pool:
            feed, head = Feed(pool), await Feed(pool).head()
            async with pool.connection() as connection:
                behind = await (await connection.execute(BEHIND, (FEW,))).fetchone()
                there = await (await connection.execute(COUNT)).fetchone()
            assert behind is not None
            assert there is not None
            begun = perf_counter()
            for _ in range(TAILS):
                found = await feed.read(Position(*behind), 2_000)
                assert len(found) == FEW
            tail = 1000 * (perf_counter() - begun) / TAILS
            await asyncio.to_thread(_clear, url)
            begun = perf_counter()
            await Projector(orders, pool, url).catch_up(head)
            return {"tail": tail, "rebuild": there[0] / (perf_counter() - begun)}

    async def _grow(self, work: Grown) -> None:
        await self.close()
        async with AsyncExitStack() as stack:
            self._appending, self._sagas, self._at = append.Ours(), sagas.Ours(), work.events
            await self._appending.open(self._servers)
            stack.push_async_callback(self._appending.close)
            joined = await asyncio.to_thread(fill, self._appending.url, work.events // PER_ORDER)
            self._reads = Reads(self._appending.url, joined)
            stack.push_async_callback(self._reads.close)
            await self._sagas.open(self._servers, self._appending.url)
            stack.push_async_callback(self._sagas.close)
            self._shop = stack.pop_all()

    async def left(self, work: Grown) -> Sequence[Any]:
        """What was appended, and the orders of the long log in the read model."""
        with psycopg.connect(self._appending.url) as connection:
            projected = connection.execute(READ_BACK).fetchall()
        filled = [row for row in projected if FILLED[row[0]].fullmatch(row[1])]
        return [*await self._appending.left(work.appends), *filled]

    async def close(self) -> None:
        """Let the database of one size go."""
        shop, self._shop = self._shop, None
        if shop is not None:
            await shop.aclose()


def _clear(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(CLEAR)
        connection.execute(RESET)


def cases(scale: float) -> Sequence[Case[Grown]]:
    """10,000, 100,000 and 1,000,000 events; ten times as many with a scale of 10."""
    sizes = [max(1_000 * place, round(10_000 * 10**place * scale / 10)) for place in (1, 2, 3)]
    commands = max(80, 80 * round(20 * scale))

    def case(size: int) -> Case[Grown]:
        return Case(f"{size:,} events", lambda run: Grown(run, size, commands), Grown.rows)

    return [case(size) for size in sizes]


GROWTH = Benchmark(
    "growth",
    "Growth: the same work on a short log and on a long one",
    "commands/s appended",
    [Ours],
    cases,
    {
        "tail": "ms for the last 100 events", "rebuild": "events/s", "search": "ms", "order page": "ms",
        "customer page": "ms", "saga": "ms at p50", "worker memory": "MiB",
    },
)  # fmt: skip
