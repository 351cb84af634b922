"""Where faults get in: around each activity that runs a step of a saga, and at the limits that a workflow gives it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Literal

from temporalio import activity, workflow
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
    StartActivityInput,
    StartChildWorkflowInput,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from amends.messages import Command
from amends.records import Context
from amends.testing.faults.table import Point, Step

__all__ = ["Injector", "Limits", "Meeting", "Plan"]


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
        kind: Literal["command", "call"] = "command" if isinstance(argument, Command) else "call"
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


class Injector(Interceptor):
    """A worker's interceptor that makes go wrong what is planned; other workflows don't notice it."""

    def __init__(self) -> None:
        self._plans: dict[str, Plan] = {}

    def plan(self, saga_id: str, key: str) -> Plan:
        """A new plan for a saga that has not started yet."""
        plan = self._plans[saga_id] = Plan(saga_id, key)
        return plan

    def drop(self, plan: Plan) -> None:
        """Forget a saga."""
        self._plans.pop(plan.saga_id, None)

    def of(self, saga_id: str | None) -> Plan | None:
        """The plan of a saga, if there is one."""
        return None if saga_id is None else self._plans.get(saga_id)

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Come between the worker and the activity."""
        return _Steps(next, self)

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        """Come between the workflow and what it asks for."""
        injector = self

        class Shortening(WorkflowInboundInterceptor):
            def init(self, outbound: WorkflowOutboundInterceptor) -> None:
                super().init(_Limiting(outbound, injector))

        return Shortening


def _context(args: Any) -> Context | None:
    return next((each for each in args if isinstance(each, Context)), None)


class _Steps(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, injector: Injector) -> None:
        super().__init__(next)
        self._injector = injector

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        """Let the step act, or what is planned happen."""
        context = _context(input.args)
        plan = self._injector.of(context.correlation_id if context else None)
        if plan is None or context is None:
            return await self.next.execute_activity(input)
        plan.running += 1
        try:
            point = Point.of(context, plan.key)
            act = partial(self.next.execute_activity, input)
            if point is None:
                return await act()
            plan.saw(point, input.args[0], context)
            plan.reached.add(point)
            plan.times[point] += 1
            fault = plan.faults.get(point)
            if fault is None:
                return await act()
            return await fault(Meeting(plan, point, act, plan.times[point], "/again" in context.command_id))
        finally:
            plan.running -= 1


class _Limiting(WorkflowOutboundInterceptor):
    """Shortens the limits of what is going to hang, the first time it is asked for."""

    def __init__(self, next: WorkflowOutboundInterceptor, injector: Injector) -> None:
        super().__init__(next)
        self._injector = injector
        self._done: set[Point] = set()

    def start_activity(self, input: StartActivityInput) -> Any:
        limits = self._shorten(input)
        if limits is not None and limits.silence is not None:
            if input.heartbeat_timeout is not None:
                input.heartbeat_timeout = limits.silence
            else:
                input.start_to_close_timeout = limits.silence
        return super().start_activity(input)

    def start_local_activity(self, input: StartLocalActivityInput) -> Any:
        self._shorten(input)
        return super().start_local_activity(input)

    async def start_child_workflow(self, input: StartChildWorkflowInput) -> Any:
        root = workflow.info().root
        plan = self._injector.of(root.workflow_id if root else workflow.info().workflow_id)
        if plan is not None and None in plan.limits:
            input.task_timeout = plan.limits[None].task
        return await super().start_child_workflow(input)

    def _shorten(self, input: StartActivityInput | StartLocalActivityInput) -> Limits | None:
        context = _context(input.args)
        plan = self._injector.of(context.correlation_id if context else None)
        point = Point.of(context, plan.key) if context and plan else None
        if plan is None or point is None:
            return None
        limits = plan.limits.get(None)
        if point in plan.limits and point not in self._done:
            self._done.add(point)
            limits = plan.limits[point]
        if limits is not None and limits.longest is not None:
            if input.schedule_to_close_timeout is not None:
                input.schedule_to_close_timeout = limits.longest
            else:
                input.start_to_close_timeout = limits.longest
        return limits
