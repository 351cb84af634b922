"""What has to be true of every saga that has ended, whatever went wrong on its way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import uuid4

from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle, WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Replayer

from amends.records import UndoStep
from amends.testing.faults.plan import Plan
from amends.testing.faults.repeating import Repeat, RepeatUndos
from amends.testing.faults.scenario import Ended
from amends.testing.faults.trial import Trial
from amends.testing.faults.waiting import until

__all__ = ["check_end", "check_undos"]

DONE_UNDOS = """
select min(c.undo::text)::jsonb from amends.commands u
join amends.commands c on c.correlation_id = u.correlation_id and c.step_id = u.undoes and c.kind = 'step'
where u.correlation_id = %s and u.kind = 'undo' and u.outcome = 'done' and c.undo is not null
group by u.undoes order by min(u.number)
"""
"""The undos that a saga has done, in order; a call has two rows in the log, which say the same."""

LED_TO = "select name from amends.events where correlation_id = %s order by position"
"""What a saga has brought about."""


async def check_end(trial: Trial, ended: Ended[Any], plan: Plan, replayer: Replayer) -> None:
    """Assert that nothing of a saga is left running, that its log agrees with Temporal, and that its histories replay.

    Args:
        trial: the saga.
        ended: how it has ended.
        plan: what was at work for it.
        replayer: of all workflows that may have taken part.
    """

    async def idle() -> bool:
        return plan.running == 0

    await until(f"nothing is at work for {trial.saga_id}", idle)
    histories = await _closed_tree(trial)
    logged = (await trial.log())[0]
    assert logged == ended.status, f"Temporal says {ended.status}, the saga's log says {logged}"
    for history in histories:
        await replayer.replay_workflow(history)


async def check_undos(trial: Trial, task_queue: str) -> None:
    """Do every undo of a saga once more, and assert that nothing comes of it.

    Args:
        trial: the saga; undone.
        task_queue: where workers are.
    """
    undos = [UndoStep.model_validate(undo) for (undo,) in await trial.world.rows(DONE_UNDOS, trial.saga_id)]
    reason = (await trial.log())[1]
    id = f"repeat-{uuid4().hex}"
    repeat = Repeat(undos=tuple(undos), reason=reason or "")
    try:
        await trial.world.client.temporal.execute_workflow(RepeatUndos.run, repeat, id=id, task_queue=task_queue)
    except WorkflowFailureError as failure:
        raise AssertionError(f"an undo can't be done twice: {failure.cause}") from failure
    events = [name for (name,) in await trial.world.rows(LED_TO, id)]
    assert not events, f"an undo that was done a second time led to {', '.join(events)}"


async def _closed_tree(trial: Trial) -> list[WorkflowHistory]:
    """The histories of a saga's workflows, all of them closed, or soon so."""
    histories, ids = [], [trial.saga_id, trial.compensation.id]
    while ids:
        handle = trial.world.client.temporal.get_workflow_handle(ids.pop())
        try:
            await until(f"{handle.id} has ended", partial(_is_closed, handle))
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                continue
            raise
        history = await handle.fetch_history()
        histories.append(history)
        ids += _children(history)
    return histories


async def _is_closed(handle: WorkflowHandle[Any, Any]) -> bool:
    description = await handle.describe()
    return description.status != WorkflowExecutionStatus.RUNNING


def _children(history: WorkflowHistory) -> Sequence[str]:
    initiated = [event.start_child_workflow_execution_initiated_event_attributes for event in history.events]
    return [each.workflow_id for each in initiated if each.workflow_id]
