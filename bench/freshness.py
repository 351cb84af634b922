"""From commit to visible: how long whoever has written waits until the read model shows it, at 100 events a second."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from typing import ClassVar

import psycopg

from amends import Context, Money, Position
from amends.database import open_pool
from amends.notify import Notifier
from amends.projector import Projector
from amends.reader import Reader
from amends.schema import owner_engine
from amends.store import EventStore
from amends.wakeups import POLL
from bench.harness import Benchmark, Case, Contender, Sample
from bench.peers import optional
from bench.projection import orders
from bench.servers import Servers
from bench.statistics import percentiles
from domain.order import OrderPlaced, Place
from domain.values import PricedLine

__all__ = ["FRESHNESS", "LEFT", "PATIENCE", "Row", "Waits", "sample_of"]

Row = tuple[str, str, int]
"""An order in the view: its id, status and total."""

LEFT = "select order_id, status, total from read_models.bench_history_v1 where order_id like %s"
"""The orders of a round, in the view."""

PATIENCE = 10.0
"""Seconds after which a read model that does not catch up ends the benchmark."""

LINE = PricedLine(sku="S1", quantity=1, unit_price=Money(amount=1250, currency="EUR"))


@dataclass(frozen=True)
class Waits:
    """Orders placed at a steady pace, each waited for until the view shows it.

    Args:
        run: names the round.
        orders: how many.
        pace: of them a second; waits may overlap.
    """

    run: str
    orders: int
    pace: float

    def ids(self) -> list[str]:
        """The orders."""
        return [f"{self.run}-{number}" for number in range(self.orders)]

    def rows(self) -> list[Row]:
        """What the view must show afterwards."""
        return [(id, "placed", 1250) for id in self.ids()]


def sample_of(waits: Sequence[float]) -> Sample:
    """A round, from the seconds that each wait took from its commit on."""
    return Sample(len(waits), sum(waits), percentiles([1000 * each for each in waits], 50, 95, 99))


class Ours(Contender[Waits]):
    """Told, and waiting to be told."""

    name = "Amends"
    note = "notified of the append, the projector notifies of its checkpoint; Reader.at_least"
    poll: ClassVar[float] = POLL
    told: ClassVar[bool] = True

    async def open(self, servers: Servers) -> None:
        """Store, notifier, projector and reader, as worker and client have them."""
        self._url = servers.shop("freshness")
        with owner_engine(self._url).begin() as connection:
            orders.install(connection)
        self._stack = AsyncExitStack()
        pool = await self._stack.enter_async_context(open_pool(self._url, "writer", 8))
        projecting = await self._stack.enter_async_context(open_pool(self._url, "projector", 2))
        self._notifier = await self._stack.enter_async_context(Notifier(pool))
        self._reader = await self._stack.enter_async_context(Reader(self._url, 8))
        self._store = EventStore(pool)
        self._stop = asyncio.Event()
        projector = Projector(orders, projecting, self._url, poll=self.poll)
        self._running = asyncio.create_task(projector.run(self._stop, lambda position: None))

    async def work(self, work: Waits) -> Sample:
        """Place them at their pace, and wait for each."""
        clock, waits = asyncio.get_running_loop().time, []
        begun = clock()

        async def one(number: int, id: str) -> None:
            await asyncio.sleep(max(0.0, begun + number / work.pace - clock()))
            position = await self._place(id)
            committed = perf_counter()
            freshness = await self._reader.at_least(position, [orders.name], PATIENCE)
            assert freshness.fresh, freshness
            waits.append(perf_counter() - committed)

        async with asyncio.TaskGroup() as group:
            for number, id in enumerate(work.ids()):
                group.create_task(one(number, id))
        return sample_of(waits)

    async def _place(self, id: str) -> Position:
        total = Money(amount=1250, currency="EUR")
        done = await self._store.append(
            f"order-{id}",
            0,
            Place(order_id=id, customer_id="c1", lines=(LINE,)),
            Context(command_id=id, actor="bench", correlation_id=id, causation_id=id),
            decision=[OrderPlaced(order_id=id, customer_id="c1", lines=(LINE,), total=total)],
            started_at=datetime.now(UTC),
        )
        if self.told:
            self._notifier.poke(done.position)
        return done.position

    async def left(self, work: Waits) -> Sequence[Row]:
        """The orders in the view."""
        with psycopg.connect(self._url) as connection:
            return connection.execute(LEFT, (f"{work.run}-%",)).fetchall()

    async def close(self) -> None:
        """Stop the projector, close the connections."""
        self._stop.set()
        await self._running
        await self._stack.aclose()


class Polling(Ours):
    """The same without being told of appends."""

    name = "polling at 100 ms"
    note = "the same projector, which nobody tells, looking every 100 ms"
    poll = 0.1
    told = False


def cases(scale: float) -> Sequence[Case[Waits]]:
    """100 events a second."""
    return [Case("100 events/s", partial(Waits, orders=max(20, round(1_000 * scale)), pace=100.0), Waits.rows)]


FRESHNESS = Benchmark(
    "freshness",
    "Read your own writes: from commit to visible",
    "waits/s of waiting",
    [Ours, *optional("eventsourcing_freshness", "Waiting"), Polling],
    cases,
    {"p50": "ms", "p95": "ms", "p99": "ms"},
)
