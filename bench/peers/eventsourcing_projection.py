"""Projecting by the library `eventsourcing`: a projection run by its ProjectionRunner into a view in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import Any
from uuid import UUID

import psycopg
from eventsourcing.application import Application
from eventsourcing.domain import DomainEvent
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner

from bench.harness import Contender, Sample
from bench.peers.eventsourcing_append import environment, id_of
from bench.projection import DAYS, SKUS, Orders, Row, total_of
from bench.projection_sql import APPLY, CLEAR, READ_BACK, TABLES
from bench.servers import Servers

__all__ = ["Runner"]

PATIENCE = 600.0
"""Seconds for which a round may take."""


@dataclass(frozen=True)
class Happened(DomainEvent):
    """Any of the events: its name, and what hand-written statements need."""

    name: str
    fields: dict[str, str | int | None]


class Log(Application[UUID]):
    """The application whose events are projected."""

    name = "log"


class View(PostgresTrackingRecorder):
    """The three tables, written with the tracking in one transaction."""

    def apply(self, name: str, fields: dict[str, Any], tracking: Tracking) -> None:
        """What one event does."""
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            for statement in APPLY[name]:
                cursor.execute(statement, fields, prepare=True)


class OrdersProjection(Projection[View]):
    """What each event does to the view."""

    name = "orders"

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """Hand it to the view."""
        self.view.apply(domain_event.name, domain_event.fields, tracking)


class Runner(Contender[Orders]):
    """The runner."""

    name = "eventsourcing"
    note = "ProjectionRunner: one transaction an event, with its tracking; statements prepared"

    async def open(self, servers: Servers) -> None:
        """Nothing yet: each size gets a database."""
        self._servers = servers
        self._filled: tuple[int, str] = 0, ""

    async def work(self, work: Orders) -> Sample:
        """Run the projection until it has come to the last event."""
        return await asyncio.to_thread(self._run, work)

    def _run(self, work: Orders) -> Sample:
        count, url = self._filled
        if count != work.count:
            url = self._servers.database("projection_eventsourcing")
            with psycopg.connect(url) as connection:
                connection.execute(TABLES)
            log = Log(environment(url, 4))
            for number in range(work.count):
                log.events.put(_events(number))
            log.close()
            self._filled = work.count, url
        with psycopg.connect(url) as connection:
            connection.execute(CLEAR)
            connection.execute("drop table if exists orders_tracking")
        begun = perf_counter()
        with ProjectionRunner(
            application_class=Log, projection_class=OrdersProjection, view_class=View, env=environment(url, 4)
        ) as runner:
            runner.wait(runner.app.recorder.max_notification_id(), timeout=PATIENCE)
            return Sample(work.units, perf_counter() - begun)

    async def left(self, work: Orders) -> Sequence[Row]:
        """The rows of all three tables."""
        with psycopg.connect(self._filled[1]) as connection:
            return connection.execute(READ_BACK).fetchall()


def _events(number: int) -> list[Happened]:
    now = datetime.now(UTC)
    order, sku, pieces = f"o{number}", f"S{number % SKUS}", 1 + number % 3
    paid: dict[str, str | int | None] = {"order_id": order, "amount": total_of(number)}
    stock: dict[str, str | int | None] = {"sku": sku, "quantity": pieces}
    facts: list[tuple[str, int, str, dict[str, str | int | None]]] = [
        (f"order-{order}", 1, "order.placed", paid),
        (f"stock-{order}", 1, "stock.reserved", stock),
        (f"payment-{order}", 1, "payment.processed", {**paid, "day": f"2026-01-{1 + number % DAYS:02d}"}),
        (f"stock-{order}", 2, "stock.committed", stock),
        (f"order-{order}", 2, "order.completed", {"order_id": order}),
    ]
    return [Happened(id_of(stream), version, now, name, fields) for stream, version, name, fields in facts]
