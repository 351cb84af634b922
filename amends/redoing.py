"""Letting a workflow begin anew, and undoing one that Temporal has forgotten: what a restore may ask for.

Beginning anew is safe: a step's command id comes from workflow id and step, so what the log knows is not done again,
and what it has lost is.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import uuid4

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.service import RPCError, RPCStatusCode

from amends.delivering import Delivery, Due
from amends.doctor.knowledge import Log
from amends.ending import EndedSaga
from amends.errors import NothingRecorded, SagaEnded, SagaError
from amends.process_manager import ProcessManager
from amends.reacting import react
from amends.settings import Settings
from amends.sweep import compensate
from amends.visibility import SAGA_STATUS, UNDONE, SagaMemo

__all__ = ["Redoing", "ended"]

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?=#\d+$|$)")

LOST = "lost"
"""Why a saga is undone whose workflow Temporal does not know; also stands for its run."""


class Redoing:
    """Begins workflows anew, and undoes what nobody goes on with.

    Args:
        client: connected to Temporal.
        log: asks the database.
        settings: task queue, and how sub-processes are mounted.
        managers: the application's process managers.
    """

    def __init__(self, client: Client, log: Log, settings: Settings, managers: Iterable[ProcessManager]) -> None:
        self._client, self._log, self._settings = client, log, settings
        self._managers = {manager.name: manager for manager in managers}

    async def redo(self, workflow_id: str, actor: str, reason: str) -> None:
        """Let a workflow begin anew under its id, whether it runs, has ended, or was an event's reaction that is lost.

        Args:
            workflow_id: the saga, the child of one, or the command.
            actor: who wants it; kept in its history.
            reason: why.

        Raises:
            SagaError: Temporal does not know it, and no event has led to it.
            RPCError: Temporal does not answer.
        """
        described = await self._described(workflow_id)
        if described is None:
            due = await self._reaction(workflow_id)
            if due is None:
                raise SagaError(
                    f"Temporal does not know {workflow_id}, nor does it come from an event, so its request is lost: "
                    "send that again under the same id, what was done is not done twice; or `amends saga undo` it"
                )
            manager = workflow_id.partition(f"-{due.fact.event_id}")[0]
            await Delivery(self._client, self._settings).deliver(manager, [due], lambda: None)
            return
        first = await _first_task(self._client.get_workflow_handle(workflow_id, run_id=described.run_id))
        if first is None:
            return  # it has not done anything yet
        await self._client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=self._client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=described.run_id),
                reason=f"begun anew by {actor}: {reason}",
                workflow_task_finish_event_id=first,
                request_id=uuid4().hex,
            )
        )

    async def undo(self, saga_id: str, actor: str, reason: str) -> None:
        """Have a saga undone by what the log knows of it, when Temporal does not know its workflow.

        Args:
            saga_id: its outermost workflow.
            actor: who wants it; the undos are done in their name.
            reason: why, for lists in Temporal.

        Raises:
            NothingRecorded: the log knows of no such saga that has not ended.
            SagaEnded: it has come to its end.
            SagaError: Temporal knows it, or it is past its pivot.
            RPCError: Temporal does not answer.
        """
        described = await self._described(saga_id)
        if described is not None and not _undone(described):
            running = described.status == WorkflowExecutionStatus.RUNNING
            verb = f"`amends saga cancel {saga_id}`" if running else "`amends saga sweep`"
            raise SagaError(f"Temporal knows {saga_id}, so it is not undone behind its back; {verb} undoes it")
        if saga_id in await self._log.closed([saga_id]):
            raise SagaEnded(saga=saga_id)
        saga = next((each for each in await self._log.open() if each.saga_id == saga_id), None)
        if saga is None:
            raise NothingRecorded(f"The log knows of no saga {saga_id!r} that has done anything")
        if saga.forward:
            raise SagaError(
                f"{saga_id} is past its pivot and only goes forward: send its request again under the same id, what "
                "was done is not done twice"
            )
        ended = EndedSaga(saga_id=saga_id, run_id=LOST, process=LOST, started_at=saga.started_at, reason=LOST)
        await compensate(self._client, self._settings.task_queue, ended, SagaMemo(actor=actor))

    async def _described(self, workflow_id: str) -> WorkflowExecutionDescription | None:
        try:
            return await self._client.get_workflow_handle(workflow_id).describe()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return None

    async def _reaction(self, workflow_id: str) -> Due | None:
        """The reaction that a workflow is by its id."""
        found = _UUID.search(workflow_id)
        manager = self._managers.get(workflow_id[: found.start() - 1]) if found else None
        row = await self._log.event(found[0]) if found and manager else None
        due: Sequence[Due] = react(manager, row) if manager and row else ()
        return next((each for each in due if each.workflow_id == workflow_id), None)


def _undone(saga: WorkflowExecutionDescription) -> bool:
    """Whether it has ended with its steps taken back, so that the log, which was restored, may know less of that."""
    return saga.status != WorkflowExecutionStatus.RUNNING and saga.typed_search_attributes.get(SAGA_STATUS) in UNDONE


async def _first_task(handle: WorkflowHandle[Any, Any]) -> int | None:
    """The first moment at which the workflow's code had its say."""
    async for event in handle.fetch_history_events():
        if event.HasField("workflow_task_completed_event_attributes"):
            return event.event_id
    return None


async def ended(client: Client, workflow_id: str, within: float) -> str | None:
    """Wait for a workflow's end, however it ends.

    Args:
        client: connected to Temporal.
        workflow_id: whose.
        within: seconds.

    Returns:
        what it failed by, "" when it went well; None when it has not come to its end in time.
    """
    try:
        await asyncio.wait_for(client.get_workflow_handle(workflow_id).result(), within)
    except TimeoutError:
        return None
    except WorkflowFailureError as error:
        return str(error.cause)
    return ""
