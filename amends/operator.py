"""What an operator does with sagas: look at them, repair what is parked, cancel, sweep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from temporalio.client import (
    Client,
    RPCError,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
    WorkflowUpdateStage,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCStatusCode

from amends.compensation import compensation_id
from amends.errors import AmendsError, InvalidInput, NoAnswer, SagaEnded, SagaError, UnknownSaga
from amends.listing import ListedSaga, listed_sagas
from amends.outages import temporal_away
from amends.repair import Repair, SagaView
from amends.steps import refusal_in
from amends.sweep import begin_sweep
from amends.values import bad_texts
from amends.visibility import FINAL, SAGA_STATUS

__all__ = ["Operator"]


_ENDED = ("already completed", "closing workflow")
"""How Temporal says of a workflow it did not find that it has ended: before a request, or while that was on its way."""

LONGEST = 900
"""Most characters of a saga's id: Temporal takes 1000, with what goes before it where it is compensated."""

PATIENCE = 10.0
"""Seconds in which a worker that is there has answered."""

SWEEPING = 300.0
"""Seconds in which a sweep that has begun is waited for."""

UNTOUCHED = 2
"""Events of a workflow that no worker has taken up: its start, and the task that waits for one."""

_UNANSWERED = (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED, RPCStatusCode.FAILED_PRECONDITION)


class Operator:
    """Sagas, from an operator's chair.

    Args:
        temporal: connected to the server.
        task_queue: whose sagas are meant.
    """

    def __init__(self, temporal: Client, task_queue: str) -> None:
        self._temporal, self._queue = temporal, task_queue

    def sagas(self, status: str | None = None, limit: int = 50) -> AsyncIterator[ListedSaga]:
        """The latest sagas, newest first.

        Args:
            status: only those of this `SagaStatus`; one that is not final is that of running workflows alone.
            limit: most to look at.
        """
        return listed_sagas(self._temporal, self._queue, status, limit)

    async def view(self, saga_id: str) -> SagaView:
        """A saga as it answers itself; the compensation of one that was ended answers for it.

        Raises:
            UnknownSaga: there is none.
            InvalidInput: nothing can have that id.
            NoAnswer: no worker answers in time.
            Unavailable: Temporal does not answer.
        """
        try:
            handle = self._temporal.get_workflow_handle(await self._at(saga_id))
            async with asyncio.timeout(PATIENCE):
                answer = await handle.query("saga", result_type=SagaView)
        except TimeoutError as error:
            raise NoAnswer(self._nobody(saga_id)) from error
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
            BeingCancelled: somebody cancels it already.
            SagaEnded: it has ended.
            UnknownSaga: there is none.
            InvalidInput: the input does not fit the step, or nothing can have that id.
            NoAnswer: no worker answers in time; what was asked for may still be done.
            Unavailable: Temporal does not answer.
        """
        wanted, accepted = f"{type(request).__name__} of {saga_id}", False
        try:
            handle = self._temporal.get_workflow_handle(await self._at(saga_id))
            async with asyncio.timeout(PATIENCE):
                update = await handle.start_update(request.update, request, wait_for_stage=WorkflowUpdateStage.ACCEPTED)
                accepted = True
                await update.result()
        except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError) as error:
            hope = (
                "it is accepted, and will be done if it still can be"
                if accepted
                else "it may be done all the same, once one does"
            )
            raise NoAnswer(f"{self._nobody(saga_id)}. {wanted}: {hope}; `amends saga show` tells then") from error
        except WorkflowUpdateFailedError as error:
            refusal = refusal_in(error.cause)
            if refusal is not None:
                raise refusal.error() from error
            if isinstance(error.cause, ApplicationError) and error.cause.type == InvalidInput.__name__:
                raise InvalidInput({"input": error.cause.message}) from error
            raise SagaError(f"{saga_id} was not repaired: {error.cause}") from error
        except RPCError as error:
            raise self._failure(error, saga_id, wanted) from error

    async def sweep(self) -> list[str]:
        """Find sagas that were ended from outside, and have them put right; gives their workflow ids.

        Raises:
            NoAnswer: no worker takes it up in time, or it takes very long; it will be done all the same.
            SagaError: it failed.
            Unavailable: Temporal does not answer.
        """
        try:
            sweep = await begin_sweep(self._temporal, self._queue)
            found = asyncio.ensure_future(sweep.result())
            try:
                done, _ = await asyncio.wait([found], timeout=PATIENCE)
                if not done and (await sweep.describe()).history_length <= UNTOUCHED:
                    raise NoAnswer(f"{self._nobody(sweep.id)}. The sweep waits there, and is done as soon as one does")
                return await asyncio.wait_for(found, SWEEPING)
            finally:
                found.cancel()
        except TimeoutError as error:
            raise NoAnswer(f"{sweep.id} is not done within {SWEEPING:g} s; it goes on by itself") from error
        except WorkflowFailureError as error:
            raise SagaError(f"{sweep.id} failed: {error.cause}") from error
        except RPCError as error:
            raise temporal_away(error, wanted="the sweep; it may be asked for again") from error

    async def _at(self, saga_id: str) -> str:
        """The workflow that answers for a saga: itself, or its compensation where it was ended and is being undone."""
        if problems := bad_texts(saga_id, "saga_id"):
            raise InvalidInput(problems)
        if not 0 < len(saga_id) <= LONGEST:
            raise InvalidInput({"saga_id": f"an id has 1 to {LONGEST} characters"})
        compensation = await self._described(compensation_id(saga_id))
        if compensation is None:
            return saga_id
        if compensation.status == WorkflowExecutionStatus.RUNNING:
            return compensation.id
        saga = await self._described(saga_id)
        if saga is None:
            return compensation.id
        running = saga.status == WorkflowExecutionStatus.RUNNING
        sent_on = running or saga.typed_search_attributes.get(SAGA_STATUS) in FINAL
        return saga_id if sent_on else compensation.id

    async def _described(self, workflow_id: str) -> WorkflowExecutionDescription | None:
        """The latest run of a workflow, if there is any."""
        try:
            return await self._temporal.get_workflow_handle(workflow_id).describe()
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            return None

    def _nobody(self, saga_id: str) -> str:
        where = f"one polls the task queue {self._queue!r}, and has its database"
        return f"No worker answers for {saga_id} within {PATIENCE:g} s; see whether {where}"

    def _failure(self, error: RPCError, saga_id: str, wanted: str | None = None) -> AmendsError:
        if error.status == RPCStatusCode.NOT_FOUND and not error.message.startswith("Namespace"):
            ended = any(words in error.message for words in _ENDED)
            return SagaEnded(saga=saga_id) if ended else UnknownSaga(saga=saga_id)
        if error.status in _UNANSWERED:
            return NoAnswer(self._nobody(saga_id))
        return temporal_away(error, wanted=wanted and f"{wanted}; `amends saga show` tells")
