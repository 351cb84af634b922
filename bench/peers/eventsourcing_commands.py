"""Commands by the library `eventsourcing`: an application that gets an aggregate, calls it, and saves it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from uuid import UUID, uuid4

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, DomainEvent, event
from eventsourcing.persistence import IntegrityError
from eventsourcing.utils import retry

from bench.commands import DELIVERED, Commands, Row, Step
from bench.harness import Contender, Sample
from bench.peers.eventsourcing_append import environment, id_of
from bench.servers import Servers

__all__ = ["Aggregates"]

SNAPSHOTS = 100
"""Events between two snapshots of a product."""


@dataclass(frozen=True)
class CommandDone(DomainEvent):
    """The command's record; a repeat violates the uniqueness of its stream's first version."""

    command_id: str
    name: str
    sku: str
    reservation_id: str


class Item(Aggregate):
    """The stock of one product, with the rules of the shop's."""

    @event("Created")
    def __init__(self, sku: str) -> None:
        self.sku = sku
        self.on_hand = 0
        self.reserved = 0
        self.open: dict[str, int] = {}

    @staticmethod
    def create_id(sku: str) -> UUID:
        """By its SKU."""
        return id_of(sku)

    @event("Received")
    def receive(self, quantity: int) -> None:
        """Goods come in."""
        self.on_hand += quantity

    @event("Reserved")
    def reserve(self, reservation_id: str, quantity: int) -> None:
        """Goods are held back, never more than there are."""
        if reservation_id in self.open or quantity > self.on_hand - self.reserved:
            raise ValueError("refused")
        self.reserved += quantity
        self.open[reservation_id] = quantity

    @event("Committed")
    def commit(self, reservation_id: str) -> None:
        """Held goods leave."""
        quantity = self.open.pop(reservation_id)
        self.reserved -= quantity
        self.on_hand -= quantity


class Shelves(Application[UUID]):
    """All products."""

    snapshotting_intervals = {Item: SNAPSHOTS}  # noqa: RUF012  as the library wants it

    def add(self, sku: str) -> None:
        """A new product, with plenty of it."""
        item = Item(sku)
        item.receive(DELIVERED)
        self.save(item)

    @retry(IntegrityError, max_attempts=100, wait=0.001)
    def do(self, step: Step) -> None:
        """A command; again, when somebody else was faster."""
        item: Item = self.repository.get(id_of(step.sku))
        if step.reserve:
            item.reserve(step.reservation_id, 1)
        else:
            item.commit(step.reservation_id)
        id = uuid4()
        name = "stock.reserve" if step.reserve else "stock.commit"
        record = CommandDone(id, 1, DomainEvent.create_timestamp(), id.hex, name, step.sku, step.reservation_id)
        self.save(item, record)


class Aggregates(Contender[Commands]):
    """Application, aggregate, save."""

    name = "eventsourcing"
    note = "its locked mode; cache of aggregates when warm, snapshots every 100 events, command record saved along"

    async def open(self, servers: Servers) -> None:
        """One application that remembers aggregates, and one that does not."""
        settings = environment(servers.database("commands_eventsourcing"), 16)
        self._cold = Shelves(settings)
        self._warm = Shelves(settings | {"AGGREGATE_CACHE_MAXSIZE": "10000"})

    async def work(self, work: Commands) -> Sample:
        """Set the products up, then time the commands."""
        return await asyncio.to_thread(self._run, work)

    def _run(self, work: Commands) -> Sample:
        application = self._warm if work.warm else self._cold
        for sku in work.skus:
            application.add(sku)
        for step in work.earlier():
            self._warm.do(step)

        def write(writer: int) -> None:
            for step in work.of(writer):
                application.do(step)

        with ThreadPoolExecutor(work.writers) as writers:
            begun = perf_counter()
            list(writers.map(write, range(work.writers)))
            return Sample(work.units, perf_counter() - begun)

    async def left(self, work: Commands) -> Sequence[Row]:
        """The products, from their events."""
        items: list[Item] = [self._cold.repository.get(id_of(sku)) for sku in work.skus]
        return [(item.sku, item.on_hand, item.reserved, item.version - 1) for item in items]

    async def close(self) -> None:
        """Close the connections."""
        self._cold.close()
        self._warm.close()
