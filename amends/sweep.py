"""The sweep: finds sagas that somebody ended from outside, and has them put right."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import structlog
from temporalio import activity, workflow
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    WorkflowExecution,
    WorkflowExecutionStatus,
)
from temporalio.common import (
    RetryPolicy,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)

from amends.compensation import Compensation, compensation_id
from amends.database import Pool
from amends.ending import EndedSaga
from amends.visibility import FINAL, MEMO, SAGA_STATUS, SagaMemo, business_keys

__all__ = ["Sweep", "SweepActivities", "schedule_sweep", "start_sweep"]

log = structlog.get_logger("amends.sweep")

EVERY = timedelta(minutes=1)
"""How often the sweep looks."""

PAGE = 200
"""Sagas that are looked at together."""

ENDED = "ExecutionStatus != 'Running' and (SagaStatus is null or SagaStatus not in ({}))".format(
    ", ".join(f"'{each}'" for each in FINAL)
)
"""Sagas that closed without a final status; one whose compensation was ended is still among them."""

SETTLED = """
select c.workflow_id, max(c.recorded_at) from amends.commands c
where c.correlation_id = any(%s) and c.name = 'saga.close' and c.workflow_id = c.correlation_id group by 1
"""
"""When sagas were last brought to their end, by themselves or in their name."""

REASONS = {
    WorkflowExecutionStatus.TERMINATED: "terminated",
    WorkflowExecutionStatus.TIMED_OUT: "timed_out",
    WorkflowExecutionStatus.CANCELED: "cancelled_by_operator",
    WorkflowExecutionStatus.FAILED: "failed",
    WorkflowExecutionStatus.COMPLETED: "ended_too_early",
}
"""Why a saga is undone, by how it closed; a new run that has taken its place is looked at by itself."""


class SweepActivities:
    """Looks for ended sagas and starts their compensation; built anew by every worker.

    Args:
        pool: connections of the writer role.
        client: connected to Temporal.
        task_queue: where the compensations run, and whose sagas are looked at.
        processes: names of the workflows that are sagas; one that was started by hand may have no status yet.
    """

    def __init__(self, pool: Pool, client: Client, task_queue: str, processes: Sequence[str]) -> None:
        self._pool, self._client, self._queue = pool, client, task_queue
        names = ", ".join(f"'{name}'" for name in processes)
        self._query = f"{ENDED} and WorkflowType in ({names}) and TaskQueue = '{task_queue}'"

    @activity.defn(name="saga.sweep")
    async def sweep(self) -> list[str]:
        """Have every ended saga put right.

        Returns:
            workflow ids of the sagas whose compensation was started or was under way.
        """
        begun: list[str] = []
        async for page in self._pages():
            for saga in await self._unsettled(page):
                if await self._compensate(saga):
                    begun.append(saga.id)
            activity.heartbeat(len(begun))
        if begun:
            log.warning("sagas_ended_from_outside", sagas=begun)
        return begun

    async def _pages(self) -> AsyncIterator[list[WorkflowExecution]]:
        page: list[WorkflowExecution] = []
        async for found in self._client.list_workflows(self._query, page_size=PAGE):
            if found.root_id in (None, found.id) and found.status in REASONS:
                page.append(found)  # a child is its parent's to undo
            if len(page) == PAGE:
                yield page
                page = []
        yield page

    async def _unsettled(self, page: Sequence[WorkflowExecution]) -> list[WorkflowExecution]:
        """Those that nobody has brought to their end since."""
        async with self._pool.connection() as connection:
            rows = await (await connection.execute(SETTLED, ([saga.id for saga in page],))).fetchall()
        settled: dict[str, datetime] = dict(rows)
        never = datetime.min.replace(tzinfo=UTC)
        return [saga for saga in page if settled.get(saga.id, never) < (saga.close_time or never)]

    async def _compensate(self, saga: WorkflowExecution) -> bool:
        """Start the compensation of a saga, unless it goes on as another run."""
        latest = await self._client.get_workflow_handle(saga.id).describe()
        if latest.run_id != saga.run_id:
            return False
        memo = await latest.memo_value(MEMO, default=SagaMemo(), type_hint=SagaMemo)
        keys = business_keys(saga.typed_search_attributes)
        ended = EndedSaga(
            saga_id=saga.id,
            run_id=saga.run_id,
            process=saga.workflow_type,
            started_at=saga.start_time,
            reason=REASONS[saga.status] if saga.status else "",
        )
        await self._client.start_workflow(
            Compensation.run,
            ended,
            id=compensation_id(ended.saga_id),
            task_queue=self._queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            memo={MEMO: SagaMemo(actor=memo.actor, trace=memo.trace, labels=memo.labels)},
            search_attributes=TypedSearchAttributes([*keys, SearchAttributePair(SAGA_STATUS, "Running")]),
            static_summary=f"puts {ended.saga_id} right, which was {ended.reason}",
        )
        return True


@workflow.defn
class Sweep:
    """Looks once for sagas that were ended from outside."""

    @workflow.run
    async def run(self) -> list[str]:
        """Have them put right; gives their workflow ids."""
        return await workflow.execute_activity_method(
            SweepActivities.sweep,
            start_to_close_timeout=timedelta(minutes=10),
            heartbeat_timeout=timedelta(minutes=1),
            retry_policy=RetryPolicy(maximum_interval=timedelta(seconds=30)),
        )


async def schedule_sweep(client: Client, task_queue: str) -> None:
    """See to it that the sweep runs every minute; a schedule that is there already is left as it is.

    Args:
        client: connected to Temporal.
        task_queue: whose sagas are looked after.
    """
    action = ScheduleActionStartWorkflow(Sweep.run, id=f"sweep@{task_queue}", task_queue=task_queue)
    with suppress(ScheduleAlreadyRunningError):
        await client.create_schedule(
            f"sweep@{task_queue}",
            Schedule(
                action=action,
                spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=EVERY)]),
                policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP),
            ),
        )


async def start_sweep(client: Client, task_queue: str) -> list[str]:
    """Sweep now; the compensations that this starts go on by themselves.

    Args:
        client: connected to Temporal.
        task_queue: whose sagas are looked after.

    Returns:
        workflow ids of the sagas found.
    """
    return await client.execute_workflow(Sweep.run, id=f"sweep-{uuid4().hex}@{task_queue}", task_queue=task_queue)
