"""What sagas and the sweep ask of the database and of Temporal itself."""

from __future__ import annotations

from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle

from amends.database import Pool
from amends.ending import CHILD_OUTCOME, END_SAGA, RESUME_SAGA, ChildOutcome, Ended, EndedSaga, EndSaga
from amends.parking import again
from amends.records import UndoStep
from amends.repair import Abandon

__all__ = ["SagaActivities"]

FENCE = "select amends.fence(%s, %s, %s)"
"""End a saga, so that none of its steps acts any more; false when it is past its pivot."""

TURN_BACK = "select amends.turn_back(%s, %s, %s, %s)"
"""Let a saga turn back, so that none of its workers does anything new for it; false when it is past its pivot."""

FENCED = "select exists (select from amends.fences where saga = %s)"
"""Whether a saga, or a child of one, is over and undone."""

UNDOS = """
select coalesce((select r.payload -> 'undo' from amends.commands r
                 where r.correlation_id = c.correlation_id and r.name = 'saga.retry'
                   and r.payload #>> '{undo,undoes}' = c.step_id order by r.number desc limit 1), c.undo) as undo
from amends.commands c
where c.correlation_id = %(saga)s and c.kind = 'step' and c.undo is not null
  and (%(workflow)s = %(saga)s or c.workflow_id = %(workflow)s or starts_with(c.workflow_id, %(workflow)s || '/'))
  and (not exists (select from amends.commands r
                   where r.correlation_id = c.correlation_id and r.step_id = c.step_id and r.outcome = 'refused')
       or exists (select from amends.commands d
                  where d.correlation_id = c.correlation_id and d.step_id = c.step_id and d.outcome = 'done'))
  and not exists (select from amends.commands u
                  where u.correlation_id = c.correlation_id and u.undoes = c.step_id and u.outcome = 'done')
  and not exists (select from amends.commands a
                  where a.correlation_id = c.correlation_id and a.name = 'saga.abandon'
                    and a.workflow_id in (%(workflow)s, %(saga)s))
order by c.number desc
"""
"""The undos of what took effect, or may have, and has not been taken back, settled by hand or abandoned; newest first.

What somebody wanted to be tried instead of an undo takes its place: it may have been under way. A step that was done
and, when the saga began anew, refused, stands.
"""

ABANDONED = """
select actor, payload ->> 'reason' from amends.commands
where workflow_id = %s and name = 'saga.abandon' order by number desc limit 1
"""
"""Who had given a saga up, and why."""

REFUSED = """
select u.undoes, count(*), array_agg(u.step_id) from amends.commands u
where u.correlation_id = %s and u.kind = 'undo' and u.outcome = 'refused' and u.undoes = any(%s) group by 1
"""
"""Which undos of these steps were refused: their ids stand for a no, so they are tried again under others."""


class SagaActivities:
    """Built anew by every worker.

    Args:
        pool: connections of the writer role.
        client: connected to Temporal.
    """

    def __init__(self, pool: Pool, client: Client) -> None:
        self._pool, self._client = pool, client

    @activity.defn(name=END_SAGA)
    async def end(self, whom: EndSaga) -> Ended:
        """End a saga or a child of one, or let it turn back, and say what stands; a repeat says what stands by then."""
        async with self._pool.connection() as connection:
            who = (whom.actor, whom.reason)
            if whom.run_id is None:
                asking = connection.execute(FENCE, (whom.workflow_id, *who))
            else:
                asking = connection.execute(TURN_BACK, (whom.workflow_id, whom.run_id, *who))
            row = await (await asking).fetchone()
            if row != (True,):
                return Ended(forward=True)
            asked = {"saga": whom.saga_id, "workflow": whom.workflow_id}
            rows = await (await connection.execute(UNDOS, asked)).fetchall()
            undos = [UndoStep.model_validate(undo) for (undo,) in rows]
            asked_for = (whom.saga_id, [undo.undoes for undo in undos])
            rows = await (await connection.execute(REFUSED, asked_for)).fetchall()
            left = await (await connection.execute(ABANDONED, (whom.workflow_id,))).fetchone()
        refused = {step: (times, ids) for step, times, ids in rows}
        return Ended(
            forward=False,
            undos=tuple(_fresh(undo, *refused.get(undo.undoes, (0, []))) for undo in undos),
            abandoned=Abandon(actor=left[0], reason=left[1]) if left else None,
        )

    @activity.defn(name=CHILD_OUTCOME)
    async def child_outcome(self, child: str) -> ChildOutcome:
        """What became of a child that an earlier run of its parent had started, by its workflow id."""
        handle = self._client.get_workflow_handle(child)
        status = (await handle.describe()).status
        async with self._pool.connection() as connection:
            row = await (await connection.execute(FENCED, (child,))).fetchone()
        if status == WorkflowExecutionStatus.COMPLETED and row == (False,):
            return ChildOutcome(state="completed", result=await handle.result())
        return ChildOutcome(state="running" if status == WorkflowExecutionStatus.RUNNING else "lost")

    @activity.defn(name=RESUME_SAGA)
    async def resume(self, ended: EndedSaga) -> None:
        """Let a saga go on from where it was; steps that had acted are not repeated, for their ids are known."""
        handle = self._client.get_workflow_handle(ended.saga_id)
        latest = await handle.describe()
        if latest.run_id != ended.run_id or latest.status == WorkflowExecutionStatus.RUNNING:
            return  # it goes on already
        await self._client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=self._client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=ended.saga_id, run_id=ended.run_id),
                reason="ended past its pivot: it has to go on",
                workflow_task_finish_event_id=await _last_task(handle),
                request_id=f"resume-{ended.run_id}",
            )
        )


def _fresh(undo: UndoStep, times: int, refused: list[str]) -> UndoStep:
    """An undo that was refused, under an id that stands for no answer yet; the same one until it is refused again."""
    return undo.model_copy(update={"id": again(undo.id, f"refused-{times}")}) if undo.id in refused else undo


async def _last_task(handle: WorkflowHandle[object, object]) -> int:
    """The last moment at which the workflow's code had its say and no child was under way.

    What became of a child since its parent was ended would never be told to the parent's next run; it starts it again.
    """
    last, children = 0, dict[int, int]()
    async for event in handle.fetch_history_events():
        if event.HasField("workflow_task_completed_event_attributes"):
            last = event.event_id
        elif event.HasField("start_child_workflow_execution_initiated_event_attributes"):
            started = event.start_child_workflow_execution_initiated_event_attributes
            children[event.event_id] = started.workflow_task_completed_event_id
        else:
            children.pop(_child_that_ended(event), None)
    return min([last, *children.values()])


def _child_that_ended(event: HistoryEvent) -> int:
    """Which child an event says has come to its end, by the event that started it; 0 for none."""
    for outcome in ("completed", "failed", "canceled", "timed_out", "terminated"):
        field = f"child_workflow_execution_{outcome}_event_attributes"
        if event.HasField(field):  # type: ignore[arg-type]
            return int(getattr(event, field).initiated_event_id)
    return 0
