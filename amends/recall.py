"""Recalling a process that an event had started and somebody ended before it had done anything."""

from __future__ import annotations

from contextlib import suppress

from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.common import (
    RawValue,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError

from amends.visibility import MEMO, SAGA_STATUS, SagaMemo, business_keys

__all__ = ["recall"]


async def recall(client: Client, ended: WorkflowExecutionDescription, memo: SagaMemo, reason: str) -> None:
    """Begin a reaction anew, cancelled from its beginning.

    What it was to look after stands since the event, whether or not it has begun: goods are held before their lease
    is. Its log is empty, so its own story has to say what is done when it is not to go on: it comes to its first step,
    does not do it, and undoes it. If the ended run does that step late after all, it finds it undone. So the story of
    a reaction that takes something over begins with a step whose undo gives it back, before it asks anything.

    Args:
        client: connected to Temporal.
        ended: its latest run.
        memo: of that run.
        reason: why it is cancelled.
    """
    history = await client.get_workflow_handle(ended.id, run_id=ended.run_id).fetch_history()
    given = history.events[0].workflow_execution_started_event_attributes.input.payloads
    with suppress(WorkflowAlreadyStartedError):  # it goes on already
        await client.start_workflow(
            ended.workflow_type,
            args=await client.data_converter.decode(given, [RawValue] * len(given)),
            id=ended.id,
            task_queue=ended.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            memo={MEMO: memo.model_copy(update={"cancelled": reason})},
            search_attributes=TypedSearchAttributes(
                [*business_keys(ended.typed_search_attributes), SearchAttributePair(SAGA_STATUS, "Running")]
            ),
            static_summary=await ended.static_summary(),
        )
