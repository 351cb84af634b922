"""The event store as plain dictionaries: streams, commands and claims, and what counters decide."""

from __future__ import annotations

from dataclasses import dataclass, field

from amends.messages import Command, Event
from tests.kernel.kernel_shop import Add, Added, DropName, NameDropped, NamesTaken, TakeNames

__all__ = ["Books", "Recorded"]


@dataclass
class Recorded:
    """A command as the model remembers it."""

    command: Command
    stream: str
    outcome: str
    refusal: str | None
    version: int
    events: int


@dataclass
class Books:
    """What the store should hold."""

    streams: dict[str, list[tuple[Event, str]]] = field(default_factory=dict)
    commands: dict[str, Recorded] = field(default_factory=dict)
    claims: dict[str, str] = field(default_factory=dict)
    """By value, the stream that holds it."""

    def version(self, stream: str) -> int:
        return len(self.streams.get(stream, []))

    def do(self, id: str, command: Command, stream: str) -> Recorded:
        """A command that is handled; a known one has been."""
        if id not in self.commands:
            events, refusal = self._decide(command, stream)
            if events:
                self.streams.setdefault(stream, []).extend((event, id) for event in events)
            outcome = "refused" if refusal else "done"
            version = self.version(stream)
            self.commands[id] = Recorded(command, stream, outcome, refusal, version, len(events))
        return self.commands[id]

    def refusal(self, command: Command) -> str | None:
        match command:
            case Add(amount=amount) if amount > 1000:
                return "TooMuch"
            case TakeNames(names=names, quietly=False) if any(name in self.claims for name in names):
                return "NameTaken"
        return None

    def _decide(self, command: Command, stream: str) -> tuple[list[Event], str | None]:
        if (refusal := self.refusal(command)) is not None:
            return [], refusal
        match command:
            case Add(counter_id=id, amount=amount, times=times):
                return [Added(counter_id=id, amount=amount)] * times, None
            case TakeNames(names=names, quietly=True):
                for name in names:
                    self.claims.setdefault(name, stream)
                return [], None
            case TakeNames(counter_id=id, names=names):
                self.claims |= dict.fromkeys(names, stream)
                return [NamesTaken(counter_id=id, names=names)], None
            case DropName(counter_id=id, name=name):
                if self.claims.get(name) == stream:
                    del self.claims[name]
                return [NameDropped(counter_id=id, name=name)], None
        raise AssertionError(command)
