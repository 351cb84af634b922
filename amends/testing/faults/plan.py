"""What is to go wrong in a saga, what has been seen of it, and how its steps meet that."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from amends.messages import Command
from amends.records import Context
from amends.testing.faults.points import Point, Step

__all__ = ["DIES", "TIMES_OUT", "Limits", "Meeting", "Plan"]


@dataclass(frozen=True)
class Limits:
    """Times of a step that are made shorter, for real time has to pass when something hangs or a worker is dead.

    Args:
        longest: that all attempts together take; of each attempt where they have no deadline.
        silence: until an activity of a dead worker is given to another.
        task: until a workflow task of a dead worker is given to another.
    """

    longest: timedelta | None = None
    silence: timedelta | None = None
    task: timedelta | None = None


TIMES_OUT = Limits(longest=timedelta(seconds=0.5))
"""Of a step that hangs: while it does, no time can be skipped."""

DIES = Limits(silence=timedelta(seconds=3), task=timedelta(seconds=5))
"""Of every step whose worker is going to die."""


@dataclass(eq=False)
class Plan:
    """What is to go wrong in one saga, and what has been seen of it.

    Args:
        saga_id: its workflow.
        key: what its ids are made of.
        faults: what happens at a point instead of just the step.
        limits: shorter times for the first round at a point; those of None hold for every step.
        cancel: cancels the saga.
        withdraw: cancels it in the application's way.
        terminate: terminates its workflow.
        steps: what was seen, in order.
        reached: the points that it has come to.
        running: activities that are at work.
        mended: what went wrong does so no longer.
        let_go: whatever hangs may end.
        late: what acts only after that.
    """

    saga_id: str
    key: str
    faults: dict[Point, Callable[[Meeting], Awaitable[Any]]] = field(default_factory=dict)
    limits: dict[Point | None, Limits] = field(default_factory=dict)
    cancel: Callable[[], Awaitable[None]] | None = None
    withdraw: Callable[[], Awaitable[None]] | None = None
    terminate: Callable[[], Awaitable[None]] | None = None
    steps: dict[Point, Step] = field(default_factory=dict)
    reached: set[Point] = field(default_factory=set)
    times: Counter[Point] = field(default_factory=Counter)
    running: int = 0
    mended: bool = False
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    late: list[asyncio.Future[Any]] = field(default_factory=list)

    def saw(self, point: Point, argument: object, context: Context) -> None:
        """Write down that something was done at a point, what kind of thing it was, and by what it was undone."""
        ours = isinstance(argument, Command) or activity.info().is_local  # what only reads is as near as a command
        kind: Literal["command", "call"] = "command" if ours else "call"
        undo = activity.info().activity_type if point.undo else None
        self.steps.setdefault(point, Step(point.where, kind, context.pivot, undo))

    async def finish(self) -> None:
        """Let go of what hangs and wait until nothing of the saga is at work any more."""
        self.let_go.set()
        while self.late:
            await asyncio.gather(*self.late, return_exceptions=True)
            self.late = [each for each in self.late if not each.done()]


@dataclass(eq=False)
class Meeting:
    """A step that is about to act, at a point where something is to go wrong.

    Args:
        plan: of the saga.
        point: where.
        act: lets the step act.
        nth: which time it comes here, from 1.
        again: a person has looked at it and lets it be tried again.
    """

    plan: Plan
    point: Point
    act: Callable[[], Awaitable[Any]]
    nth: int
    again: bool

    def hangs(self) -> bool:
        """Whether it hangs this time, if it is to: the first time, and where it has a deadline, that has passed then.

        Raises:
            ApplicationError: the deadline has passed, which a local activity may overlook when both end at once.
        """
        if self.nth > 1 and activity.info().schedule_to_close_timeout is not None and not self.plan.mended:
            raise ApplicationError("it has timed out", non_retryable=True, category=ApplicationErrorCategory.BENIGN)
        return self.nth == 1
