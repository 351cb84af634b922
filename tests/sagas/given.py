"""What the tests of sagas share: waiting for a condition, and looking at a saga from outside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import psycopg
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from amends.visibility import SAGA_STATUS
from amends.worker import RUNNER

T = TypeVar("T")
Handle = WorkflowHandle[Any, Any]


async def until(what: str, condition: Callable[[], Awaitable[T]], seconds: float = 20.0) -> T:
    """Wait until the condition gives something true, and return it."""
    deadline = time.monotonic() + seconds
    while not (outcome := await condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.01)
    return outcome


async def until_true(what: str, condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until the condition in this process is true."""

    async def asked() -> bool:
        return condition()

    await until(what, asked, seconds)


async def rows(url: str, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Ask the database as its owner."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        return await (await connection.execute(query.encode(), values)).fetchall()


async def saga_status(handle: Handle) -> str | None:
    """Where a saga stands, as lists in Temporal show it."""
    return (await handle.describe()).typed_search_attributes.get(SAGA_STATUS)


async def details(handle: Handle) -> str:
    """The current details, as the Web UI asks for them."""
    metadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    assert isinstance(metadata, WorkflowMetadata)
    return metadata.current_details


async def story(handle: Handle) -> list[str]:
    """The timeline's lines: step and result, oldest first."""
    lines = [line.split(" | ") for line in (await details(handle)).splitlines()[4:]]
    return [f"{step}: {result}" for _, step, result, _, _ in lines]


async def failed_tasks(handle: Handle) -> int:
    """How often a workflow task has failed."""
    events = (await handle.fetch_history()).events
    return sum(event.HasField("workflow_task_failed_event_attributes") for event in events)


async def reset(client: Client, handle: Handle) -> None:
    """Let a workflow begin again, right after its start."""
    events = (await handle.fetch_history()).events
    first = next(event.event_id for event in events if event.HasField("workflow_task_completed_event_attributes"))
    description = await handle.describe()
    await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=handle.id, run_id=description.run_id),
            reason="to see what happens",
            workflow_task_finish_event_id=first,
            request_id=f"reset-{handle.id}",
        )
    )


async def replays(handles: Sequence[Handle], workflows: Sequence[type]) -> None:
    """Assert that histories replay: that the workflows' code is deterministic."""
    replayer = Replayer(workflows=workflows, workflow_runner=RUNNER, data_converter=pydantic_data_converter)
    for handle in handles:
        await replayer.replay_workflow(await handle.fetch_history())
