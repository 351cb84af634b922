"""What an operator does with sagas: look at them, repair what is parked, cancel, sweep."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from temporalio.client import Client, RPCError, WorkflowExecution, WorkflowQueryFailedError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCStatusCode

from amends.compensation import compensation_id
from amends.errors import InvalidInput, NoAnswer, SagaEnded, SagaError, UnknownSaga
from amends.repair import Repair, SagaView
from amends.steps import refusal_in
from amends.sweep import start_sweep
from amends.visibility import FINAL, SAGA_STATUS, SAGA_STEP, business_keys

__all__ = ["ListedSaga", "Operator"]


@dataclass(frozen=True)
class ListedSaga:
    """A saga as lists show it.

    Args:
        workflow_id: its workflow.
        process: name of the workflow class.
        status: its `SagaStatus`; one that was terminated keeps what it had, and is closed.
        step: where it turned back or parked, if it did.
        open: its workflow is running.
        started_at: when.
        ended_at: when, if it has.
        keys: its business keys.
    """

    workflow_id: str
    process: str
    status: str
    step: str | None
    open: bool
    started_at: datetime
    ended_at: datetime | None
    keys: dict[str, Any]

    @property
    def ended_well(self) -> bool:
        """It has a final status: nothing is left to be done about it."""
        return self.status in FINAL


_ENDED = ("already completed", "closing workflow")
"""How Temporal says of a workflow it did not find that it has ended: before a request, or while that was on its way."""

_UNANSWERED = (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED, RPCStatusCode.FAILED_PRECONDITION)


class Operator:
    """Sagas, from an operator's chair.

    Args:
        temporal: connected to the server.
        task_queue: whose sagas are meant.
    """

    def __init__(self, temporal: Client, task_queue: str) -> None:
        self._temporal, self._queue = temporal, task_queue

    async def sagas(self, status: str | None = None, limit: int = 50) -> AsyncIterator[ListedSaga]:
        """The latest sagas, newest first.

        Args:
            status: only those of this `SagaStatus`.
            limit: most to list.
        """
        query = f"TaskQueue = '{self._queue}' and SagaStatus is not null"
        if status is not None:
            query += f" and SagaStatus = '{status}'"
        async for found in self._temporal.list_workflows(query, limit=limit):
            yield _listed(found)

    async def view(self, saga_id: str) -> SagaView:
        """A saga as it answers itself; the compensation of one that was ended answers for it.

        Raises:
            UnknownSaga: there is none.
            NoAnswer: no worker answers.
        """
        try:
            answer = await self._temporal.get_workflow_handle(await self._at(saga_id)).query(
                "saga", result_type=SagaView
            )
        except WorkflowQueryFailedError as error:  # it has not begun, or is no saga
            raise NoAnswer(f"{saga_id} says nothing of itself: {error}") from error
        except RPCError as error:
            raise self._failure(error, saga_id) from error
        assert isinstance(answer, SagaView)
        return answer

    async def repair(self, saga_id: str, request: Repair) -> None:
        """Repair a saga, or cancel it.

        Args:
            saga_id: its workflow id.
            request: what is to be done, by whom, why.

        Raises:
            NotParked: nothing of that name waits for it, or somebody else is at it.
            PastCancelling: it can't be cancelled any more.
            SagaEnded: it has ended.
            UnknownSaga: there is none.
            InvalidInput: the input does not fit the step.
            NoAnswer: no worker answers.
        """
        handle = self._temporal.get_workflow_handle(await self._at(saga_id))
        try:
            await handle.execute_update(request.update, request)
        except WorkflowUpdateFailedError as error:
            refusal = refusal_in(error.cause)
            if refusal is not None:
                raise refusal.error() from error
            if isinstance(error.cause, ApplicationError) and error.cause.type == InvalidInput.__name__:
                raise InvalidInput({"input": error.cause.message}) from error
            raise SagaError(f"{saga_id} was not repaired: {error.cause}") from error
        except RPCError as error:
            raise self._failure(error, saga_id) from error

    async def sweep(self) -> list[str]:
        """Find sagas that were ended from outside, and have them put right; gives their workflow ids."""
        return await start_sweep(self._temporal, self._queue)

    async def _at(self, saga_id: str) -> str:
        """The workflow that answers for a saga: itself, or its compensation where it was ended and is being undone."""
        try:
            found = await self._temporal.get_workflow_handle(compensation_id(saga_id)).describe()
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            return saga_id
        return found.id if found.typed_search_attributes.get(SAGA_STATUS) != "Completed" else saga_id

    def _failure(self, error: RPCError, saga_id: str) -> Exception:
        if error.status == RPCStatusCode.NOT_FOUND:
            ended = any(words in error.message for words in _ENDED)
            return SagaEnded(saga=saga_id) if ended else UnknownSaga(saga=saga_id)
        if error.status in (
            RPCStatusCode.DEADLINE_EXCEEDED,
            RPCStatusCode.CANCELLED,
            RPCStatusCode.FAILED_PRECONDITION,
        ):
            return NoAnswer(f"No worker answers for {saga_id}; see whether one polls the task queue {self._queue!r}")
        return error


def _listed(found: WorkflowExecution) -> ListedSaga:
    attributes = found.typed_search_attributes
    return ListedSaga(
        workflow_id=found.id,
        process=found.workflow_type,
        status=attributes.get(SAGA_STATUS) or "",
        step=attributes.get(SAGA_STEP),
        open=found.close_time is None,
        started_at=found.start_time,
        ended_at=found.close_time,
        keys={pair.key.name: pair.value for pair in business_keys(attributes)},
    )
