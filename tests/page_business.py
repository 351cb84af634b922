"""The business that the page about sagas takes for granted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import timedelta
from typing import Self

from temporalio import activity, workflow

from amends import Aggregate, Call, Command, Context, Decision, Event, Key, Process, Refused, Saga, Value

__all__ = [
    "ABC",
    "BookNight",
    "Call",
    "Close",
    "Confirm",
    "Context",
    "FreeNight",
    "Night",
    "NotApproved",
    "Process",
    "Release",
    "Reserve",
    "Saga",
    "TripOfPage",
    "TripRequest",
    "abstractmethod",
    "activity",
    "timedelta",
    "workflow",
]


class NotApproved(Refused):
    """Nobody has approved the trip"""


class NightFull(Refused):
    """No room is left that night"""


class TripRequest(Value):
    trip_id: Key
    nights: tuple[Key, ...]


class Reserve(Command, name="trip_doc.reserve"):
    trip_id: Key


class Release(Command, name="trip_doc.release"):
    trip_id: Key
    why: str


class Confirm(Command, name="trip_doc.confirm"):
    trip_id: Key


class Close(Command, name="trip_doc.close"):
    trip_id: Key


class Reserved(Event, name="trip_doc.reserved"):
    trip_id: Key


class Released(Event, name="trip_doc.released"):
    trip_id: Key
    why: str


class Confirmed(Event, name="trip_doc.confirmed"):
    trip_id: Key


class Closed(Event, name="trip_doc.closed"):
    trip_id: Key


TripCommand = Reserve | Release | Confirm | Close
TripEvent = Reserved | Released | Confirmed | Closed


class TripOfPage(Aggregate[TripCommand, TripEvent], category="trip_doc", key="trip_id"):
    def decide(self, command: TripCommand) -> Decision:
        match command:
            case Reserve(trip_id=id):
                return [Reserved(trip_id=id)]
            case Release(trip_id=id, why=why):
                return [Released(trip_id=id, why=why)]
            case Confirm(trip_id=id):
                return [Confirmed(trip_id=id)]
            case Close(trip_id=id):
                return [Closed(trip_id=id)]

    def evolve(self, event: TripEvent) -> Self:
        return self


class BookNight(Command, name="night_doc.book"):
    night: Key


class FreeNight(Command, name="night_doc.free"):
    night: Key


class NightBooked(Event, name="night_doc.booked"):
    night: Key


class NightFreed(Event, name="night_doc.freed"):
    night: Key


class Night(Aggregate[BookNight | FreeNight, NightBooked | NightFreed], category="night_doc", key="night"):
    def decide(self, command: BookNight | FreeNight) -> Decision:
        match command:
            case BookNight(night="full"):
                raise NightFull(night=command.night)
            case BookNight(night=night):
                return [NightBooked(night=night)]
            case FreeNight(night=night):
                return [NightFreed(night=night)]

    def evolve(self, event: NightBooked | NightFreed) -> Self:
        return self
