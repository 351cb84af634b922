"""Where faults get in: around each activity that runs a step of a saga, and at the limits that a workflow gives it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from temporalio import workflow
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

from amends.records import Context
from amends.testing.faults.plan import Limits, Meeting, Plan
from amends.testing.faults.points import Point

__all__ = ["Injector"]


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


def _context(args: Sequence[Any]) -> Context | None:
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
            input.start_to_close_timeout = limits.longest
            if input.schedule_to_close_timeout is not None:
                input.schedule_to_close_timeout = limits.longest
        return limits
