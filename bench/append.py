"""Appending: an optimistic check on the stream, a command that acts once and stays on record, its events; durable."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from time import perf_counter

from amends import Context
from amends.database import open_pool
from amends.store import EventStore
from bench.harness import Benchmark, Case, Contender, Sample
from bench.orm import Orm
from bench.peers import optional
from bench.pgbench import BareInsert, SameFunction
from bench.servers import Servers
from bench.work import Appends, Row, in_database
from domain.stock import ReserveStock, StockReserved

__all__ = ["APPEND", "Ours"]


class Ours(Contender[Appends]):
    """The event store, as the command handler calls it."""

    name = "Amends"
    note = "EventStore.append: one call of amends.append; writers are coroutines, each with a connection"

    async def open(self, servers: Servers) -> None:
        """A pool with a connection for each writer."""
        self.url = servers.shop("append_ours")
        self._stack = AsyncExitStack()
        pool = await self._stack.enter_async_context(open_pool(self.url, "writer", 32))
        self._store = EventStore(pool)

    async def work(self, work: Appends) -> Sample:
        """Every writer appends one command after the other."""
        begun = perf_counter()
        async with asyncio.TaskGroup() as group:
            for writer in range(work.writers):
                group.create_task(self._write(work, writer))
        return Sample(work.units, perf_counter() - begun)

    async def _write(self, work: Appends, writer: int) -> None:
        for command in work.of(writer):
            wanted = ReserveStock(sku=command.sku, reservation_id=command.id, quantity=1)
            about = Context(command_id=command.id, actor="bench", correlation_id=command.id, causation_id=command.id)
            events = [StockReserved(sku=command.sku, reservation_id=id, quantity=1) for id in command.event_ids]
            done = await self._store.append(
                command.stream, command.expected, wanted, about, decision=events, started_at=datetime.now(UTC)
            )
            assert done.status == "appended", done

    async def left(self, work: Appends) -> Sequence[Row]:
        """Events and commands as the log holds them."""
        return await asyncio.to_thread(in_database, self.url, work)

    async def close(self) -> None:
        """Close the pool."""
        await self._stack.aclose()


def cases(scale: float) -> Sequence[Case[Appends]]:
    """1, 8 and 32 writers with one event a command; one writer with 500."""
    total, batches = max(96, round(6_000 * scale)), max(2, round(60 * scale))
    made = [
        Case(
            f"{writers} writer{'s' if writers > 1 else ''}",
            partial(Appends, writers=writers, commands=total // writers),
            Appends.rows,
        )
        for writers in (1, 8, 32)
    ]
    batch = partial(Appends, writers=1, commands=batches, events=500)
    without = frozenset({BareInsert.name, SameFunction.name})
    return [*made, Case("500-event batches", batch, Appends.rows, without=without, unit="events/s")]


APPEND = Benchmark(
    "append",
    "Append: optimistic check, idempotency and audit, in one durable transaction",
    "commands/s",
    [Ours, *optional("eventsourcing_append", "Locked", "DbFunctions"), Orm, SameFunction, BareInsert],
    cases,
)
