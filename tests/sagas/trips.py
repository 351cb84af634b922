"""Another business than the shop: trips, booked stop by stop, so that the saga is tested apart from every story.

The itinerary says what a trip consists of; the agency, which leaves the house, does what the test tells it to.
"""

from __future__ import annotations

import asyncio
import gc
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Awaitable
from contextlib import suppress
from datetime import timedelta
from typing import Any, Literal, Self, assert_never

from pydantic import BaseModel, ConfigDict
from temporalio import activity, workflow
from temporalio.exceptions import ApplicationError

from amends import Aggregate, Call, Command, Context, Decision, Event, Key, Process, Refused, Saga
from amends.app import App
from amends.policies import Policy


class TripFull(Refused):
    """No room is left"""


class NotRefundable(Refused):
    """What is booked stays booked"""


class TripBook(Command, name="trip_test.book"):
    trip_id: Key
    what: str


class TripUnbook(Command, name="trip_test.unbook"):
    trip_id: Key
    what: str
    why: str


class TripBooked(Event, name="trip_test.booked"):
    trip_id: Key
    what: str


class TripUnbooked(Event, name="trip_test.unbooked"):
    trip_id: Key
    what: str
    why: str


class Trip(Aggregate[TripBook | TripUnbook, TripBooked | TripUnbooked], category="trip_test", key="trip_id"):
    """A trip: what is called full can't be booked, what is called stuck can't be unbooked, nor what is broken."""

    booked: tuple[str, ...] = ()

    def decide(self, command: TripBook | TripUnbook) -> Decision:
        match command:
            case TripBook(what=what) if what.startswith("full"):
                raise TripFull(what=what)
            case TripBook(trip_id=id, what=what):
                return [TripBooked(trip_id=id, what=what)]
            case TripUnbook(what=what) if what.startswith("stuck"):
                raise NotRefundable(what=what)
            case TripUnbook(what=what) if what.startswith("broken"):
                raise ZeroDivisionError(what)
            case TripUnbook(what=what) if what not in self.booked:
                return []
            case TripUnbook(trip_id=id, what=what, why=why):
                return [TripUnbooked(trip_id=id, what=what, why=why)]
            case _:
                assert_never(command)

    def evolve(self, event: TripBooked | TripUnbooked) -> Self:
        match event:
            case TripBooked(what=what):
                return self.having(booked=(*self.booked, what))
            case TripUnbooked(what=what):
                return self.having(booked=tuple(each for each in self.booked if each != what))
            case _:
                assert_never(event)


class Ticket(BaseModel):
    """What the agency is asked to book or to cancel."""

    model_config = ConfigDict(frozen=True)

    what: str


class Agency(ABC):
    """Leaves the house."""

    @abstractmethod
    @activity.defn(name="agency_test.order")
    async def order(self, ticket: Ticket, context: Context) -> str: ...

    @abstractmethod
    @activity.defn(name="agency_test.look_up")
    async def look_up(self, ticket: Ticket, context: Context) -> str | None: ...

    @abstractmethod
    @activity.defn(name="agency_test.cancel")
    async def cancel(self, ticket: Ticket, context: Context) -> None: ...


Mood = Literal[
    "well", "refuse", "fail", "fail for good", "act then fail", "act then fail for good", "hang", "act then hang"
]


class Desk(Agency):
    """The agency's desk: does each time what comes next in its plan, and well when nothing is planned.

    Like a real one it acts once for each key.
    """

    def __init__(self) -> None:
        self.plan: defaultdict[str, deque[Mood]] = defaultdict(deque)
        self.calls: list[tuple[str, str]] = []
        self.acted: list[tuple[str, str]] = []
        self.held: list[str] = []
        self.keys: set[str] = set()
        self.released = asyncio.Event()

    def will(self, verb: Literal["order", "cancel", "look up"], what: str, *moods: Mood) -> None:
        """Plan the next attempts at something."""
        self.plan[f"{verb} {what}"].extend(moods)

    async def order(self, ticket: Ticket, context: Context) -> str:
        await self._serve("order", ticket.what, context.command_id)
        return f"ticket for {ticket.what}"

    async def look_up(self, ticket: Ticket, context: Context) -> str | None:
        await self._serve("look up", ticket.what, context.command_id)
        return f"ticket for {ticket.what}, as looked up" if ticket.what in self.held else None

    async def cancel(self, ticket: Ticket, context: Context) -> None:
        await self._serve("cancel", ticket.what, context.command_id)

    async def _serve(self, verb: str, what: str, key: str) -> None:
        self.calls.append((f"{verb} {what}", key))
        planned = self.plan[f"{verb} {what}"]
        mood: Mood = planned.popleft() if planned else "well"
        if mood.startswith("act"):
            self._act(verb, what, key)
        if mood.endswith("hang"):
            await self.released.wait()
        if mood == "refuse":
            raise NotRefundable(what=what) if verb == "cancel" else TripFull(what=what)
        if mood.endswith("fail"):
            raise ConnectionError(f"no line to the agency about {what}")
        if mood.endswith("for good"):
            raise ApplicationError(f"the agency hung up on {what}", type="HungUp", non_retryable=True)
        self._act(verb, what, key)

    def _act(self, verb: str, what: str, key: str) -> None:
        if key in self.keys:
            return
        self.keys.add(key)
        self.acted.append((verb, what))
        if verb == "order":
            self.held.append(what)
        elif verb == "cancel" and what in self.held:
            self.held.remove(what)


class Stop(BaseModel):
    """One stop of a trip.

    Args:
        kind: book (a command), phone (a call of the agency), look (a local call of it), together (side by side), sub or
            child (a trip within the trip), wait (for the signal), sleep (so many days), try (and live with a no), bug
            (in the workflow's code), collect (the process's garbage, in the middle of the workflow's code).
        name: what is booked, or what the mounted trip is called.
        stops: what it consists of.
        patience: seconds after which a phone call is given up.
        budget: seconds for which its undo is tried before somebody has to see to it.
        attempt: seconds that one try of its undo may take.
        pivot: no way back after it.
        ask: the agency can be asked what became of a phone call.
        last: it is taken back after everything later.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["book", "phone", "look", "together", "sub", "child", "wait", "sleep", "try", "bug", "collect"]
    name: str = ""
    stops: tuple[Stop, ...] = ()
    patience: float | None = None
    budget: float = 600
    attempt: float = 30
    pivot: bool = False
    ask: bool = False
    last: bool = False


class Itinerary(BaseModel):
    """A trip.

    Args:
        within: days that it may take.
    """

    model_config = ConfigDict(frozen=True)

    trip_id: Key
    stops: tuple[Stop, ...]
    within: float | None = None


BUGS: set[str] = set()
"""Stops at which the workflow's code has a bug, once; modules pass through the sandbox, so a test can add one."""


def _policy(stop: Stop) -> Policy | None:
    if stop.patience is None:
        return Policy(timedelta(seconds=30), timedelta(minutes=5), first_pause=timedelta(milliseconds=20))
    limit = timedelta(seconds=stop.patience)
    return Policy(limit, limit, first_pause=timedelta(milliseconds=20))


def _undo_policy(stop: Stop) -> Policy:
    pause, budget = timedelta(milliseconds=20), timedelta(seconds=stop.budget)
    return Policy(timedelta(seconds=stop.attempt), None, first_pause=pause, budget=budget)


@workflow.defn
class Travel(Process[Itinerary, list[str]]):
    """Goes from stop to stop, or all the way back; what it hears by signal is its result."""

    def __init__(self) -> None:
        super().__init__()
        self._heard: list[str] = []
        self._waited = 0

    @workflow.run
    async def run(self, request: Itinerary) -> list[str]:
        within = request.within
        async with self.saga.within(timedelta(days=within)) if within else self.saga as saga:
            for stop in request.stops:
                await self._go(saga, request.trip_id, stop)
        return self._heard

    @workflow.signal(name="call")
    def call(self, word: str) -> None:
        self._heard.append(word)

    @workflow.query(name="heard")
    def heard(self) -> list[str]:
        return self._heard

    @workflow.update(name="tell")
    def tell(self, word: str) -> None:
        self._heard.append(word)

    @tell.validator
    def _told_once(self, word: str) -> None:
        if word in self._heard:
            raise ValueError(f"{word} was told already")

    @workflow.update(name="turn_back")
    def turn_back(self, why: str) -> None:
        self.saga.cancel(why)

    @turn_back.validator
    def _not_too_late(self, why: str) -> None:
        if not self.saga.can_be_cancelled:
            raise ApplicationError("too late", type="TooLate")

    async def _go(self, saga: Saga, trip_id: str, stop: Stop) -> None:
        match stop.kind:
            case "book":
                await saga.do(
                    f"book {stop.name}",
                    TripBook(trip_id=trip_id, what=stop.name),
                    undo=lambda why: TripUnbook(trip_id=trip_id, what=stop.name, why=why),
                    undo_last=stop.last,
                    pivot=stop.pivot,
                )
            case "phone":
                ticket = Ticket(what=stop.name)
                ask = Call(Agency.look_up, ticket, _policy(stop)) if stop.ask else None
                ordered: Call[str] = Call(Agency.order, ticket, _policy(stop), ask)
                cancel: Call[None] = Call(Agency.cancel, ticket, _undo_policy(stop))
                await saga.do(f"phone {stop.name}", ordered, undo=cancel, undo_last=stop.last, pivot=stop.pivot)
            case "look":
                seat = object() if stop.name in BUGS else Ticket(what=stop.name)
                BUGS.discard(stop.name)
                look: Call[str | None] = Call(Agency.look_up, seat, local=True)
                self._heard.append(str(await saga.do(f"look up {stop.name}", look, pivot=stop.pivot)))
            case "together":
                going: list[Awaitable[None]] = [self._go(saga, trip_id, inner) for inner in stop.stops]
                await saga.all(*going)
            case "try":
                with suppress(TripFull):
                    for inner in stop.stops:
                        await self._go(saga, trip_id, inner)
            case "sleep":
                await saga.sleep("rest", timedelta(days=float(stop.name)))
            case "sub":
                await saga.sub(stop.name, Travel, Itinerary(trip_id=trip_id, stops=stop.stops))
            case "child":
                await saga.child(stop.name, Travel, Itinerary(trip_id=trip_id, stops=stop.stops))
            case "wait":
                self._waited += 1
                expected = self._waited
                await saga.wait("wait for the call", lambda: len(self._heard) >= expected, timeout=timedelta(hours=1))
            case "bug":
                if stop.name in BUGS:
                    BUGS.remove(stop.name)
                    raise KeyError(stop.name)
            case "collect":
                gc.collect()
            case _:
                assert_never(stop.kind)


@workflow.defn
class CarefulTravel(Process[Itinerary, list[Any]]):
    """Asks somebody else to travel, and lives with a no."""

    @workflow.run
    async def run(self, request: Itinerary) -> list[Any]:
        async with self.saga as saga:
            try:
                await saga.sub("party", Travel, request)
            except TripFull as refused:
                return [type(refused).__name__, refused.message, refused.facts]
        return []


def trips_app(desk: Desk) -> App:
    """The table of contents of this business."""
    return App(aggregates=[Trip], workflows=[Travel, CarefulTravel], activities=lambda resources: [desk])
