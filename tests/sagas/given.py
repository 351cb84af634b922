"""What the tests of sagas share: waiting for a condition, and looking at a saga from outside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Replayer

from amends.encryption import converter
from amends.runner import RUNNER
from amends.settings import Settings
from amends.visibility import SAGA_STATUS

T = TypeVar("T")
Handle = WorkflowHandle[Any, Any]


async def until(what: str, condition: Callable[[], Awaitable[T]], seconds: float = 60) -> T:
    """Wait until the condition gives something true, and return it."""
    deadline = time.monotonic() + seconds
    while not (outcome := await condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.01)
    return outcome


async def until_true(what: str, condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until the condition in this process is true."""

    async def asked() -> bool:
        return condition()

    await until(what, asked, seconds)


async def rows(url: str, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Ask the database as its owner."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        return await (await connection.execute(query.encode(), values)).fetchall()


RECORD = """
insert into amends.commands (command_id, name, stream, payload, outcome, version, events, xid, position,
    actor, correlation_id, causation_id, attempt, started_at)
values (%s, 'none', 'none', '{}', 'done', 0, 0, pg_current_xact_id(), 0, 'test', 'none', 'none', 1, now())
"""
BLOCKED = "select exists (select from pg_stat_activity where %s = any(pg_blocking_pids(pid)))"


@asynccontextmanager
async def held(url: str, command_id: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Whoever writes the record of a command waits meanwhile; gives what waits until somebody does."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(RECORD, (command_id,))

        async def met() -> bool:
            return await rows(url, BLOCKED, connection.info.backend_pid) == [(True,)]

        async def reached() -> None:
            await until(f"{command_id} is about to be written", met)

        yield reached
        await connection.rollback()


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


async def replays(handles: Sequence[Handle], workflows: Sequence[type], settings: Settings | None = None) -> None:
    """Assert that histories replay: that the workflows' code is deterministic."""
    settings = settings or Settings()
    replayer = Replayer(workflows=workflows, workflow_runner=RUNNER, data_converter=converter(settings))
    for handle in handles:
        await replayer.replay_workflow(await handle.fetch_history())
