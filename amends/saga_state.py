"""What a saga knows of itself while it runs; rebuilt by replay, never stored."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from amends.outcomes import SagaUndone
from amends.records import START, Position
from amends.steps import Step
from amends.visibility import Entry, SagaMemo, SagaStatus

__all__ = ["Registered", "Run", "Undo"]

Undo = Step | Callable[[str], Step]
"""What takes a step back: a command or call, or a function of the reason that gives one."""


@dataclass(slots=True, eq=False)
class Registered:
    """An undo on the stack."""

    title: str
    undo: Undo
    path: str


@dataclass(slots=True)
class Run:
    """What a saga shares with the sub-processes mounted inside it.

    Args:
        memo: what its caller said.
        undos: registered, oldest first.
        stuck: what could not be undone, or not be done after the pivot, in words.
        entries: the timeline.
        used: how often each name was used, to number repeats.
        interruptible: durable steps under way, which a cancellation gives up.
        interrupting: is about to do so.
        given_up: those that were; however they end, it is for the cancellation.
        failure: why it turned back.
        cancelled: the reason, once somebody wants it stopped.
        forward_only: past its pivot.
        position: of its latest event in the feed.
    """

    memo: SagaMemo
    undos: list[Registered] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    used: Counter[str] = field(default_factory=Counter)
    interruptible: set[asyncio.Future[Any]] = field(default_factory=set)
    interrupting: asyncio.Future[None] | None = None
    given_up: set[asyncio.Future[Any]] = field(default_factory=set)
    status: SagaStatus = "Running"
    failure: SagaUndone | None = None
    cancelled: str | None = None
    forward_only: bool = False
    position: Position = START
