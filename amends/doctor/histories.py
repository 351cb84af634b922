"""What a workflow's history says was done, to be compared with what the log says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import History, HistoryEvent
from temporalio.client import Client, WorkflowHandle
from temporalio.converter import DataConverter

from amends.records import START, Position

__all__ = ["Done", "Told", "told_by"]

_LOCAL = "core_local_activity"
"""Name of the marker that a command leaves: its result, but not its command id."""


@dataclass(frozen=True, slots=True)
class Done:
    """A command that a history holds the receipt of.

    Args:
        name: of the command.
        stream: where it went.
        version: of the stream, after it.
    """

    name: str
    stream: str
    version: int


@dataclass(slots=True)
class Told:
    """What a history tells.

    Args:
        commands: that were done or refused.
        ids: command ids of the activities that have come to their end.
        children: child workflows that it has started.
        latest: the latest place in the feed that it knows of.
        forward: it has come to its pivot, so that it only goes forward.
    """

    commands: list[Done] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    latest: Position = START
    forward: bool = False


async def told_by(client: Client, workflow_id: str, run_id: str) -> Told:
    """Read the history of a run.

    Args:
        client: connected to Temporal.
        workflow_id: the workflow.
        run_id: which run of it.
    """
    handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(workflow_id, run_id=run_id)
    history = await handle.fetch_history()
    return await _told(History(events=history.events), client.data_converter)


async def _told(history: History, converter: DataConverter) -> Told:
    told, sent = Told(), dict[int, str]()
    for event in history.events:
        if event.HasField("marker_recorded_event_attributes"):
            marker = event.marker_recorded_event_attributes
            if marker.marker_name == _LOCAL and "result" in marker.details:
                _receipt(told, await _values(converter, marker.details["result"].payloads))
        elif event.HasField("activity_task_scheduled_event_attributes"):
            given = await _values(converter, event.activity_task_scheduled_event_attributes.input.payloads)
            if len(given) > 1 and isinstance(given[1], dict) and given[1].get("command_id"):
                sent[event.event_id] = given[1]["command_id"]
                told.forward |= bool(given[1].get("pivot"))
        elif event.HasField("activity_task_completed_event_attributes"):
            await _completed(told, event, sent, converter)
        elif event.HasField("child_workflow_execution_started_event_attributes"):
            told.children.append(event.child_workflow_execution_started_event_attributes.workflow_execution.workflow_id)
    return told


async def _completed(told: Told, event: HistoryEvent, sent: dict[int, str], converter: DataConverter) -> None:
    completed = event.activity_task_completed_event_attributes
    if completed.scheduled_event_id in sent:
        told.ids.append(sent[completed.scheduled_event_id])
    _receipt(told, await _values(converter, completed.result.payloads), known=completed.scheduled_event_id in sent)


def _receipt(told: Told, values: list[Any], *, known: bool = False) -> None:
    """Take the receipt of a command in; one whose id is known anyway only for its place in the feed."""
    for value in values:
        if isinstance(value, dict) and {"name", "stream", "version", "position"} <= value.keys():
            told.latest = max(told.latest, Position(*value["position"]))
            if not known:
                told.commands.append(Done(value["name"], value["stream"], value["version"]))


async def _values(converter: DataConverter, payloads: Any) -> list[Any]:
    found: list[Payload] = list(payloads)
    return await converter.decode(found) if found else []
