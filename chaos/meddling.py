"""What somebody does in the Temporal server behind the shop's back: terminates, cancels, resets workflows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from uuid import uuid4

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client, RPCError
from temporalio.service import RPCStatusCode

from amends.compensation import compensation_id
from amends.sweep import start_sweep

__all__ = ["REASONS", "Meddling", "meddle", "terminate"]


class Meddling(StrEnum):
    """What is done to an order's workflow."""

    TERMINATE = "terminated"
    TERMINATE_PAYMENT = "its payment terminated"
    TERMINATE_TWICE = "terminated, and its compensation too"
    CANCEL = "cancelled in the server"
    RESET = "reset to its beginning"

    @property
    def ends_it(self) -> bool:
        """Whether its client can't be told the end any more; the sweep sees to it that there is one."""
        return self in (Meddling.TERMINATE, Meddling.TERMINATE_TWICE)


REASONS: Mapping[Meddling, frozenset[str]] = {
    Meddling.TERMINATE: frozenset({"terminated"}),
    Meddling.TERMINATE_PAYMENT: frozenset({"failed"}),
    Meddling.TERMINATE_TWICE: frozenset({"terminated"}),
    Meddling.CANCEL: frozenset({"cancelled_by_operator"}),
    # The run before may have started its payment, which the next one neither takes over nor starts again, so it turns
    # back; or it had turned back itself, which the next one learns from its log, if not why.
    Meddling.RESET: frozenset({"failed", "EndedFromOutside"}),
}
"""Why an order may end otherwise than completed after that."""


async def terminate(temporal: Client, workflow_id: str) -> bool:
    """Terminate a workflow; returns and raises as `meddle`."""
    return await _done(_terminate(temporal, workflow_id))


async def meddle(temporal: Client, order_id: str, what: Meddling) -> bool:
    """Do it.

    Args:
        temporal: the server.
        order_id: whose workflow.
        what: is done.

    Returns:
        whether there was anything to do it to.

    Raises:
        RPCError: the server is away; it may be done, or not.
    """
    return await _done(_DEEDS[what](temporal, f"order-{order_id}"))


async def _done(deed: Awaitable[None]) -> bool:
    try:
        await deed
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


async def _terminate(temporal: Client, id: str) -> None:
    await temporal.get_workflow_handle(id).terminate("chaos")


async def _terminate_payment(temporal: Client, id: str) -> None:
    await _terminate(temporal, f"{id}/payment")


async def _terminate_twice(temporal: Client, id: str) -> None:
    with suppress(RPCError):  # it has ended by itself, or was terminated by the attempt before this one
        await _terminate(temporal, id)
    queue = (await temporal.get_workflow_handle(id).describe()).task_queue
    await start_sweep(temporal, queue)
    await _terminate(temporal, compensation_id(id))


async def _cancel(temporal: Client, id: str) -> None:
    await temporal.get_workflow_handle(id).cancel()


async def _reset(temporal: Client, id: str) -> None:
    handle = temporal.get_workflow_handle(id)
    description = await handle.describe()
    events = (await handle.fetch_history()).events
    begun = [event.event_id for event in events if event.HasField("workflow_task_completed_event_attributes")]
    if begun:
        await temporal.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=temporal.namespace,
                workflow_execution=WorkflowExecution(workflow_id=id, run_id=description.run_id),
                reason="chaos",
                workflow_task_finish_event_id=begun[0],
                request_id=uuid4().hex,
            )
        )


_DEEDS: Mapping[Meddling, Callable[[Client, str], Awaitable[None]]] = {
    Meddling.TERMINATE: _terminate,
    Meddling.TERMINATE_PAYMENT: _terminate_payment,
    Meddling.TERMINATE_TWICE: _terminate_twice,
    Meddling.CANCEL: _cancel,
    Meddling.RESET: _reset,
}
