"""The story as an event log: most of it loaded in bulk, what follows appended command by command as workers do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import psycopg

from amends.handler import CommandHandler
from amends.messages import Event
from amends.projection import Projection
from amends.records import Context
from bench.rebuild.story import Told
from bench.rebuild.world import World
from domain.customer import CustomerRegistered
from domain.stock import StockReserved

__all__ = ["ACTOR", "StoryDiffers", "fill", "go_on", "unseen"]

ACTOR = "bench"
"""On whose behalf all of it is done."""

AT_ONCE = 2_000
"""Most commands written in one transaction while the log is filled."""

FIRST_RELEASE = 0.3
"""So much of the log was written when events had their first versions; read models upcast those."""

ADDED_SINCE: dict[type[Event], str] = {CustomerRegistered: "member_since", StockReserved: "hold"}
"""Fields that the first versions of events lack."""

COPY = """
copy amends.events (stream, version, name, schema_version, data, correlation_id, causation_id, command_id, actor,
                    recorded_at) from stdin
"""
"""Load events; numbers and transactions are given by the table as ever."""

HEADS = """
insert into amends.streams (stream, version, xid)
select stream, max(version), max(xid) from amends.events group by stream
"""
"""Where each stream stands, so that commands can go on from there."""

SNAPSHOT = "insert into amends.snapshots (stream, version, schema_version, state) values (%s, %s, %s, %s)"
"""The state of a long stream, as handlers keep it now and then."""

ANALYZE = "analyze amends.events, amends.streams"
"""What the server does by itself some time after so many rows have come."""

THERE = "select name, count(*) from amends.events group by name"
"""How many events of each name there are."""


class StoryDiffers(Exception):
    """The database has decided a command otherwise than the story; says which."""


def fill(
    url: str, world: World, told: Iterator[Told], events: int, until: datetime, done: Callable[[int], None]
) -> int:
    """Load the story into an empty log; no read model is made of the commands' records or of claims, so none are.

    Args:
        url: of the database, as its owner.
        world: which has decided it.
        told: the story.
        events: so many, or a few more: commands are whole.
        until: nothing is recorded later.
        done: told how many events have been written.

    Returns:
        how many that were.
    """
    written = 0
    with psycopg.connect(url) as connection:
        while written < events:
            some = list(islice(told, min(AT_ONCE, events - written)))
            with connection.transaction(), connection.cursor().copy(COPY) as copy:
                for each in some:
                    first = each.version - len(each.events) + 1
                    at, id = min(each.at, until), f"bench-{each.number}"
                    for version, event in enumerate(each.events, first):
                        stored = _as_stored(event, written < FIRST_RELEASE * events)
                        copy.write_row((each.stream, version, *stored, each.about, each.about, id, ACTOR, at))
                        written += 1
            done(written)
        connection.execute(HEADS)
        with connection.cursor() as cursor:
            stocks = [(name, *known) for name, known in world.states.items() if name.startswith("stock-")]
            cursor.executemany(SNAPSHOT, [(n, v, s.snapshot_version, s.model_dump_json()) for n, s, v in stocks])
        connection.execute(ANALYZE)
    return written


def _as_stored(event: Event, early: bool) -> tuple[str, int, str]:
    """Name, schema version and data of an event."""
    added = ADDED_SINCE.get(type(event)) if early else None
    if added is None or getattr(event, added) is not None:
        return event.message_name, event.schema_version, event.model_dump_json()
    return event.message_name, 1, event.model_dump_json(exclude={added})


async def go_on(handler: CommandHandler, told: Iterator[Told]) -> int:
    """Send the story's next command.

    Args:
        handler: as workers have it.
        told: the story.

    Returns:
        how many events that led to.

    Raises:
        StoryDiffers: to others than in the story.
    """
    each = next(told)
    about = Context(command_id=f"bench-{each.number}", actor=ACTOR, correlation_id=each.about, causation_id=each.about)
    receipt = await handler.handle(each.command, about)
    if (receipt.outcome, receipt.version) != ("done", each.version):
        raise StoryDiffers(
            f"{each.command.message_name} on {each.stream}: {receipt.outcome} at version {receipt.version}, where the "
            f"story is at {each.version}"
        )
    return len(each.events)


def unseen(url: str, projections: Iterable[Projection]) -> dict[str, Sequence[str]]:
    """Events that a projection handles, and of which the log has none; by the projection's name."""
    with psycopg.connect(url) as connection:
        there: Counter[str] = Counter(dict[str, Any](connection.execute(THERE).fetchall()))
    lacking = {each.name: sorted(name for name in each.handlers if not there[name]) for each in projections}
    return {name: events for name, events in lacking.items() if events}
