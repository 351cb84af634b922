"""How Temporal is: reachable, its namespace ready, workers polling, what has to run for ever running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from datetime import datetime, timedelta

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from amends.doctor.finding import Finding, unknown, well, wrong
from amends.outages import first_line
from amends.sweep import sweep_id

__all__ = ["HEARD_WITHIN", "Heard", "examine_temporal", "followers"]

HEARD_WITHIN = timedelta(seconds=15)
"""A follower is heard of every few seconds; what is older is no clock to go by."""

Heard = list[datetime]
"""When Temporal has heard of each follower, by its own clock."""

_LIMIT = 20
"""Questions that are on their way at a time."""


def followers(projections: Mapping[str, int], managers: Iterable[str], task_queue: str) -> list[str]:
    """The workflows that keep everything going that follows the feed.

    Args:
        projections: name → in how many partitions it runs.
        managers: names of the process managers.
        task_queue: where workers poll.
    """
    parts = [name if n == 0 else f"{name}/{n}" for name, count in projections.items() for n in range(count)]
    ids = [*(f"projection-{part}" for part in parts), *(f"process-manager-{name}" for name in managers)]
    return [f"{id}@{task_queue}" for id in ids]


async def examine_temporal(
    client: Client, task_queue: str, attributes: Collection[str], following: Collection[str], heard: Heard
) -> AsyncIterator[Finding]:
    """Look at Temporal.

    Args:
        client: connected to it.
        task_queue: where workers poll.
        attributes: names of the search attributes that sagas need.
        following: workflow ids of what is to run for ever.
        heard: gets the times at which Temporal has heard of those.
    """
    try:
        described = await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=client.namespace)
        )
    except RPCError as error:
        there = error.status is not RPCStatusCode.NOT_FOUND
        told = first_line(error) if there else f"there is no namespace {client.namespace!r}"
        advice = "see whether it runs" if there else f"temporal operator namespace create {client.namespace}"
        yield wrong("Temporal", told, f"{advice}; see AMENDS_TEMPORAL_ADDRESS and AMENDS_TEMPORAL_NAMESPACE")
        return
    kept = described.config.workflow_execution_retention_ttl.ToTimedelta()
    yield well("Temporal", f"answers; namespace {client.namespace!r} keeps what has ended for {kept.days} days")
    yield await _attributes(client, attributes)
    polled = await _pollers(client, task_queue)
    yield polled
    yield await _sweep(client, task_queue)
    yield await _followers(client, following, heard)


async def _attributes(client: Client, attributes: Collection[str]) -> Finding:
    missing = []
    for name in sorted(attributes):
        try:
            await client.count_workflows(f"`{name}` is null and WorkflowId = ''")
        except RPCError as error:
            if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                return unknown("search attributes", first_line(error))
            missing.append(name)
    if not missing:
        return well("search attributes", f"{', '.join(sorted(attributes))} are there")
    commands = "; ".join(f"temporal operator search-attribute create --name {name} --type Keyword" for name in missing)
    return wrong("search attributes", f"the namespace has no {', '.join(missing)}", commands)


async def _pollers(client: Client, task_queue: str) -> Finding:
    found: set[str] = set()
    for kind in (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY):
        described = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=client.namespace, task_queue=TaskQueue(name=task_queue), task_queue_type=kind
            )
        )
        pollers = {poller.identity for poller in described.pollers}
        if not pollers:
            told = f"nobody polls the task queue {task_queue!r}"
            return wrong("workers", told, "amends worker; or set AMENDS_TASK_QUEUE to the queue that is polled")
        found |= pollers
    return well("workers", f"{len(found)} poll the task queue {task_queue!r}")


async def _sweep(client: Client, task_queue: str) -> Finding:
    try:
        schedule = await client.get_schedule_handle(sweep_id(task_queue)).describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            return unknown("sweep", first_line(error))
        return wrong("sweep", "there is no schedule of it: sagas that are ended stay so", "start a worker anew")
    if schedule.schedule.state.paused:
        told = f"its schedule is paused: {schedule.schedule.state.note or 'nobody says why'}"
        return wrong("sweep", told, f"temporal schedule toggle --unpause --schedule-id {sweep_id(task_queue)}")
    return well("sweep", "looks for sagas that were ended from outside")


async def _followers(client: Client, following: Collection[str], heard: Heard) -> Finding:
    turns = asyncio.Semaphore(_LIMIT)

    async def runs(workflow_id: str) -> bool:
        async with turns:
            try:
                described = await client.get_workflow_handle(workflow_id).describe()
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                return False
        for activity in described.raw_description.pending_activities:
            if activity.HasField("last_heartbeat_time"):
                heard.append(activity.last_heartbeat_time.ToDatetime(described.start_time.tzinfo))
        return described.status == WorkflowExecutionStatus.RUNNING

    running = await asyncio.gather(*map(runs, following))
    missing = [workflow_id for workflow_id, is_there in zip(following, running, strict=True) if not is_there]
    if missing:
        told = f"{len(missing)} of {len(following)} don't run: {', '.join(missing[:5])}{' …' if missing[5:] else ''}"
        return wrong("followers", told, "start a worker anew: it sees to them when it starts")
    return well("followers", f"{len(following)} workflows keep read models and process managers up")
