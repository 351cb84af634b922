"""What a workflow has cost in Temporal: events of its history, and what its operators' cloud would bill for them."""

from __future__ import annotations

from dataclasses import dataclass

from temporalio.api.enums.v1 import EventType

from amends.connect import connect
from amends.settings import Settings

__all__ = ["History", "history_of"]

BILLED = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
    EventType.EVENT_TYPE_TIMER_STARTED,
    EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
    EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED,
}
"""One action each."""


@dataclass(frozen=True)
class History:
    """Of one workflow.

    Args:
        events: in its history.
        actions: of those that are billed; the local activities of one workflow task count as one. Retries that leave
            no event and reads from outside are not in it.
    """

    events: int
    actions: int


async def history_of(temporal: str, workflow_id: str) -> History:
    """Read a workflow's history.

    Args:
        temporal: the server's address.
        workflow_id: of a workflow that has ended.
    """
    client = await connect(Settings(temporal_address=temporal))
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    tasks = {
        event.marker_recorded_event_attributes.workflow_task_completed_event_id
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_MARKER_RECORDED
    }
    billed = sum(event.event_type in BILLED for event in history.events)
    return History(len(history.events), billed + len(tasks))
