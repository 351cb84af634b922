"""What travels with a command and comes back from it: context, position, receipt, recorded event."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeVar
from uuid import UUID

from pydantic import Field

from amends.errors import InvalidInput, Refused
from amends.messages import Command, Event
from amends.policies import Policy
from amends.values import Value

__all__ = ["REASON", "START", "Context", "Position", "Receipt", "Recorded", "Refusal", "UndoStep"]

REASON = "{reason}"
"""Stands in a recorded undo for why the saga turns back, which nobody knows when the undo is registered."""


class Position(NamedTuple):
    """A place in the feed: the transaction that wrote an event, then the event's number; compares in feed order."""

    xid: int
    number: int

    def __str__(self) -> str:
        return f"{self.xid}:{self.number}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read what `str(position)` wrote.

        Raises:
            InvalidInput: the text is not two whole numbers with a colon between them.
        """
        found = _POSITION.fullmatch(text) if isinstance(text, str) else None
        if found is None or max(int(found[1]), int(found[2])) >= 2**63:
            raise InvalidInput({"position": f"{repr(text)[:50]} is no position; they look like 1042:7"})
        return cls(int(found[1]), int(found[2]))


C = TypeVar("C", bound=Command)

_POSITION = re.compile("([0-9]{1,19}):([0-9]{1,19})")
"""The one way in which they are written."""

START = Position(0, 0)
"""Before the first event."""


class UndoStep(Value):
    """What takes a step of a saga back, as data: it can be done by whoever reads it, also when the saga is gone.

    Args:
        id: its command id, the same whoever does it and for whatever reason, so that it acts once.
        undoes: id of the step it takes back.
        title: of that step, for people.
        name: of the command or activity.
        data: the command's fields, or the activity's argument; `{reason}` in it stands for why.
        call: leaves the house; a command otherwise.
        policy: limits of a call other than those of every call.
        last: waits until all that was done later is undone.
    """

    id: str
    undoes: str
    title: str
    name: str
    data: Any
    call: bool = False
    policy: Policy | None = None
    last: bool = False

    def input(self, reason: str) -> Any:
        """The data, told why the saga turns back."""
        return _filled(self.data, reason)


class Context(Value):
    """Who wants a command done, on whose behalf, and under which id it may act once.

    Args:
        command_id: the identity of the intent; a repeat gets the recorded outcome.
        actor: person, service or saga that asks.
        correlation_id: shared by all that belongs to one piece of business.
        causation_id: what led to this command: an event, a workflow, a request.
        workflow_id: the workflow that dispatched it, if one did.
        run_id: which run of it.
        trace: W3C traceparent, if there is one.
        labels: business keys for the log lines of whoever handles it.
        step: title of the saga's step that it is, if it is one.
        kind: whether that goes forward or takes something back.
        undo: what takes it back, kept with it in the command log.
        undoes: id of the step that it takes back.
        pivot: once it is done, the saga only goes forward.
        guarded: it must not be done any more once its saga has been ended from outside.
    """

    command_id: str
    actor: str
    correlation_id: str
    causation_id: str
    workflow_id: str | None = None
    run_id: str | None = None
    trace: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    step: str | None = None
    kind: Literal["step", "undo"] | None = None
    undo: UndoStep | None = None
    undoes: str | None = None
    pivot: bool = False
    guarded: bool = False

    def within_step(self) -> Context:
        """For commands that an activity sends on behalf of the step it is: they belong to it, but are none."""
        return self.model_copy(update={"kind": None, "undo": None, "undoes": None, "pivot": False, "guarded": False})


class Refusal(Value):
    """A rule's no, as recorded: its stable name, the sentence, the facts."""

    name: str
    message: str
    facts: dict[str, Any]

    @classmethod
    def of(cls, refused: Refused) -> Refusal:
        """Record a refusal that was raised."""
        return cls(name=refused.name, message=refused.message, facts=refused.facts)

    def error(self) -> Refused:
        """The refusal to raise again: its own class where that is imported, else a plain `Refused` of its name."""
        return Refused.recall(self.name, self.message, self.facts)


class Receipt(Value):
    """What became of a command.

    Args:
        name: the command's message name.
        outcome: done, refused, or skipped by somebody who repaired the saga.
        position: where its events (or, with none, the latest before it) stand in the feed.
        version: the stream's version after it.
        refusal: why not, when refused.
        repeated: the command id had been seen before, so this is what was recorded then.
        recorded: the command as it was recorded then, personal fields masked.
        attempt: which attempt of the activity got through, from 1.
    """

    name: str
    outcome: Literal["done", "refused", "skipped"]
    stream: str
    version: int
    position: Position
    refusal: Refusal | None = None
    repeated: bool = False
    recorded: dict[str, Any] | None = None
    attempt: int = 1

    def first(self, command: C) -> C:
        """The command that acted: this one, or the one first sent under its id, which may have said something else.

        Args:
            command: the one sent now.
        """
        return command if self.recorded is None else type(command)(**self.recorded)

    def raise_refusal(self) -> Receipt:
        """The receipt itself, when the command was done.

        Raises:
            Refused: the recorded refusal, when it was not.
        """
        if self.refusal is not None:
            raise self.refusal.error()
        return self


class Recorded(NamedTuple):
    """An event as the log holds it, with where, when, why and by whom it was written."""

    event: Event
    position: Position
    stream: str
    version: int
    event_id: UUID
    command_id: str
    correlation_id: str
    causation_id: str
    actor: str
    trace: str | None
    recorded_at: datetime


def _filled(data: Any, reason: str) -> Any:
    match data:
        case str():
            return data.replace(REASON, reason)
        case dict():
            return {key: _filled(part, reason) for key, part in data.items()}
        case list():
            return [_filled(part, reason) for part in data]
        case _:
            return data
