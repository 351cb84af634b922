"""A house with guests, whose names are personal: to see what the saga's log and its answers tell of them."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict
from temporalio import workflow

from amends import Aggregate, Command, Decision, Event, Key, Process, Refused
from amends.app import App
from amends.values import Personal


class GuestKnown(Refused):
    """Somebody of that name is here already"""


class OpenHouse(Command, name="guest_test.open"):
    house_id: Key


class HouseOpened(Event, name="guest_test.opened"):
    house_id: Key


class Welcome(Command, name="guest_test.welcome"):
    house_id: Key
    name: Personal[str]


class Welcomed(Event, name="guest_test.welcomed"):
    house_id: Key
    name: Personal[str]


class House(Aggregate[OpenHouse | Welcome, HouseOpened | Welcomed], category="guest_test", key="house_id"):
    """A house that has somebody called Ada in it."""

    def decide(self, command: OpenHouse | Welcome) -> Decision:
        if isinstance(command, OpenHouse):
            return [HouseOpened(house_id=command.house_id)]
        if command.name == "Ada":
            raise GuestKnown
        return [Welcomed(house_id=command.house_id, name=command.name)]

    def evolve(self, event: HouseOpened | Welcomed) -> Self:
        return self


class Guest(BaseModel):
    """Who comes where."""

    model_config = ConfigDict(frozen=True)

    house_id: Key
    name: str


@workflow.defn
class Receive(Process[Guest, None]):
    """Opens the house, from where there is no way back, and welcomes a guest."""

    @workflow.run
    async def run(self, request: Guest) -> None:
        async with self.saga as saga:
            await saga.do("open the house", OpenHouse(house_id=request.house_id), pivot=True)
            await saga.do("welcome the guest", Welcome(house_id=request.house_id, name=request.name))


def guests_app() -> App:
    """The table of contents of this business."""
    return App(aggregates=[House], workflows=[Receive])
