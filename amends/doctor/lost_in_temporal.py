"""What the log knows and Temporal does not: Temporal was restored to an earlier point, or is empty."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from amends.compensation import compensation_id
from amends.delivering import Due
from amends.doctor.disagreement import Disagreement, Turn
from amends.doctor.knowledge import Log, OpenSaga
from amends.errors import UnreadableBatch
from amends.process_manager import ProcessManager, Start
from amends.reacting import react

__all__ = ["lost_in_temporal"]

AT_ONCE = 20
"""Questions to Temporal that are on their way at a time."""


async def lost_in_temporal(
    log: Log, client: Client, task_queue: str, managers: Iterable[ProcessManager], since: datetime | None
) -> AsyncIterator[Disagreement]:
    """Find sagas that nobody goes on with, and reactions that nobody remembers; arguments as for `reconcile`."""
    managers = list(managers)
    opened = await log.open()
    there = await _there(client, [each.saga_id for each in opened])
    put_right = await _there(client, [compensation_id(each.saga_id) for each in opened])
    reactions = [each async for each in _reactions(log, managers, since)]
    for saga in opened:
        if saga.saga_id not in there and compensation_id(saga.saga_id) not in put_right:
            yield _lost(saga, reaction=any(saga.saga_id.startswith(f"{manager.name}-") for manager in managers))
    ends = await log.closed([due.workflow_id for due in reactions])
    known = await _there(client, [due.workflow_id for due in reactions if due.workflow_id not in ends])
    first = next((n for n, due in enumerate(reactions) if due.workflow_id in ends.keys() | known), len(reactions))
    told = {saga.saga_id for saga in opened}
    for due in reactions if since else reactions[first:]:  # before the first one there may have been no manager
        if due.workflow_id not in ends.keys() | known | told:
            yield Disagreement(
                due.workflow_id,
                Turn.REACTIONS,
                f"{due.fact.event.message_name} at {due.fact.position} was reacted to",
                "Temporal does not know the workflow, and it had done nothing yet",
                f"amends saga redo {due.workflow_id} --actor … --reason …",
                due.fact.recorded_at,
            )


def _lost(saga: OpenSaga, *, reaction: bool) -> Disagreement:
    standing = list(saga.standing or ())
    since = f"since {saga.started_at.astimezone(UTC):%F %T} UTC"
    known = f"{since}, for {saga.actor}: {', '.join(standing) if standing else 'nothing stands'}"
    missing = "Temporal does not know it: nobody goes on with it"
    if reaction:
        advice = f"amends saga redo {saga.saga_id} --actor … --reason …"
        return Disagreement(saga.saga_id, Turn.REACTIONS, known, missing, advice, saga.started_at)
    again = "send its request again under the same id: it goes on from there, and nothing is done twice"
    if saga.forward:
        return Disagreement(saga.saga_id, Turn.WORK, f"{known}; past its pivot", missing, again, saga.started_at)
    advice = f"{again}; or amends saga undo {saga.saga_id} --actor … --reason …"
    return Disagreement(saga.saga_id, Turn.WORK, known, missing, advice, saga.started_at)


async def _reactions(log: Log, managers: Iterable[ProcessManager], since: datetime | None) -> AsyncIterator[Due]:
    """What process managers have started, by the events that they have passed."""
    for manager in managers:
        begun = since or datetime.min.replace(tzinfo=UTC)
        for row in await log.reacted(manager.name, manager.handlers.keys(), begun):
            try:
                due = react(manager, row)
            except UnreadableBatch:
                continue  # nothing came of it
            for each in due:
                if isinstance(each.reaction, Start):
                    yield each


async def _there(client: Client, workflow_ids: Iterable[str]) -> set[str]:
    """Which of these workflows Temporal knows; a compensation that has come to its end counts no more."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def there(workflow_id: str) -> bool:
        async with turns:
            try:
                described = await client.get_workflow_handle(workflow_id).describe()
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                return False
        compensated = described.workflow_type == "Compensation"
        return not compensated or described.status == WorkflowExecutionStatus.RUNNING

    ids = list(workflow_ids)
    return {id for id, known in zip(ids, await asyncio.gather(*map(there, ids)), strict=True) if known}
