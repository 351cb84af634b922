"""A house to react in: bells ring, somebody opens, and whoever waits hears every knock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, Self
from uuid import uuid4

from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from amends import (
    Aggregate,
    Command,
    Context,
    Decision,
    Event,
    Key,
    Position,
    Process,
    ProcessManager,
    Recorded,
    Signal,
    Start,
    Value,
)
from amends.app import App
from amends.connect import connect
from amends.database import Pool, open_pool
from amends.delivering import Delivery
from amends.handler import CommandHandler
from amends.notify import Notifier
from amends.process_manager import Reaction
from amends.reacting import Reactor
from amends.settings import Settings
from amends.store import EventStore
from tests.engine.readside_shop import connect as connect_sql
from tests.engine.readside_shop import fetch
from tests.sagas.given import until


class Ring(Command, name="bells.ring"):
    bell: Key
    order_id: Key


class Knock(Command, name="bells.knock"):
    """Knock at the door that somebody waits behind."""

    bell: Key
    waiting: str
    times: int


class Leave(Command, name="bells.leave"):
    bell: Key
    waiting: str


class Open(Command, name="bells.open"):
    bell: Key


class Rang(Event, name="bells.rang"):
    bell: Key
    order_id: Key


class Knocked(Event, name="bells.knocked"):
    bell: Key
    waiting: str
    times: int


class Left(Event, name="bells.left"):
    bell: Key
    waiting: str


class Opened(Event, name="bells.opened"):
    bell: Key


class Bell(Aggregate[Ring | Knock | Leave | Open, Rang | Knocked | Left | Opened], category="bells", key="bell"):
    """A bell at a door; whatever comes is done."""

    opened: int = 0

    def decide(self, command: Ring | Knock | Leave | Open) -> Decision:
        match command:
            case Ring(bell=bell, order_id=id):
                return [Rang(bell=bell, order_id=id)]
            case Knock(bell=bell, waiting=waiting, times=times):
                return [Knocked(bell=bell, waiting=waiting, times=n) for n in range(1, times + 1)]
            case Leave(bell=bell, waiting=waiting):
                return [Left(bell=bell, waiting=waiting)]
            case Open(bell=bell):
                return [Opened(bell=bell)]

    def evolve(self, event: Rang | Knocked | Left | Opened) -> Self:
        return self.having(opened=self.opened + isinstance(event, Opened))


class Visit(Value):
    bell: Key


class Noise(Value):
    times: int


@workflow.defn
class OpenDoor(Process[Visit, str]):
    """Opens a door."""

    @workflow.run
    async def run(self, request: Visit) -> str:
        async with self.saga as saga:
            await saga.do("open the door", Open(bell=request.bell))
        return request.bell


@workflow.defn
class WaitBehindDoor(Process[Visit, list[int]]):
    """Waits until whoever knocks has left, and tells what it has heard."""

    def __init__(self) -> None:
        super().__init__()
        self._heard: list[int] = []
        self._alone = False

    @workflow.run
    async def run(self, request: Visit) -> list[int]:
        async with self.saga as saga:
            await saga.wait("they leave", lambda: self._alone, timeout=timedelta(hours=1))
        return self._heard

    @workflow.signal
    def knocked(self, noise: Noise) -> None:
        self._heard.append(noise.times)

    @workflow.signal
    async def left(self) -> None:
        self._alone = True


class BrokenHandler(Exception):
    """A bug."""


def doorman(
    name: str, since: Literal["now", "beginning"] = "now", *, breaks_at: str = "", doors: int = 1
) -> ProcessManager:
    """Opens when the bell rings, and passes on who knocks and leaves."""
    manager = ProcessManager(name, since=since)

    @manager.on(Rang)
    def rang(event: Rang, fact: Recorded) -> Reaction | Sequence[Reaction] | None:
        if event.bell == breaks_at:
            raise BrokenHandler(event.bell)
        opening = Start(
            OpenDoor,
            Visit(bell=event.bell),
            labels={"bell": event.bell},
            attributes={"OrderId": event.order_id},
            summary=f"Open {event.bell}",
        )
        return opening if doors == 1 else [opening] * doors

    @manager.on(Knocked)
    def knocked(event: Knocked, fact: Recorded) -> Reaction:
        return Signal(event.waiting, WaitBehindDoor.knocked, Noise(times=event.times))

    @manager.on(Left)
    def left(event: Left, fact: Recorded) -> Reaction:
        return Signal(event.waiting, WaitBehindDoor.left)

    return manager


def house(*managers: ProcessManager) -> App:
    return App(aggregates=[Bell], workflows=[OpenDoor, WaitBehindDoor], process_managers=managers)


EVENT_IDS = "select event_id from amends.events where name = %s order by xid, position"
CHECKPOINT = "select xid::text::bigint, position from amends.checkpoints where projection = %s"


@dataclass
class House:
    """A house under test: its facts, and what came of them in Temporal."""

    settings: Settings
    client: Client
    pool: Pool
    handler: CommandHandler

    @property
    def url(self) -> str:
        assert self.settings.database_url is not None
        return self.settings.database_url.get_secret_value()

    async def does(self, command: Command, *, trace: str | None = None) -> Position:
        """Have a command done, and return where its last event stands."""
        context = Context(
            command_id=uuid4().hex, actor="a visitor", correlation_id="visit", causation_id="visit", trace=trace
        )
        return (await self.handler.handle(command, context)).position

    async def rings(self, bell: str, order_id: str = "o1") -> Position:
        return await self.does(Ring(bell=bell, order_id=order_id))

    def reactor(self, manager: ProcessManager, **options: Any) -> Reactor:
        return Reactor(manager, self.pool, self.url, Delivery(self.client, self.settings), **options)

    async def waits(self, bell: str) -> WorkflowHandle[Any, list[int]]:
        """Let somebody wait behind a door."""
        return await self.client.start_workflow(
            WaitBehindDoor.run, Visit(bell=bell), id=f"waiting-{uuid4().hex}", task_queue=self.settings.task_queue
        )

    async def events(self, event: type[Event]) -> list[str]:
        """The ids of all events of a kind, in the order of the feed."""
        found = await fetch(self.url, EVENT_IDS, event.message_name)
        return [str(id) for (id,) in found]

    async def openings(self, number: int) -> list[tuple[str, str]]:
        """Workflow and run ids of all that open doors, as lists show them, once there are as many."""
        query = f"WorkflowType = 'OpenDoor' and TaskQueue = '{self.settings.task_queue}'"

        async def listed() -> list[tuple[str, str]]:
            found = [(each.id, each.run_id) async for each in self.client.list_workflows(query)]
            return sorted(found) if len(found) >= number else []

        return await until(f"{number} workflows are listed", listed)

    async def exists(self, workflow_id: str) -> bool:
        try:
            await self.client.get_workflow_handle(workflow_id).describe()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False
        return True

    async def sql(self, statement: str, *parameters: object) -> None:
        async with connect_sql(self.url) as connection:
            await connection.execute(statement.encode(), parameters or None)

    async def checkpoint(self, manager: ProcessManager) -> Position:
        [(xid, number)] = await fetch(self.url, CHECKPOINT, manager.name)
        return Position(xid, number)


@asynccontextmanager
async def open_house(settings: Settings) -> AsyncIterator[House]:
    """A house with connections to everything."""
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    async with (
        open_pool(url, "projector", 8) as pool,
        open_pool(url, "writer", 4) as writers,
        Notifier(writers) as notifier,
    ):
        handler = CommandHandler(EventStore(writers), [Bell], notifier.poke)
        yield House(settings, await connect(settings), pool, handler)
