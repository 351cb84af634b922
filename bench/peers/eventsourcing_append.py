"""Appending by the library `eventsourcing`: its event store, with the command's record as an event of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import ClassVar
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.application import Application
from eventsourcing.domain import DomainEvent

from bench.harness import Contender, Sample
from bench.servers import Servers
from bench.work import Append, Appends, Row, data_of, event_row

__all__ = ["DbFunctions", "Locked", "environment", "id_of"]


@dataclass(frozen=True)
class Reserved(DomainEvent):
    """The event."""

    sku: str
    reservation_id: str
    quantity: int
    hold: int | None


@dataclass(frozen=True)
class CommandDone(DomainEvent):
    """The command's record, first and only event of a stream named after it: a repeat violates its uniqueness."""

    command_id: str
    name: str
    stream: str
    payload: dict[str, str | int | None]
    version: int
    actor: str


class Stock(Application[UUID]):
    """An application with nothing but its store."""


class Locked(Contender[Appends]):
    """Its default, in which readers miss nothing."""

    name = "eventsourcing (locked)"
    note = "its default: EXCLUSIVE table lock, NOTIFY inside; command record as an event of its own; threads"
    functions: ClassVar[str] = "no"

    async def open(self, servers: Servers) -> None:
        """An application with a connection for each writer."""
        url = servers.database("append_eventsourcing")
        self._application = Stock(environment(url, 32, self.functions))

    async def work(self, work: Appends) -> Sample:
        """Every writer appends one command after the other."""
        return await asyncio.to_thread(self._run, work)

    def _run(self, work: Appends) -> Sample:
        with ThreadPoolExecutor(work.writers) as writers:
            begun = perf_counter()
            list(writers.map(lambda writer: self._write(work, writer), range(work.writers)))
            return Sample(work.units, perf_counter() - begun)

    def _write(self, work: Appends, writer: int) -> None:
        for command in work.of(writer):
            self._application.events.put(_events(command))

    async def left(self, work: Appends) -> Sequence[Row]:
        """Events and commands, read stream by stream."""
        found: list[Row] = []
        for writer in range(work.writers):
            for command in work.of(writer):
                record = next(iter(self._application.events.get(id_of(f"command-{command.id}"))))
                found.append((f"command {record.command_id}", record.stream, record.version, ""))
                if command.expected == 0:
                    for event in self._application.events.get(id_of(command.stream)):
                        data = data_of(event.sku, event.reservation_id) | {"quantity": event.quantity}
                        found.append(event_row(command.stream, event.originator_version, data))
        return found

    async def close(self) -> None:
        """Close its connections."""
        self._application.close()


class DbFunctions(Locked):
    """Its faster way, in which readers may skip what commits late."""

    name = "eventsourcing (db functions)"
    note = "POSTGRES_ENABLE_DB_FUNCTIONS: one function call, no table lock, so that readers may skip events"
    functions = "yes"


def environment(url: str, connections: int, functions: str = "no") -> dict[str, str]:
    """What the library is configured by.

    Args:
        url: the database.
        connections: most at a time.
        functions: whether it uses functions in the database, yes or no.
    """
    parts = urlsplit(url)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": parts.path[1:],
        "POSTGRES_HOST": str(parts.hostname),
        "POSTGRES_PORT": str(parts.port),
        "POSTGRES_USER": str(parts.username),
        "POSTGRES_PASSWORD": str(parts.password),
        "POSTGRES_POOL_SIZE": str(connections),
        "POSTGRES_MAX_OVERFLOW": "0",
        "POSTGRES_MAX_WAITING": "1000",
        "POSTGRES_ENABLE_DB_FUNCTIONS": functions,
    }


def id_of(stream: str) -> UUID:
    """The library names streams by UUIDs."""
    return uuid5(NAMESPACE_URL, stream)


def _events(command: Append) -> list[DomainEvent]:
    originator, now = id_of(command.stream), DomainEvent.create_timestamp()
    events: list[DomainEvent] = [
        Reserved(originator, version, now, command.sku, id, 1, None)
        for version, id in enumerate(command.event_ids, command.expected + 1)
    ]
    record = CommandDone(
        originator_id=id_of(f"command-{command.id}"),
        originator_version=1,
        timestamp=now,
        command_id=command.id,
        name="stock.reserve",
        stream=command.stream,
        payload=data_of(command.sku, command.id),
        version=command.expected + command.events,
        actor="bench",
    )
    return [*events, record]
