"""The sweep: finds sagas that somebody ended from outside, and has them put right."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any
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
    WorkflowHandle,
)
from temporalio.common import (
    RetryPolicy,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)

from amends.compensation import Compensation, compensation_id
from amends.database import Connection, Pool
from amends.ending import EndedSaga
from amends.recall import recall
from amends.visibility import FINAL, MEMO, SAGA_STATUS, SagaMemo, business_keys, quoted

__all__ = [
    "Sweep",
    "SweepActivities",
    "begin_sweep",
    "brought_to_their_end",
    "compensate",
    "schedule_sweep",
    "start_sweep",
    "sweep_id",
]

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
select ended.run_id from unnest(%s::text[], %s::text[], %s::timestamptz[]) ended (saga_id, run_id, closed_at)
cross join lateral (
    select c.payload, c.recorded_at from amends.commands c
    where c.correlation_id = ended.saga_id and c.name = 'saga.close' and c.workflow_id = ended.saga_id
      and (c.payload ->> 'run_id' = ended.run_id
           or not c.payload ? 'run_id' and c.recorded_at >= ended.closed_at)
    order by c.number desc limit 1) last
where last.payload ->> 'status' <> 'Completed'
   or not exists (select from amends.fences f where f.saga = ended.saga_id)
"""
"""Which runs were brought to their end, by themselves or in their name; where the end names no run, by its time.

One that was complete may have turned back all the same, when the task was lost that was to end it.
"""

BEGUN = "select exists (select from amends.commands where correlation_id = %s and kind = 'step')"
"""Whether a saga has done anything, or tried to."""

RECALLED = (WorkflowExecutionStatus.TERMINATED, WorkflowExecutionStatus.TIMED_OUT)
"""How a reaction has to have ended to be recalled; one that ended itself would do so again."""

REASONS = {
    WorkflowExecutionStatus.TERMINATED: "terminated",
    WorkflowExecutionStatus.TIMED_OUT: "timed_out",
    WorkflowExecutionStatus.CANCELED: "cancelled_by_operator",
    WorkflowExecutionStatus.FAILED: "failed",
    WorkflowExecutionStatus.COMPLETED: "ended_too_early",
}
"""Why a saga is undone, by how it closed; a new run that has taken its place is looked at by itself."""


async def brought_to_their_end(connection: Connection, runs: Sequence[WorkflowExecution]) -> set[str]:
    """Which of these runs nothing is left to be done about, by the sagas' logs.

    Args:
        connection: of the writer role.
        runs: that have closed.

    Returns:
        their run ids.
    """
    ended = ([run.id for run in runs], [run.run_id for run in runs], [run.close_time for run in runs])
    rows = await (await connection.execute(SETTLED, ended)).fetchall()
    return {run_id for (run_id,) in rows}


async def compensate(
    client: Client, task_queue: str, ended: EndedSaga, memo: SagaMemo, keys: Sequence[SearchAttributePair[Any]] = ()
) -> None:
    """Start the compensation of a saga, unless it is under way.

    Args:
        client: connected to Temporal.
        task_queue: where it runs.
        ended: the saga.
        memo: of the saga: in whose name it is undone.
        keys: the saga's business keys, by which its compensation is found too.
    """
    await client.start_workflow(
        Compensation.run,
        ended,
        id=compensation_id(ended.saga_id),
        task_queue=task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        memo={MEMO: SagaMemo(actor=memo.actor, trace=memo.trace, labels=memo.labels)},
        search_attributes=TypedSearchAttributes([*keys, SearchAttributePair(SAGA_STATUS, "Running")]),
        static_summary=f"puts {ended.saga_id} right, which was {ended.reason}",
    )


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
        self._processes = processes
        names = ", ".join(map(quoted, processes))
        self._query = f"{ENDED} and WorkflowType in ({names}) and TaskQueue = {quoted(task_queue)}"

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
        if not self._processes:
            return  # Temporal takes no empty list
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
            settled = await brought_to_their_end(connection, page)
        return [saga for saga in page if saga.run_id not in settled]

    async def _begun(self, saga_id: str) -> bool:
        async with self._pool.connection() as connection:
            return await (await connection.execute(BEGUN, (saga_id,))).fetchone() == (True,)

    async def _compensate(self, saga: WorkflowExecution) -> bool:
        """Start the compensation of a saga, unless another run goes on; recall a reaction that had done nothing."""
        latest = await self._client.get_workflow_handle(saga.id).describe()
        if latest.run_id != saga.run_id:
            return False
        memo = await latest.memo_value(MEMO, default=SagaMemo(), type_hint=SagaMemo)
        if memo.causation is not None and saga.status in RECALLED and not await self._begun(saga.id):
            await recall(self._client, latest, memo, REASONS[saga.status] if saga.status else "")
            return True
        keys = business_keys(saga.typed_search_attributes)
        ended = EndedSaga(
            saga_id=saga.id,
            run_id=saga.run_id,
            process=saga.workflow_type,
            started_at=saga.start_time,
            reason=REASONS[saga.status] if saga.status else "",
        )
        await compensate(self._client, self._queue, ended, memo, keys)
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


def sweep_id(task_queue: str) -> str:
    """Id of the schedule of a task queue's sweeps."""
    return f"sweep@{task_queue}"


async def schedule_sweep(client: Client, task_queue: str) -> None:
    """See to it that the sweep runs every minute; a schedule that is there already is left as it is.

    Args:
        client: connected to Temporal.
        task_queue: whose sagas are looked after.
    """
    action = ScheduleActionStartWorkflow(Sweep.run, id=sweep_id(task_queue), task_queue=task_queue)
    with suppress(ScheduleAlreadyRunningError):
        await client.create_schedule(
            sweep_id(task_queue),
            Schedule(
                action=action,
                spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=EVERY)]),
                policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP),
            ),
        )


async def begin_sweep(client: Client, task_queue: str) -> WorkflowHandle[Sweep, list[str]]:
    """Have a sweep run now; the compensations that it starts go on by themselves.

    Args:
        client: connected to Temporal.
        task_queue: whose sagas are looked after.

    Returns:
        the sweep, whose result is the workflow ids of the sagas found.
    """
    return await client.start_workflow(Sweep.run, id=f"sweep-{uuid4().hex}@{task_queue}", task_queue=task_queue)


async def start_sweep(client: Client, task_queue: str) -> list[str]:
    """Sweep now, and wait for what is found; as `begin_sweep`."""
    return await (await begin_sweep(client, task_queue)).result()
