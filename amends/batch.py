"""Folds a batch of the feed into what it does to a projection's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amends.changes import Rows
from amends.errors import UnreadableBatch
from amends.feed import Row
from amends.projection import Projection
from amends.records import Position

__all__ = ["Batch", "fold"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that are applied together.

    Args:
        rows: what they do.
        events: how many there are, handled or not.
        first: position of the first.
        last: position of the last.
    """

    rows: Rows
    events: int
    first: Position
    last: Position


def fold(projection: Projection, found: Sequence[Row]) -> Batch:
    """What some events, at least one, do to the rows; those that nobody handles are not even decoded.

    Raises:
        UnreadableBatch: one can't be read, or its handler failed.
    """
    rows, handlers = projection.rows(), projection.handlers
    for row in found:
        handler = handlers.get(row.name)
        if handler is None:
            continue
        try:
            fact = row.recorded()
            handler(fact.event, fact, rows)
        except Exception as error:
            raise UnreadableBatch(
                f"Projection {projection.name!r} can't apply {row.name!r} at position {row.position}, version "
                f"{row.version} of stream {row.stream}: {type(error).__name__}: {error}. Mend its handler or "
                "upcaster and deploy; the projection goes on from there"
            ) from error
    return Batch(rows, len(found), found[0].position, found[-1].position)
