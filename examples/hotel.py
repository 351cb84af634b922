"""Another domain on the engine alone, without the shop: a stay books all of its nights, or none.

Run it with AMENDS_DATABASE_URL and AMENDS_TEMPORAL_ADDRESS set: `python -c "import hotel; hotel.run()"`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Self
from uuid import uuid4

from temporalio import workflow

from amends import Aggregate, Command, Decision, Event, Key, Process, Refused, SagaUndone, Value
from amends.app import App, install
from amends.client import Client
from amends.connect import connect
from amends.logs import configure_logs
from amends.settings import Settings
from amends.worker import open_worker


class FullyBooked(Refused):
    """Nothing is free that night"""


class Book(Command, name="night.book"):
    """Book one of the places of a night."""

    night: Key


class Free(Command, name="night.free"):
    """Give a place back."""

    night: Key


class Booked(Event, name="night.booked"):
    """A place was taken."""

    night: Key


class Freed(Event, name="night.freed"):
    """A place was given back."""

    night: Key


class Night(Aggregate[Book | Free, Booked | Freed], category="night", key="night"):
    """A night with a single place."""

    taken: int = 0

    def decide(self, command: Book | Free) -> Decision:
        """One place, no more."""
        match command:
            case Book(night=night) if self.taken:
                raise FullyBooked(night=night)
            case Book(night=night):
                return [Booked(night=night)]
            case Free(night=night):
                return [Freed(night=night)] if self.taken else []

    def evolve(self, event: Booked | Freed) -> Self:
        """Count the places taken."""
        return self.having(taken=int(isinstance(event, Booked)))


class Stay(Value):
    """The nights somebody wants, all of them or none."""

    nights: tuple[Key, ...]


@workflow.defn
class BookStay(Process[Stay, str]):
    """Book night after night; one that is full gives the others back."""

    @workflow.run
    async def run(self, stay: Stay) -> str:
        """Book the stay."""
        try:
            async with self.saga as saga:
                for night in stay.nights:
                    await saga.do(f"book {night}", Book(night=night), undo=Free(night=night))
        except SagaUndone as undone:
            return undone.reason
        return "booked"


app = App(aggregates=[Night], workflows=[BookStay])


def run() -> None:
    """Install, work and book, in one process."""
    asyncio.run(main())


async def main() -> None:
    """Book two stays that share a night: the second one gives back what it had."""
    settings = Settings(task_queue=f"hotel-{uuid4().hex}")
    configure_logs(settings)
    assert settings.database_url is not None
    install(app, settings.database_url.get_secret_value())
    mine = uuid4().hex[:8]
    first, second, third = (f"{mine}-{number}" for number in range(3))
    async with (
        open_worker(app, settings, await connect(settings)) as worker,
        worker,
        await Client.connect(settings, actor="guest") as client,
    ):
        for nights in ((second,), (first, second), (first, third)):
            id = f"stay-{uuid4().hex}"
            queue = settings.task_queue
            ending = await client.temporal.execute_workflow(BookStay.run, Stay(nights=nights), id=id, task_queue=queue)
            sys.stdout.write(f"{len(nights)} nights: {ending}\n")
