"""Supervises what follows the feed: a workflow each keeps one activity at it, wherever a worker is alive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy, WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError

from amends.errors import NotServed

if TYPE_CHECKING:
    from amends.following import Follower

__all__ = ["elsewhere", "keep_following", "see_to", "tail"]

SILENCE = timedelta(seconds=5)
"""A tailing activity that has not been heard of for this long is started again elsewhere."""

ELSEWHERE = timedelta(seconds=1)
"""How soon an activity that this worker's code is too old for is offered again; by chance to another worker."""

HISTORY_EVENTS = 2_000
"""A supervising workflow begins a fresh history after this many events."""


async def keep_following(tailing: Callable[[Any, str], Awaitable[None]], name: str) -> None:
    """Run a tailing activity, and again whenever its worker stops, for ever; the whole of a supervising workflow.

    Args:
        tailing: the activity's method.
        name: its argument, and the workflow's.
    """
    while workflow.info().get_current_history_length() < HISTORY_EVENTS:
        await workflow.execute_activity_method(
            tailing,
            name,
            start_to_close_timeout=timedelta(days=365),
            heartbeat_timeout=SILENCE,
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
            summary=name,
        )
    workflow.continue_as_new(name)


def elsewhere(error: NotServed) -> ApplicationError:
    """The same, so that Temporal offers the activity to another worker soon: this one can't do it."""
    return ApplicationError(str(error), type=type(error).__name__, next_retry_delay=ELSEWHERE)


async def tail(follower: Follower) -> None:
    """Follow the feed until this worker is told to stop; the whole of a tailing activity."""
    stop = asyncio.Event()
    watching = asyncio.create_task(_stop_on_shutdown(stop))
    try:
        await follower.run(stop, lambda position: activity.heartbeat(str(position)))
    except NotServed as error:
        raise elsewhere(error) from error
    finally:
        watching.cancel()


async def see_to(
    client: Client, run: Callable[[Any, str], Awaitable[None]], name: str, *, id: str, task_queue: str, summary: str
) -> None:
    """See to it that a supervising workflow runs; one that runs already is left alone.

    Args:
        client: connected to Temporal.
        run: the workflow's run method.
        name: its argument.
        id: its id on this task queue.
        task_queue: where workers poll.
        summary: what lists show of it.
    """
    await client.start_workflow(
        run,
        name,
        id=f"{id}@{task_queue}",
        task_queue=task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        static_summary=summary,
    )


async def _stop_on_shutdown(stop: asyncio.Event) -> None:
    await activity.wait_for_worker_shutdown()
    stop.set()
