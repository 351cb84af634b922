"""What a saga knows of itself while it runs; rebuilt by replay, never stored."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from temporalio import workflow

from amends.outcomes import HandedOver, SagaUndone
from amends.records import START, Position, UndoStep
from amends.repair import Abandon, ParkedStep, Repair
from amends.turns import Turns
from amends.visibility import MEMO, Entry, SagaMemo, SagaStatus

__all__ = ["BRANCH", "Parked", "Registered", "Run", "begin_run"]


BRANCH: ContextVar[str] = ContextVar("amends_branch", default="")
"""Which of the things done side by side the code that runs belongs to; empty for the first and for none."""


@dataclass(slots=True, eq=False)
class Registered:
    """An undo on the stack.

    Args:
        title: of the step.
        path: the sub-process that it belongs to.
        undo: what to do; None for a child, whose own records say it.
        child: workflow id of a child that is to be undone by its records.
        groups: the parallel groups that the step is in.
    """

    title: str
    path: str
    undo: UndoStep | None = None
    child: str | None = None
    groups: frozenset[object] = frozenset()


@dataclass(slots=True, eq=False)
class Parked:
    """Something that waits for a person.

    Args:
        step: as people see it.
        call: whether it is an activity that leaves the house.
        undo: what is to be done, for an undo; the next one to try, once somebody has said so.
        refused: a rule said no, so it certainly had no effect.
        taken: somebody is at it.
        repair: what was decided, once that is in the log.
        update: id of the update that decided it.
    """

    step: ParkedStep
    call: bool
    undo: UndoStep | None
    refused: bool
    taken: bool = False
    repair: Repair | None = None
    update: str = ""


@dataclass(slots=True)
class Run:
    """What a saga shares with the sub-processes mounted inside it.

    Args:
        memo: what its caller said.
        workflow_id: whose steps these are; what another workflow undoes is the undone one's.
        saga_id: the outermost workflow of the saga.
        process: name of the workflow class.
        started_at: when the workflow was.
        run_id: which run of it.
        undos: registered, oldest first.
        registered: ids of all steps whose undos ever were.
        children: ids of all children that were to be undone.
        parked: what waits for a repair, by the step's id.
        settling: undos that are parked, or wait for others that are.
        handed: what could not be undone and is handed to the parent, by a child.
        abandoned: that somebody gave the saga up.
        entries: the timeline.
        used: how often each name was used, to number repeats.
        interruptible: durable steps under way, which a cancellation gives up, in the order in which they began.
        taking_back: undos under way, which only an abandon gives up.
        with_children: children under way.
        interrupting: is about to do so.
        given_up: those that were; however they end, it is for the cancellation.
        failure: why it turned back.
        turned_back_at: when.
        closing: it only writes down its end.
        coming: how many updates have come that the history does not know yet.
        cancelled: the reason, once somebody wants it stopped.
        forward_only: past its pivot.
        position: of its latest event in the feed.
        turns: in which order local activities go on.
    """

    memo: SagaMemo
    workflow_id: str
    saga_id: str
    process: str
    started_at: datetime
    run_id: str
    undos: list[Registered] = field(default_factory=list)
    registered: set[str] = field(default_factory=set)
    children: set[str] = field(default_factory=set)
    parked: dict[str, Parked] = field(default_factory=dict)
    settling: list[asyncio.Future[None]] = field(default_factory=list)
    handed: list[HandedOver] = field(default_factory=list)
    abandoned: Abandon | None = None
    entries: list[Entry] = field(default_factory=list)
    used: Counter[str] = field(default_factory=Counter)
    interruptible: dict[asyncio.Future[Any], None] = field(default_factory=dict)
    taking_back: dict[asyncio.Future[Any], None] = field(default_factory=dict)
    with_children: dict[str, None] = field(default_factory=dict)
    interrupting: asyncio.Future[None] | None = None
    given_up: set[asyncio.Future[Any]] = field(default_factory=set)
    status: SagaStatus = "Running"
    failure: SagaUndone | None = None
    turned_back_at: datetime | None = None
    closing: bool = False
    coming: int = 0
    cancelled: str | None = None
    forward_only: bool = False
    position: Position = START
    turns: Turns = field(default_factory=Turns)

    def failed_at(self) -> str:
        """The latest step that did not get done."""
        steps = [entry for entry in self.entries if entry.kind == "step" and not entry.note]
        return next((step.title for step in reversed(steps) if step.result != "done"), "")

    def count(self, kind: Literal["step", "undo"]) -> int:
        """How many steps it took, or undos it did."""
        return sum(entry.kind == kind and not entry.note for entry in self.entries)

    def id(self, name: str) -> str:
        """A step's identity: workflow id, its place in the saga, its name."""
        return f"{self.workflow_id}/{self.number(name)}"

    def number(self, name: str) -> str:
        """A name, numbered when the saga has used it before; apart for each branch of what is done side by side.

        Which branch comes first to a name is chance, and may be another in a task that is done again.
        """
        branch = BRANCH.get()
        name = f"{name}@{branch}" if branch else name
        self.used[name] += 1
        times = self.used[name]
        return f"{name}#{times}" if times > 1 else name


def begin_run() -> Run:
    """The state of a saga whose workflow begins."""
    info = workflow.info()
    memo = workflow.memo_value(MEMO, default=None, type_hint=SagaMemo) or SagaMemo()
    saga_id = info.root.workflow_id if info.root else info.workflow_id
    return Run(
        memo,
        info.workflow_id,
        saga_id,
        info.workflow_type,
        info.start_time,
        info.run_id,
        forward_only=memo.forward_only,
        cancelled=memo.cancelled,
    )
