"""Growth: what appending, tailing and rebuilding cost with a short log and with a long one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import psycopg

from amends.database import open_pool
from amends.feed import Feed
from amends.projector import Projector
from amends.schema import owner_engine
from bench import append
from bench.harness import Benchmark, Case, Contender, Sample
from bench.projection import DAYS, PER_ORDER, SKUS, UNIT_PRICE, Orders, orders
from bench.projection_sql import CLEAR, FILL, READ_BACK, RESET
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
    """The store, the feed and the projector."""

    name = "Amends"
    note = "append by 8 writers; a look at the last 100 events; the projection of the whole log from its start"

    async def open(self, servers: Servers) -> None:
        """Nothing yet: each size has a database."""
        self._servers = servers
        self._at: int | None = None
        self._appending: append.Ours | None = None

    async def work(self, work: Grown) -> Sample:
        """Append, tail, rebuild."""
        if self._at != work.events:
            await self._grow(work)
        assert self._appending is not None
        appended = await self._appending.work(work.appends)
        url = self._appending.url
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(open_pool(url, "projector", 2))
            feed, head = Feed(pool), await Feed(pool).head()
            async with pool.connection() as connection:
                row = await (await connection.execute(BEHIND, (FEW,))).fetchone()
            assert row is not None
            begun = perf_counter()
            for _ in range(TAILS):
                found = await feed.read(type(head)(*row), 2_000)
                assert len(found) == FEW
            tail = 1000 * (perf_counter() - begun) / TAILS
            await asyncio.to_thread(_clear, url)
            begun = perf_counter()
            await Projector(orders, pool, url).catch_up(head)
            rebuild = (work.events + self._more) / (perf_counter() - begun)
            self._more += appended.units
        return Sample(appended.units, appended.seconds, {"tail": tail, "rebuild": rebuild})

    async def _grow(self, work: Grown) -> None:
        await self.close()
        self._appending, self._at, self._more = append.Ours(), work.events, work.appends.units
        await self._appending.open(self._servers)
        await asyncio.to_thread(_fill, self._appending.url, work.events // PER_ORDER)

    async def left(self, work: Grown) -> Sequence[Any]:
        """What was appended, and the orders in the read model."""
        assert self._appending is not None
        with psycopg.connect(self._appending.url) as connection:
            projected = connection.execute(READ_BACK).fetchall()
        bench = [row for row in projected if not (row[0] == "inventory" and not row[1].startswith("S"))]
        return [*await self._appending.left(work.appends), *bench]

    async def close(self) -> None:
        """Close the store's pool."""
        if self._appending is not None:
            await self._appending.close()
            self._appending = None


def _fill(url: str, count: int) -> None:
    with owner_engine(url).begin() as connection:
        orders.install(connection)
    with psycopg.connect(url) as filling:
        filling.execute(FILL, {"orders": count, "skus": SKUS, "days": DAYS, "price": UNIT_PRICE})
    with psycopg.connect(url, autocommit=True) as settling:
        settling.execute("vacuum analyze")


def _clear(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(CLEAR)
        connection.execute(RESET)


def cases(scale: float) -> Sequence[Case[Grown]]:
    """10,000, 100,000 and 1,000,000 events."""
    sizes = [max(1_000, round(size * scale)) for size in (10_000, 100_000, 1_000_000)]
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
    {"tail": "ms for the last 100 events", "rebuild": "events/s"},
)
