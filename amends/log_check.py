"""Finds the events in the log that this code can't read."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel

from amends.batch import told
from amends.database import Pool
from amends.feed import Feed
from amends.messages import Event
from amends.records import START

__all__ = ["Unreadable", "check_log"]

BATCH = 5000
"""Events read at a time."""


class Unreadable(BaseModel):
    """Events of one name and schema version that can't be read.

    Args:
        name: of the event.
        schema_version: in which they were stored.
        count: how many.
        first: position of the first.
        error: why that one can't be read.
    """

    name: str
    schema_version: int
    count: int
    first: str
    error: str


async def check_log(pool: Pool, seen: Callable[[int], None] = lambda number: None) -> list[Unreadable]:
    """Read the whole log, every event upcast and checked as a projection would get it.

    Args:
        pool: connections of the projector role.
        seen: told after each batch how many events were read since the last.

    Returns:
        what can't be read, in the order of the log.
    """
    feed, at, found = Feed(pool), START, dict[tuple[str, int], Unreadable]()
    while rows := await feed.read(at, BATCH):
        for row in rows:
            try:
                Event.read(row.name, row.schema_version, row.data)
            except Exception as error:
                kind = (row.name, row.schema_version)
                if kind in found:
                    found[kind].count += 1
                else:
                    found[kind] = Unreadable(
                        name=row.name,
                        schema_version=row.schema_version,
                        count=1,
                        first=str(row.position),
                        error=told(error),
                    )
        at = rows[-1].position
        seen(len(rows))
    return list(found.values())
