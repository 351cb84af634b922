"""Sagas as lists show them: by what Temporal keeps of them, put right where that can no longer be true."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from temporalio.client import Client, WorkflowExecution

from amends.compensation import compensation_id
from amends.visibility import FINAL, SAGA_STATUS, SAGA_STEP, business_keys, quoted

__all__ = ["ListedSaga", "listed_sagas"]

PAGE = 100
"""Sagas that are looked up together."""


@dataclass(frozen=True)
class ListedSaga:
    """A saga as lists show it.

    Args:
        workflow_id: its workflow.
        process: name of the workflow class.
        status: its `SagaStatus`; of one that was ended from outside, that of what brings it to its end, if anything.
        step: where it turned back or parked, if it did.
        open: its workflow is running.
        started_at: when.
        ended_at: when, if it has.
        keys: its business keys.
        settled_by: the workflow that brings it to its end since it was ended from outside: its compensation, or the
            saga that it is a child of.
    """

    workflow_id: str
    process: str
    status: str
    step: str | None
    open: bool
    started_at: datetime
    ended_at: datetime | None
    keys: dict[str, Any]
    settled_by: str | None = None

    @property
    def ended_well(self) -> bool:
        """It has a final status: nothing is left to be done about it."""
        return self.status in FINAL


async def listed_sagas(
    client: Client, task_queue: str, status: str | None = None, limit: int = 50
) -> AsyncIterator[ListedSaga]:
    """The latest sagas, newest first, each by its latest run.

    What a closed workflow says of itself stays for good: one that was ended while it was parked would seem to wait for
    somebody for ever.

    Args:
        client: connected to Temporal.
        task_queue: whose sagas.
        status: only those that stand there.
        limit: most to look at.
    """
    query = f"TaskQueue = {quoted(task_queue)} and SagaStatus is not null"
    if status is not None:
        query += f" and SagaStatus = {quoted(status)}"
        query += "" if status in FINAL else " and ExecutionStatus = 'Running'"
    seen: set[str] = set()
    page: list[WorkflowExecution] = []
    async for found in client.list_workflows(query, limit=limit):
        if found.id not in seen:
            seen.add(found.id)
            page.append(found)
        if len(page) == PAGE:
            for saga in await _told(client, page):
                yield saga
            page = []
    for saga in await _told(client, page):
        yield saga


async def _told(client: Client, page: Sequence[WorkflowExecution]) -> list[ListedSaga]:
    ended = [found for found in page if found.close_time is not None and _status(found) not in FINAL]
    roots = {_root(found) for found in ended}
    latest = await _latest(client, {*roots, *map(compensation_id, roots)}) if roots else {}
    return [_listed(found, _settling(_root(found), latest) if found in ended else None) for found in page]


async def _latest(client: Client, ids: Iterable[str]) -> dict[str, WorkflowExecution]:
    """The latest run of each of these workflows."""
    latest: dict[str, WorkflowExecution] = {}
    async for found in client.list_workflows(f"WorkflowId in ({', '.join(map(quoted, sorted(ids)))})"):
        latest.setdefault(found.id, found)
    return latest


def _settling(root: str, latest: dict[str, WorkflowExecution]) -> WorkflowExecution | None:
    """What brings a saga to its end that was ended from outside: itself, where it was sent on, or its compensation."""
    itself, compensation = latest.get(root), latest.get(compensation_id(root))
    if itself is not None and _status(itself) in FINAL:
        return itself
    sent_on = compensation is not None and _status(compensation) == "Completed"
    return None if sent_on else compensation


def _listed(found: WorkflowExecution, settling: WorkflowExecution | None) -> ListedSaga:
    attributes = found.typed_search_attributes
    return ListedSaga(
        workflow_id=found.id,
        process=found.workflow_type,
        status=_status(settling or found),
        step=attributes.get(SAGA_STEP),
        open=found.close_time is None,
        started_at=found.start_time,
        ended_at=found.close_time,
        keys={pair.key.name: pair.value for pair in business_keys(attributes)},
        settled_by=settling.id if settling else None,
    )


def _root(found: WorkflowExecution) -> str:
    return found.root_id or found.id


def _status(found: WorkflowExecution) -> str:
    return found.typed_search_attributes.get(SAGA_STATUS) or ""
