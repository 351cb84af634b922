"""What the kernel's tests share: a small aggregate, handlers like separate processes, SQL, and the wire."""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self
from uuid import uuid4

from psycopg import AsyncConnection
from psycopg.pq import Trace
from pydantic import Field

from amends import Aggregate, Claim, Command, Context, Decision, Event, Free, Personal, Refused
from amends.database import Pool, Role, conninfo, open_pool
from amends.handler import CommandHandler
from amends.store import EventStore

DEADLINE = 20.0
"""Seconds after which a test gives up waiting for something that must happen at once."""


class NameTaken(Refused):
    """The name belongs to somebody else"""


class TooMuch(Refused):
    """More than a counter counts at once"""


class Add(Command, name="kernel.add"):
    counter_id: str
    amount: int = 1
    times: int = 1


class TakeNames(Command, name="kernel.take_names"):
    counter_id: str
    names: tuple[str, ...]
    quietly: bool = False
    note: Personal[str] = ""


class DropName(Command, name="kernel.drop_name"):
    counter_id: str
    name: str


class Added(Event, name="kernel.added"):
    counter_id: str
    amount: int


class NamesTaken(Event, name="kernel.names_taken"):
    counter_id: str
    names: tuple[str, ...]


class NameDropped(Event, name="kernel.name_dropped"):
    counter_id: str
    name: str


CounterEvent = Added | NamesTaken | NameDropped


class Counter(Aggregate[Add | TakeNames | DropName, CounterEvent], category="kernel", key="counter_id"):
    total: int = 0
    events_seen: int = 0
    names: tuple[str, ...] = Field(default_factory=tuple)

    def decide(self, command: Add | TakeNames | DropName) -> Decision:
        match command:
            case Add(amount=amount) if amount > 1000:
                raise TooMuch(amount=amount, limit=1000)
            case Add(counter_id=id, amount=amount, times=times):
                return [Added(counter_id=id, amount=amount)] * times
            case TakeNames(names=names, quietly=True):
                return [Claim("kernel.name", name, None) for name in names]
            case TakeNames(counter_id=id, names=names):
                claims = [Claim("kernel.name", name, NameTaken(name=name)) for name in names]
                return [*claims, NamesTaken(counter_id=id, names=names)]
            case DropName(counter_id=id, name=name):
                return [Free("kernel.name", name), NameDropped(counter_id=id, name=name)]

    def evolve(self, event: CounterEvent) -> Self:
        after = self.having(events_seen=self.events_seen + 1)
        match event:
            case Added(amount=amount):
                return after.having(total=self.total + amount)
            case NamesTaken(names=names):
                return after.having(names=(*self.names, *names))
            case NameDropped(name=dropped):
                return after.having(names=tuple(name for name in self.names if name != dropped))


def unique(what: str = "id") -> str:
    return f"{what}-{uuid4().hex[:12]}"


def context(command_id: str | None = None, actor: str = "tests") -> Context:
    chosen = command_id or unique("command")
    return Context(command_id=chosen, actor=actor, correlation_id=f"about-{chosen}", causation_id=f"by-{chosen}")


@asynccontextmanager
async def processes(url: str, count: int, size: int = 4) -> AsyncIterator[list[CommandHandler]]:
    """Handlers that share nothing but the database, like those of separate worker processes."""
    async with AsyncExitStack() as stack:
        handlers = []
        for _ in range(count):
            pool = await stack.enter_async_context(open_pool(url, "writer", size))
            handlers.append(CommandHandler(EventStore(pool), [Counter]))
        yield handlers


@asynccontextmanager
async def acting_as(url: str, role: Role, *, autocommit: bool = True) -> AsyncIterator[AsyncConnection[Any]]:
    async with await AsyncConnection.connect(conninfo(url, role), autocommit=autocommit) as connection:
        yield connection


async def rows(url: str, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
    async with acting_as(url, "owner") as connection:
        return await (await connection.execute(statement.encode(), arguments or None)).fetchall()


async def value(url: str, statement: str, *arguments: Any) -> Any:
    return (await rows(url, statement, *arguments))[0][0]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Asks the database again and again, which itself is the pause between two attempts."""
    async with asyncio.timeout(DEADLINE):
        while not await condition():
            pass


async def blocked(url: str, count: int = 1) -> None:
    """Waits until so many sessions of this database wait for a lock that another one holds."""
    statement = """
        select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and cardinality(pg_blocking_pids(pid)) > 0
    """

    async def there() -> bool:
        return bool(await value(url, statement) >= count)

    await until(there)


@dataclass(frozen=True)
class Traffic:
    """What went over a connection.

    Args:
        round_trips: how often the server said that it is ready again.
        sent: bytes of the messages to the server.
    """

    round_trips: int
    sent: int


class Wire:
    """Listens to the protocol on a pool's only connection: libpq's own trace, so nothing escapes it."""

    def __init__(self, connection: AsyncConnection[Any], file: io.BufferedRandom) -> None:
        self._connection = connection
        self._file = file

    async def during(self, calls: Sequence[Awaitable[object]]) -> list[Traffic]:
        """Awaits each and says what it cost."""
        found = []
        for call in calls:
            self._connection.pgconn.trace(self._file.fileno())
            self._connection.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
            await call
            self._connection.pgconn.untrace()
            found.append(self._read())
        return found

    def _read(self) -> Traffic:
        os.lseek(self._file.fileno(), 0, os.SEEK_SET)
        lines = [line.split(b"\t") for line in self._file.read().splitlines()]
        os.ftruncate(self._file.fileno(), 0)
        os.lseek(self._file.fileno(), 0, os.SEEK_SET)
        messages = [line for line in lines if len(line) > 2 and line[0] in (b"F", b"B")]
        return Traffic(
            round_trips=sum(line[2] == b"ReadyForQuery" for line in messages),
            sent=sum(int(line[1]) + 1 for line in messages if line[0] == b"F"),
        )


@asynccontextmanager
async def traced_pool(url: str) -> AsyncIterator[tuple[Pool, Wire]]:
    """A writer's pool of one connection, with its wire; its statements are sent unprepared, so each costs the same."""
    async with open_pool(url, "writer", 1) as pool:
        async with pool.connection() as connection:
            connection.prepare_threshold = None
        with tempfile.TemporaryFile() as file:
            yield pool, Wire(connection, file)
