"""The whole path of a command: load the thing, decide, append; cold and warm, short and long streams, and a hot one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from typing import Any, cast
from uuid import uuid4

from amends import Aggregate, Claim, Command, Context, Event, Free
from amends.database import open_pool
from amends.handler import CommandHandler
from amends.store import EventStore
from bench.harness import Benchmark, Case, Contender, Sample
from bench.peers import absent, optional
from bench.servers import Servers
from domain.stock import CommitStock, ReceiveStock, ReserveStock, StockItem

__all__ = ["COMMANDS", "DELIVERED", "Commands", "Row", "Step"]

Row = tuple[str, int, int, int]
"""A product: its SKU, pieces on hand, pieces reserved, and how many events it has."""

DELIVERED = 1_000_000
"""Pieces of each product that are there from the start."""

BY_HAND = 10_000
"""Most earlier commands that are sent one by one; more are appended as events."""

AT_ONCE = 500
"""Events in such an append."""

SHORT, LONG = 100, 100_000
"""Events of the streams that are compared with one another, whatever the scale."""

WITHOUT_PROTEAN = (
    "its durable event store needs Message DB's schema in the database, which its client message-db-py does not "
    "carry; with its store in memory (0.18.0), a run had not finished after ten minutes, busy scanning that store"
)
"""Why Protean takes no part."""


@dataclass(frozen=True)
class Step:
    """Reserve a piece, or hand a reserved one out."""

    sku: str
    reservation_id: str
    reserve: bool


@dataclass(frozen=True)
class Commands:
    """Commands on products: every second one hands out what the one before has reserved.

    Args:
        run: names the round.
        products: how many.
        each: commands on each, an even number.
        writers: how many send at a time; each has products of its own, unless there is but one for all.
        warm: whether whoever handles them may remember products between commands.
        before: commands that each product has had already, an even number; not timed.
    """

    run: str
    products: int
    each: int
    writers: int
    warm: bool
    before: int = 0

    @property
    def units(self) -> int:
        """Commands that are timed."""
        return self.products * self.each

    @property
    def skus(self) -> list[str]:
        """The products."""
        kind = f"{self.run}.{self.products}.{self.before}.{'warm' if self.warm else 'cold'}.{self.writers}"
        return [f"{kind}.{number}" for number in range(self.products)]

    def earlier(self) -> Iterator[Step]:
        """What each product has had already."""
        for sku in self.skus:
            yield from _pairs(sku, 0, self.before // 2)

    def of(self, writer: int) -> Iterator[Step]:
        """The commands of a writer."""
        first, count = self.before // 2, self.each // 2
        if self.products == 1:
            share = count // self.writers
            yield from _pairs(self.skus[0], first + writer * share, share)
        else:
            for sku in self.skus[writer :: self.writers]:
                yield from _pairs(sku, first, count)

    def rows(self) -> list[Row]:
        """What must have become of the products."""
        done = self.before + self.each
        return [(sku, DELIVERED - done // 2, 0, 1 + done) for sku in self.skus]


def _pairs(sku: str, first: int, count: int) -> Iterator[Step]:
    for number in range(first, first + count):
        yield Step(sku, f"r{number}", True)
        yield Step(sku, f"r{number}", False)


class Ours(Contender[Commands]):
    """The command handler."""

    name = "Amends"
    note = "CommandHandler: warm states with a version check, snapshots, idempotency and audit; coroutines"

    async def open(self, servers: Servers) -> None:
        """A handler over a pool."""
        self._stack = AsyncExitStack()
        pool = await self._stack.enter_async_context(open_pool(servers.shop("commands_ours"), "writer", 16))
        self._store = EventStore(pool)

    async def work(self, work: Commands) -> Sample:
        """Set the products up, then time the commands."""
        handler = CommandHandler(self._store, [StockItem])
        for sku in work.skus:
            await _send(handler, ReceiveStock(sku=sku, quantity=DELIVERED))
        if work.before > BY_HAND:
            await self._prolong(work)
            handler = CommandHandler(self._store, [StockItem])
            if work.warm:
                await handler.state(StockItem, work.skus[0])
        else:
            for step in work.earlier():
                await _send(handler, _command(step))
        begun = perf_counter()
        async with asyncio.TaskGroup() as group:
            for writer in range(work.writers):
                group.create_task(self._write(work, writer, handler))
        return Sample(work.units, perf_counter() - begun)

    async def _prolong(self, work: Commands) -> None:
        """Append what the earlier commands lead to, and send the last two: whoever loads it takes a snapshot."""
        (sku,) = work.skus
        receive, steps = ReceiveStock(sku=sku, quantity=1), list(work.earlier())
        state, version = StockItem().having(on_hand=DELIVERED), 1
        while steps[2:]:
            some, steps = steps[: min(AT_ONCE, len(steps) - 2)], steps[min(AT_ONCE, len(steps) - 2) :]
            decision: list[Event | Claim | Free] = []
            for step in some:
                decided = list(cast(Aggregate[Any, Any], state).decide(_command(step)))
                state = state.replay(item for item in decided if isinstance(item, Event))
                decision += decided
            id = uuid4().hex
            about = Context(command_id=id, actor="bench", correlation_id=id, causation_id=id)
            stream, now = StockItem.stream_of(receive), datetime.now(UTC)
            done = await self._store.append(stream, version, receive, about, decision=decision, started_at=now)
            version = done.version
        for step in steps:
            await _send(CommandHandler(self._store, [StockItem]), _command(step))

    async def _write(self, work: Commands, writer: int, handler: CommandHandler) -> None:
        for step in work.of(writer):
            await _send(handler if work.warm else CommandHandler(self._store, [StockItem]), _command(step))

    async def left(self, work: Commands) -> Sequence[Row]:
        """The products as a handler that has never seen them loads them."""
        handler = CommandHandler(self._store, [StockItem])
        found = [(sku, *await handler.state(StockItem, sku)) for sku in work.skus]
        return [(sku, state.on_hand, state.reserved, version) for sku, state, version in found]

    async def close(self) -> None:
        """Close the pool."""
        await self._stack.aclose()


def _command(step: Step) -> Command:
    if step.reserve:
        return ReserveStock(sku=step.sku, reservation_id=step.reservation_id, quantity=1)
    return CommitStock(sku=step.sku, reservation_id=step.reservation_id)


async def _send(handler: CommandHandler, command: Command) -> None:
    id = uuid4().hex
    receipt = await handler.handle(command, Context(command_id=id, actor="bench", correlation_id=id, causation_id=id))
    receipt.raise_refusal()


def cases(scale: float) -> Sequence[Case[Commands]]:
    """Short streams, long ones, each cold and warm; one product that everybody wants; and how level ours stays."""
    products = max(8, round(200 * scale))
    long, each = max(100, round(2_000 * scale)), max(10, 2 * round(100 * scale))
    hot = max(16, 16 * round(100 * scale))
    made = {
        "short streams, warm": partial(Commands, products=products, each=10, writers=8, warm=True),
        "short streams, cold": partial(Commands, products=products, each=10, writers=8, warm=False),
        f"streams of {long:,} events, warm": partial(
            Commands, products=4, each=each, writers=4, warm=True, before=long
        ),
        f"streams of {long:,} events, cold": partial(
            Commands, products=4, each=each, writers=4, warm=False, before=long
        ),
        "one hot product, 8 writers": partial(Commands, products=1, each=hot, writers=8, warm=True),
    }
    level = {
        f"one stream of {length:,} events, {'warm' if warm else 'cold'}": partial(
            Commands, products=1, each=2 * each, writers=1, warm=warm, before=length
        )
        for warm in (True, False)
        for length in (SHORT, LONG)
    }
    return [
        *(Case(name, make, Commands.rows) for name, make in made.items()),
        *(Case(name, make, Commands.rows, without=frozenset({"eventsourcing"})) for name, make in level.items()),
    ]


COMMANDS = Benchmark(
    "commands",
    "The whole command path: load, decide, append",
    "commands/s",
    [Ours, *optional("eventsourcing_commands", "Aggregates"), absent("Protean", WITHOUT_PROTEAN)],
    cases,
)
