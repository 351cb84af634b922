"""Reading one's own writes with the library `eventsourcing`: `wait` for the id of what was saved."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from time import monotonic, perf_counter, sleep

import psycopg
from eventsourcing.projection import ProjectionRunner

from bench.freshness import LEFT, PATIENCE, Row, Waits, sample_of
from bench.harness import Contender, Sample
from bench.peers.eventsourcing_append import environment, id_of
from bench.peers.eventsourcing_projection import Happened, Log, OrdersProjection, View
from bench.projection_sql import TABLES
from bench.servers import Servers

__all__ = ["Waiting"]

THREADS = 8
"""Writers that wait at a time."""


class Waiting(Contender[Waits]):
    """Its runner, and its wait."""

    name = "eventsourcing"
    note = "ProjectionRunner told by NOTIFY, and its wait(); locked mode, 8 threads"

    async def open(self, servers: Servers) -> None:
        """The runner, following."""
        self._url = servers.database("freshness_eventsourcing")
        with psycopg.connect(self._url) as connection:
            connection.execute(TABLES)
        self._runner = await asyncio.to_thread(self._start)

    def _start(self) -> ProjectionRunner:
        runner = ProjectionRunner(
            application_class=Log,
            projection_class=OrdersProjection,
            view_class=View,
            env=environment(self._url, THREADS + 2),
        )
        return runner.__enter__()

    async def work(self, work: Waits) -> Sample:
        """Place them at their pace, and wait for each."""
        return await asyncio.to_thread(self._run, work)

    def _run(self, work: Waits) -> Sample:
        begun = monotonic()

        def one(numbered: tuple[int, str]) -> float:
            number, id = numbered
            sleep(max(0.0, begun + number / work.pace - monotonic()))
            placed = Happened(
                id_of(f"order-{id}"), 1, datetime.now(UTC), "order.placed", {"order_id": id, "amount": 1250}
            )
            recordings = self._runner.app.events.put([placed])
            committed = perf_counter()
            self._runner.wait(recordings[-1].notification.id, timeout=PATIENCE)
            return perf_counter() - committed

        with ThreadPoolExecutor(THREADS) as threads:
            return sample_of(list(threads.map(one, enumerate(work.ids()))))

    async def left(self, work: Waits) -> Sequence[Row]:
        """The orders in the view."""
        with psycopg.connect(self._url) as connection:
            return connection.execute(LEFT, (f"{work.run}-%",)).fetchall()

    async def close(self) -> None:
        """Stop the runner."""
        await asyncio.to_thread(self._runner.__exit__, None, None, None)
