"""The end of a saga: when nothing is parked and nobody is being answered; in its log, in lists, in the worker's log."""

from __future__ import annotations

from contextlib import suppress

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from amends.conduct import Conduct
from amends.errors import Abandoned, EndedFromOutside
from amends.outcomes import SagaUndone
from amends.saga_log import CloseSaga
from amends.saga_state import Run
from amends.shield import to_the_end
from amends.undoing import Undoing
from amends.visibility import SagaStatus

__all__ = ["bad_end", "close"]

STUCK = "StuckAfterPivot"
"""Type of the failure of a workflow that could go neither on nor back, and was settled by hand."""


async def close(run: Run, conduct: Conduct, undoing: Undoing) -> None:
    """End a saga, with its final status.

    Args:
        run: its state.
        conduct: writes the log.
        undoing: what may be parked.
    """
    await undoing.settle()
    await to_the_end(workflow.wait_condition(workflow.all_handlers_finished))
    run.closing = True
    info, failure, status = workflow.info(), run.failure, _status(run)
    entry = CloseSaga(
        saga_id=run.workflow_id,
        process=run.process,
        status=status,
        reason=failure.reason if failure else None,
        message=failure.message if failure else None,
        failed_at=run.failed_at() if failure else None,
        started_at=run.started_at,
        turned_back_at=run.turned_back_at,
        steps=run.count("step"),
        undos=run.count("undo"),
        run_id=run.run_id,
    )
    # with the status, for the task that ends the workflow may be lost, and what comes meanwhile may change the end
    entry_id, own = f"{run.workflow_id}/close/{info.run_id}/{status}", run.workflow_id == info.workflow_id
    with suppress(EndedFromOutside):  # then whoever undoes it closes it
        await conduct.record(entry, entry_id, guarded=own)
    conduct.stand(status)
    if not workflow.unsafe.is_replaying():
        import structlog  # workers have it; clients, which import workflows too, need not wait for it

        log = structlog.get_logger("amends.saga")
        log.info("saga_ended", status=status, reason=failure.reason if failure else None)


def bad_end(run: Run, undone: SagaUndone) -> ApplicationError:
    """What a saga says that did not come to its good end.

    Args:
        run: its state, closed.
        undone: why it turned back.
    """
    abandoned = run.abandoned
    if abandoned is not None:
        told = f"Abandoned by {abandoned.actor}: {abandoned.reason}. Before: {undone.message}"
        return ApplicationError(told, undone.reason, type=Abandoned.__name__, non_retryable=True)
    if run.forward_only:
        told = f"Past its pivot it could not go on, and was settled by hand: {undone.message}"
        return ApplicationError(told, undone.reason, type=STUCK, non_retryable=True)
    return SagaUndone(undone.reason, undone.message, undone.refusal, run.handed)


def _status(run: Run) -> SagaStatus:
    if run.abandoned is not None:
        return "Abandoned"
    if run.forward_only:
        return "Completed"
    return "HandedOver" if run.handed else "Compensated"
