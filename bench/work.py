"""The work of the append benchmark, the same for whoever does it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

__all__ = ["Append", "Appends", "Row", "data_of", "event_row", "in_database"]

Row = tuple[str, str, int, str]
"""An event (its stream, version and data), or a command (its id, stream and the version after it)."""

COMMANDS_PER_STREAM = 10
"""Then the next stream begins, as orders do."""

EVENTS_LEFT = """
select 'event', stream, version, data from amends.events where stream like %(like)s
"""
"""What a round has appended."""

COMMANDS_LEFT = """
select 'command ' || command_id, stream, version, '' from amends.commands where stream like %(like)s
"""
"""What a round has recorded of its commands."""


@dataclass(frozen=True)
class Append:
    """One command, and the events it leads to."""

    id: str
    stream: str
    sku: str
    expected: int
    events: int

    @property
    def event_ids(self) -> list[str]:
        """What its events are about."""
        return [f"{self.id}.{number}" for number in range(self.events)]


@dataclass(frozen=True)
class Appends:
    """Commands of several writers, each with streams of its own.

    Args:
        run: names the round.
        writers: how many at a time.
        commands: of each writer.
        events: of each command.
    """

    run: str
    writers: int
    commands: int
    events: int = 1

    @property
    def units(self) -> int:
        """Events, which are commands where each has one."""
        return self.writers * self.commands * self.events

    @property
    def prefix(self) -> str:
        """What the streams of this work begin with, and those of no other."""
        return f"stock-{self.name}."

    @property
    def name(self) -> str:
        """Of this work, unlike any other's."""
        return f"{self.run}.{self.writers}.{self.events}"

    def of(self, writer: int) -> Iterator[Append]:
        """The commands of a writer, in order."""
        for number in range(self.commands):
            stream, before = divmod(number, COMMANDS_PER_STREAM)
            sku = f"{self.name}.{writer}.{stream}"
            id = f"{sku}.{before}"
            yield Append(id, f"stock-{sku}", sku, before * self.events, self.events)

    def rows(self) -> list[Row]:
        """What must be there afterwards."""
        found: list[Row] = []
        for writer in range(self.writers):
            for command in self.of(writer):
                found.append((f"command {command.id}", command.stream, command.expected + command.events, ""))
                for number, id in enumerate(command.event_ids, 1):
                    found.append(event_row(command.stream, command.expected + number, data_of(command.sku, id)))
        return found


def data_of(sku: str, reservation_id: str) -> dict[str, Any]:
    """The data of an event."""
    return {"sku": sku, "reservation_id": reservation_id, "quantity": 1, "hold": None}


def event_row(stream: str, version: int, data: Mapping[str, Any]) -> Row:
    """An event as it is compared."""
    return "event", stream, version, json.dumps(data, sort_keys=True)


def in_database(url: str, work: Appends, *, commands: bool = True) -> list[Row]:
    """What a round has left in the engine's tables.

    Args:
        url: the database.
        work: of that round.
        commands: whether there are records of commands.
    """
    like = {"like": f"{work.prefix}%"}
    with psycopg.connect(url) as connection:
        events = connection.execute(EVENTS_LEFT, like).fetchall()
        recorded = connection.execute(COMMANDS_LEFT, like).fetchall() if commands else []
    return [event_row(stream, version, data) for _, stream, version, data in events] + recorded
