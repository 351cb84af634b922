"""Sagas that are wrong, each in one way, so that the harness can be seen to find it."""

from __future__ import annotations

from typing import Self

from temporalio import workflow

from amends import Aggregate, Command, Decision, Event, Key, Process, Refused, Value
from amends.app import App

__all__ = ["APP", "Cloakroom", "Forgetful", "Greedy", "Guest", "Hasty", "Stubborn", "app"]

APP = "tests.faults.leaky:app"


class NotHere(Refused):
    """That coat is not here"""


class TakeCoat(Command, name="leaky_test.take"):
    room: Key
    coat: Key


class GiveCoat(Command, name="leaky_test.give"):
    """Give a coat back.

    Args:
        strict: refuse when it is not here.
        tell: say so although it is not here.
    """

    room: Key
    coat: Key
    strict: bool = False
    tell: bool = False


class CoatTaken(Event, name="leaky_test.taken"):
    room: Key
    coat: Key


class CoatGiven(Event, name="leaky_test.given"):
    room: Key
    coat: Key


class Cloakroom(Aggregate[TakeCoat | GiveCoat, CoatTaken | CoatGiven], category="leaky_test", key="room"):
    """Keeps no tombstones: a coat that comes after it was given back stays for ever."""

    coats: tuple[str, ...] = ()

    def decide(self, command: TakeCoat | GiveCoat) -> Decision:
        match command:
            case TakeCoat(room=room, coat=coat):
                return [CoatTaken(room=room, coat=coat)]
            case GiveCoat(coat=coat, strict=True) if coat not in self.coats:
                raise NotHere(coat=coat)
            case GiveCoat(coat=coat, tell=False) if coat not in self.coats:
                return []
            case GiveCoat(room=room, coat=coat):
                return [CoatGiven(room=room, coat=coat)]

    def evolve(self, event: CoatTaken | CoatGiven) -> Self:
        coats = [coat for coat in self.coats if coat != event.coat]
        return self.having(coats=(*coats, event.coat) if isinstance(event, CoatTaken) else tuple(coats))


class Guest(Value):
    """Whose coat it is, and where it hangs."""

    room: Key
    coat: Key


class _Evening(Process[Guest, None]):
    """Leaves a coat, and another one; right but for the cloakroom."""

    def give(self, guest: Guest) -> GiveCoat | None:
        return GiveCoat(room=guest.room, coat=guest.coat)

    async def spend(self, guest: Guest) -> None:
        async with self.saga as saga:
            await saga.do("leave the coat", TakeCoat(room=guest.room, coat=guest.coat), undo=self.give(guest))
            scarf = TakeCoat(room=f"{guest.room}-2", coat=guest.coat)
            await saga.do("leave the scarf", scarf, undo=GiveCoat(room=scarf.room, coat=scarf.coat))


@workflow.defn
class Hasty(_Evening):
    """Trusts in an undo that leaves no tombstone."""

    @workflow.run
    async def run(self, request: Guest) -> None:
        await self.spend(request)


@workflow.defn
class Forgetful(_Evening):
    """Has no undo for its first step."""

    def give(self, guest: Guest) -> GiveCoat | None:
        return None

    @workflow.run
    async def run(self, request: Guest) -> None:
        await self.spend(request)


@workflow.defn
class Stubborn(_Evening):
    """Has an undo that works only once."""

    def give(self, guest: Guest) -> GiveCoat | None:
        return GiveCoat(room=guest.room, coat=guest.coat, strict=True)

    @workflow.run
    async def run(self, request: Guest) -> None:
        await self.spend(request)


@workflow.defn
class Greedy(_Evening):
    """Has an undo that has an effect each time."""

    def give(self, guest: Guest) -> GiveCoat | None:
        return GiveCoat(room=guest.room, coat=guest.coat, tell=True)

    @workflow.run
    async def run(self, request: Guest) -> None:
        await self.spend(request)


app = App(aggregates=[Cloakroom], workflows=[Hasty, Forgetful, Stubborn, Greedy])
