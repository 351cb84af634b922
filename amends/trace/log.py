"""Reads a trace from the log: by SQL alone, so that it needs no Temporal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Protocol
from uuid import UUID

from amends.aggregate import Aggregate
from amends.database import Pool
from amends.errors import InvalidInput, NothingRecorded
from amends.records import START, Position
from amends.trace.model import Led, Reader, Trace
from amends.trace.tree import Row, workflows

__all__ = ["trace_of"]

COMMANDS = """
select c.number, c.command_id, coalesce(c.step_id, c.command_id),
       coalesce(c.step, case when c.name like 'saga.%%' then c.payload ->> 'title' end), c.kind, c.name, c.stream,
       c.outcome, c.refusal ->> 'name', c.refusal ->> 'message', c.workflow_id, c.causation_id, c.actor, c.attempt,
       c.pivot, c.started_at, c.recorded_at,
       case when c.name = 'saga.close' then c.payload end,
       case when c.name like 'saga.%%' then c.payload ->> 'step' end,
       case when c.name like 'saga.%%' then c.payload ->> 'reason' end
from amends.commands c where c.correlation_id = %s order by c.number
"""
"""All that was asked for in one piece of business; payloads of commands stay where they are."""

EVENTS = """
select e.command_id, e.event_id, e.name, e.stream, e.version, e.xid::text::bigint as xid, e.position, e.recorded_at
from amends.commands c
join amends.events e on e.stream = c.stream and e.version > c.version - c.events and e.version <= c.version
where c.correlation_id = %s and c.events > 0 order by e.xid, e.position
"""
"""All that it led to."""

READERS = """
select projection, version, xid, position, updated_at from views.projection_status where served order by projection
"""
"""How far each reader of the feed has come."""

KNOWN = "select distinct correlation_id from amends.commands where correlation_id = any(%s)"
"""Which of these are pieces of business."""

OF_COMMAND = "select correlation_id from amends.commands where command_id = %s"
"""The piece of business that a command belongs to."""

OF_STREAMS = """
select correlation_id from amends.events where stream = any(%s) group by correlation_id
order by max(recorded_at) desc limit %s
"""
"""The pieces of business that have led to something in these streams, latest first."""

CANDIDATES = 10
"""So many pieces of business are named to somebody who has to choose."""

REACTIONS = 5
"""So many reactions of a process manager to one event are looked for."""


class Follower(Protocol):
    """What reads the feed: a projection or a process manager of the application."""

    @property
    def name(self) -> str:
        """What its checkpoint is called."""

    @property
    def handlers(self) -> Mapping[str, Any]:
        """By name of the event."""


class Manager(Follower, Protocol):
    """A process manager."""

    def id_of(self, event_id: UUID | str, number: int = 1) -> str:
        """The id of what an event starts."""


async def trace_of(
    log: Pool,
    views: Pool,
    aggregates: Iterable[type[Aggregate[Any, Any]]],
    followers: Iterable[Follower],
    managers: Iterable[Manager],
    text: str,
) -> Trace:
    """Find a piece of business and all that belongs to it.

    Args:
        log: connections of the writer role, which may read the command log.
        views: connections of the reader role.
        aggregates: the application's.
        followers: its projections.
        managers: its process managers.
        text: id of a workflow (a child's too), of a command or of a stream, or the key of a thing.

    Raises:
        NothingRecorded: nothing is known under that name.
        InvalidInput: several pieces of business are; names them.
    """
    id = await _business(log, aggregates, text)
    async with log.connection() as connection:
        commands = [Row(*row) for row in await (await connection.execute(COMMANDS, (id,))).fetchall()]
        events = await (await connection.execute(EVENTS, (id,))).fetchall()
        managed = list(managers)
        wanted = {each for row in events for each in _startable(managed, row[2], row[1])}
        started = {row[0] for row in await (await connection.execute(KNOWN, (list(wanted),))).fetchall()}
    async with views.connection() as connection:
        rows = await (await connection.execute(READERS)).fetchall()
    readers = [Reader(name, version, Position(xid, number), at) for name, version, xid, number, at in rows]
    reached = {name: max(each.position for each in readers if each.name == name) for name, *_ in readers}
    led: defaultdict[str, list[Led]] = defaultdict(list)
    for command_id, event_id, name, stream, version, xid, number, at in events:
        position = Position(xid, number)
        concerned = [each.name for each in (*followers, *managed) if name in each.handlers]
        read = tuple(each for each in concerned if reached.get(each, START) >= position)
        unread = tuple(each for each in concerned if each not in read)
        because = tuple(each for each in _startable(managed, name, event_id) if each in started)
        led[command_id].append(Led(name, stream, version, position, at, read, unread, because))
    return Trace(id, workflows(commands, led), readers)


def _startable(managers: Iterable[Manager], name: str, event_id: UUID) -> list[str]:
    concerned = (manager for manager in managers if name in manager.handlers)
    return [manager.id_of(event_id, number) for manager in concerned for number in range(1, REACTIONS + 1)]


async def _business(log: Pool, aggregates: Iterable[type[Aggregate[Any, Any]]], text: str) -> str:
    """The correlation id that somebody means."""
    things = [aggregate.stream(text) for aggregate in aggregates]
    async with log.connection() as connection:
        for names in ([text], [text.partition("/")[0]], things):
            found = [row[0] for row in await (await connection.execute(KNOWN, (names,))).fetchall()]
            if found:
                break
        if not found:
            found = [row[0] for row in await (await connection.execute(OF_COMMAND, (text,))).fetchall()]
        if not found:
            asked = ([text, *things], CANDIDATES + 1)
            found = [row[0] for row in await (await connection.execute(OF_STREAMS, asked)).fetchall()]
    if not found:
        raise NothingRecorded(f"Nothing is recorded under {text!r}: no workflow, command, stream or key of a thing")
    if len(found) > 1:
        more = ", …" if len(found) > CANDIDATES else ""
        raise InvalidInput({"id": f"{text!r} is part of several: {', '.join(found[:CANDIDATES])}{more}; say which"})
    return str(found[0])
