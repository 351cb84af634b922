"""One saga under test: started, met by what is to go wrong, put right where somebody has to, and brought to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from temporalio.client import (
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.service import RPCError, RPCStatusCode

from amends.client import shown
from amends.compensation import compensation_id
from amends.errors import Refused
from amends.repair import Retry
from amends.sweep import brought_to_their_end, start_sweep
from amends.testing.faults.fault import Fault
from amends.testing.faults.injecting import Injector
from amends.testing.faults.injections import arm
from amends.testing.faults.plan import Limits, Plan
from amends.testing.faults.points import Mount, Point
from amends.testing.faults.scenario import ACTOR, Ended, Scenario, World
from amends.testing.faults.waiting import until
from amends.visibility import MEMO, SAGA_STATUS, SagaMemo

__all__ = ["Trial"]

LOGGED = "select status, reason, ended_at from views.saga_runs where workflow_id = %s"
"""How a saga has ended, by its own log."""

STORY = "select kind, outcome, step_id from views.saga_steps where saga_id = %s order by number"
"""What a saga has done, for people who look for what went wrong."""

HEARD_SECONDS = 0.2
"""How long the application's cancellation is waited for, which can't be heard while a command is under way."""


class Trial:
    """A saga of a scenario.

    Args:
        scenario: what is asked for.
        world: with a client that mounts sub-processes in the wanted way.
        task_queue: where its workers are.
    """

    def __init__(self, scenario: Scenario[Any], world: World, task_queue: str) -> None:
        self.scenario, self.world = scenario, world
        self._queue = task_queue
        self.key = f"t{uuid4().hex[:15]}"
        self.saga_id = scenario.workflow_id(self.key)
        self.request: Any = None
        self.withdrawing: asyncio.Future[None] | None = None

    def plan(self, injector: Injector, faults: Iterable[tuple[Point, Fault]], limits: Limits | None = None) -> Plan:
        """Plan what is to go wrong.

        Args:
            injector: of the worker.
            faults: what at which point.
            limits: shorter times of every step.
        """
        plan = injector.plan(self.saga_id, self.key)
        plan.cancel, plan.withdraw, plan.terminate = self._cancel, self._withdraw, self._terminate
        if limits is not None:
            plan.limits[None] = limits
        for point, fault in faults:
            arm(plan, point, fault)
        return plan

    @property
    def handle(self) -> WorkflowHandle[Any, Any]:
        """The saga's workflow; its latest run."""
        return self.world.client.temporal.get_workflow_handle(self.saga_id)

    @property
    def compensation(self) -> WorkflowHandle[Any, Any]:
        """What puts it right when it was ended from outside."""
        return self.world.client.temporal.get_workflow_handle(compensation_id(self.saga_id))

    async def start(self, mount: Mount, task_timeout: timedelta | None = None) -> None:
        """Prepare what the saga needs, and start it."""
        self.request = await self.scenario.request(self.world, self.key)
        await self.world.client.temporal.start_workflow(
            self.scenario.process.run,
            self.request,
            id=self.saga_id,
            task_queue=self._queue,
            task_timeout=task_timeout,
            memo={MEMO: SagaMemo(actor=ACTOR, mount=mount, causation=self.key if self.scenario.reaction else None)},
            search_attributes=shown(self.scenario.attributes(self.request)),
            static_summary=self.scenario.name,
        )

    async def end(self, plan: Plan, *, parks: bool = False) -> Ended[Any]:
        """Wait for the saga's end; what parks is tried again, what was terminated is swept up.

        Args:
            plan: what goes wrong on its way.
            parks: it waits for a person on its way.
        """
        if parks:
            await until(f"{self.saga_id} needs somebody", self._needs_attention)
            plan.mended = True
            retry = Retry(actor=ACTOR, reason="the test lets it be tried again")
            await self.handle.execute_update(Retry.update, retry)
        _, last = await _ended(self.handle)
        if last.status == WorkflowExecutionStatus.TERMINATED:
            last = await self._put_right(last)
        # what was ended from outside may have come to its end all the same, which only its log can say
        lost = last.status == WorkflowExecutionStatus.TERMINATED
        status = (await self.log())[0] if lost else last.typed_search_attributes.get(SAGA_STATUS)
        return Ended(self.world, self.saga_id, self.request, status or "none")

    async def over(self) -> None:
        """Wait for the end of its workflow."""
        await _ended(self.handle)

    async def log(self) -> tuple[str, str | None, datetime]:
        """How the saga stands by its own log: status, reason, and when it ended."""
        rows = await self.world.rows(LOGGED, self.saga_id)
        status, reason, at = rows[0] if rows else ("none", None, None)
        return status, reason, at or datetime.min.replace(tzinfo=UTC)

    async def story(self) -> str:
        """What the saga has done so far, by its log."""
        lines = [f"{kind} {outcome}: {id}" for kind, outcome, id in await self.world.rows(STORY, self.saga_id)]
        return "\n  ".join([f"the saga {self.saga_id} has done", *lines])

    async def was_withdrawn(self) -> bool:
        """Whether the application's cancellation was accepted."""
        if self.withdrawing is None:
            return False
        try:
            await self.withdrawing
        except Refused:
            return False
        return True

    async def _needs_attention(self) -> bool:
        description = await self.handle.describe()
        assert description.status == WorkflowExecutionStatus.RUNNING, "it has ended, although it should have parked"
        return description.typed_search_attributes.get(SAGA_STATUS) == "NeedsAttention"

    async def _put_right(self, ended: WorkflowExecutionDescription) -> WorkflowExecutionDescription:
        """Sweep until the saga is found, and wait for what comes of that: the workflow that has had the last word."""

        async def swept() -> bool:
            await start_sweep(self.world.client.temporal, self._queue)
            return await _exists(self.compensation)

        async def settled() -> bool:
            """Whether a worker that did not know yet has brought it to its end, or another run goes on."""
            async with self.world.pool.connection() as connection:
                known = await brought_to_their_end(connection, [ended])
            return bool(known) or (await self.handle.describe()).run_id != ended.run_id

        async def found() -> bool:
            return await settled() or await swept()

        await until(f"the sweep finds {self.saga_id}", found)
        if not await _exists(self.compensation):
            return (await _ended(self.handle))[1]
        outcome, last = await _ended(self.compensation)
        return (await _ended(self.handle))[1] if outcome == "resumed" else last

    async def _cancel(self) -> None:
        await self.handle.cancel()

    async def _terminate(self) -> None:
        await self.handle.terminate("the test wants it")

    async def _withdraw(self) -> None:
        assert self.scenario.cancel is not None
        self.withdrawing = asyncio.ensure_future(self.scenario.cancel(self.world, self.request))
        await asyncio.wait({self.withdrawing}, timeout=HEARD_SECONDS)


async def _ended(handle: WorkflowHandle[Any, Any]) -> tuple[Any, WorkflowExecutionDescription]:
    """Wait until a workflow has ended and no other run has taken its place; its result, or why there is none."""
    while True:
        try:
            outcome = await handle.result()
        except WorkflowFailureError as failure:
            outcome = failure.cause
        description = await handle.describe()
        if description.status != WorkflowExecutionStatus.RUNNING:
            return outcome, description


async def _exists(handle: WorkflowHandle[Any, Any]) -> bool:
    try:
        await handle.describe()
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True
