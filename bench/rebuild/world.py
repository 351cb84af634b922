"""The shop in memory: commands are decided by its own aggregates, so that what is told could have happened."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from amends.aggregate import Aggregate, Aggregates
from amends.messages import Command, Event

__all__ = ["World"]

Any_ = Aggregate[Any, Any]


class World:
    """States of streams, kept as long as somebody has a use for them.

    Claims are not checked: the story never uses an id or an address twice.

    Args:
        aggregates: the classes whose commands are decided.
    """

    def __init__(self, aggregates: Iterable[type[Any_]]) -> None:
        self._aggregates = Aggregates(aggregates)
        self.states: dict[str, tuple[Any_, int]] = {}

    def decide(self, command: Command) -> tuple[str, int, list[Event]]:
        """Decide a command and remember what came of it.

        Args:
            command: what is wanted.

        Returns:
            the stream, its version after the events, and the events.

        Raises:
            Refused: a rule says no.
        """
        aggregate = self._aggregates.of(command)
        stream = aggregate.stream_of(command)
        state, version = self.states.get(stream) or (aggregate(), 0)
        events = [item for item in state.decide(command) if isinstance(item, Event)]
        if events:
            version += len(events)
            self.states[stream] = state.replay(events), version
        return stream, version, events

    def forget(self, streams: Iterable[str]) -> None:
        """Let streams go to which nothing more happens."""
        for stream in streams:
            self.states.pop(stream, None)
