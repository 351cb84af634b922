"""What a trace consists of: plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from amends.records import Position

__all__ = ["Asked", "Led", "Reader", "Trace", "Workflow"]


class Reader(NamedTuple):
    """How far a reader of the feed has come: that it has passed an event is known, when it did so is not.

    Args:
        name: of the projection or process manager.
        version: of its read model.
        position: up to which it has read.
        moved_at: when it last moved on.
    """

    name: str
    version: int
    position: Position
    moved_at: datetime


@dataclass(frozen=True, slots=True)
class Led:
    """An event that a command led to.

    Args:
        name: of the event.
        stream: where it stands.
        version: the stream's, after it.
        position: in the feed.
        at: when it was recorded.
        read: those whose business it is and who have passed it.
        unread: those who have not come to it yet.
        started: other pieces of business that process managers started because of it.
    """

    name: str
    stream: str
    version: int
    position: Position
    at: datetime
    read: tuple[str, ...]
    unread: tuple[str, ...]
    started: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """Something that was asked for: a step, its undo, a repair, or a command that is none of them.

    Args:
        kind: step, undo, repair (what was parked, or done about it by people), or command.
        title: in words, where they were recorded.
        name: of the command or activity.
        outcome: done, refused, or begun: a call whose answer is not known.
        refusal: name of the rule that said no.
        message: the same in words; of a repair, why.
        stream: the stream that a command went to; None for calls.
        actor: on whose behalf, or who repaired.
        attempt: which one got through, from 1.
        pivot: from here the saga only goes forward.
        started_at: when work on it began.
        ended_at: when its outcome was recorded.
        led: the events it led to.
        sent: commands that a call sent on its own behalf.
    """

    kind: Literal["step", "undo", "repair", "command"]
    title: str | None
    name: str
    outcome: Literal["done", "refused", "begun"]
    refusal: str | None
    message: str | None
    stream: str | None
    actor: str
    attempt: int
    pivot: bool
    started_at: datetime
    ended_at: datetime
    led: tuple[Led, ...]
    sent: tuple[Asked, ...] = ()


@dataclass(slots=True)
class Workflow:
    """A workflow and what it asked for, its children in their places.

    Args:
        id: of the workflow; None for commands that came from none.
        process: name of its class, once it has closed.
        status: as `views.saga_runs` has it; None when nothing in it is a step of a saga.
        reason: why it turned back, once it has closed.
        causation_id: what led to it: an event's id, where a process manager started it.
        started_at: when its first step began, or itself, once it has closed.
        ended_at: when it closed; None while it has not.
        parts: what it asked for and its child workflows, in order.
    """

    id: str | None
    process: str | None
    status: str | None
    reason: str | None
    causation_id: str
    started_at: datetime
    ended_at: datetime | None
    parts: list[Asked | Workflow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Trace:
    """All that belongs to one piece of business.

    Args:
        id: its correlation id: the id of the outermost workflow.
        workflows: those that are nobody's child.
        readers: how far the readers of the feed have come.
    """

    id: str
    workflows: Sequence[Workflow]
    readers: Sequence[Reader]
