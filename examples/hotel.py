"""Another domain on the engine alone, without the shop: a stay books all of its nights, or none.

Run it with AMENDS_DATABASE_URL and AMENDS_TEMPORAL_ADDRESS set: `python -c "import hotel; hotel.run()"`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Self
from uuid import uuid4

from temporalio import workflow

from amends import Aggregate, Claim, Command, Decision, Event, Key, Process, Refused, SagaUndone, Value
from amends.app import App, install
from amends.client import Client
from amends.connect import connect
from amends.logs import configure_logs
from amends.settings import Settings
from amends.worker import open_worker


class FullyBooked(Refused):
    """Nothing is free that night"""


class NotComing(Refused):
    """The guest has called this night off before"""


class Book(Command, name="night.book"):
    """Book one of the places of a night."""

    night: Key
    guest: Key


class Free(Command, name="night.free"):
    """Give a place back; where there is none, see to it that it can't be booked later."""

    night: Key
    guest: Key


class Booked(Event, name="night.booked"):
    """A place was taken."""

    night: Key
    guest: Key


class Freed(Event, name="night.freed"):
    """A place was given back."""

    night: Key
    guest: Key


class Night(Aggregate[Book | Free, Booked | Freed], category="night", key="night"):
    """A night with a single place."""

    guest: str | None = None

    def decide(self, command: Book | Free) -> Decision:
        """One place, no more; each guest books a night once."""
        night, guest = command.night, command.guest
        match command:
            case Book() if self.guest:
                raise FullyBooked(night=night)
            case Book():
                return [_once(command, NotComing(night=night)), Booked(night=night, guest=guest)]
            case Free():
                return [Freed(night=night, guest=guest)] if self.guest == guest else [_once(command, None)]

    def evolve(self, event: Booked | Freed) -> Self:
        """Remember whose the place is."""
        return self.having(guest=event.guest if isinstance(event, Booked) else None)


def _once(command: Book | Free, otherwise: Refused | None) -> Claim:
    """Whoever comes first, the booking or its undo, settles it: an undo may overtake a booking that is late."""
    return Claim("night", f"{command.night}/{command.guest}", otherwise)


class Stay(Value):
    """The nights that a guest wants, all of them or none."""

    guest: Key
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
                    booking = {"night": night, "guest": stay.guest}
                    await saga.do(f"book {night}", Book(**booking), undo=Free(**booking))
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
            stay = Stay(guest=id, nights=nights)
            ending = await client.temporal.execute_workflow(BookStay.run, stay, id=id, task_queue=queue)
            sys.stdout.write(f"{len(nights)} nights: {ending}\n")
