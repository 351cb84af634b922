"""Supervises projections: a workflow each keeps one activity tailing the feed, wherever a worker is alive."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy, WorkflowIDConflictPolicy

from amends.database import Pool
from amends.errors import ProjectionError

if TYPE_CHECKING:
    from amends.projection import Projection

__all__ = ["ProjectionActivities", "RunProjection", "start_projections"]

log = structlog.get_logger("amends.projections")

SILENCE = timedelta(seconds=5)
"""A tailing activity that has not been heard of for this long is started again elsewhere."""

HISTORY_EVENTS = 2_000
"""The supervising workflow begins a fresh history after this many events."""


class ProjectionActivities:
    """Tails the feed for one projection at a time; built anew by every worker.

    Args:
        projections: those that the app lists.
        url: database, for the connection that listens.
        pool: connections of the projector role.
    """

    def __init__(self, projections: Sequence[Projection], url: str, pool: Pool) -> None:
        self._projections = {projection.name: projection for projection in projections}
        self._url = url
        self._pool = pool

    @activity.defn(name="projection.tail")
    async def project(self, name: str) -> None:
        """Keep a projection up to date until this worker is told to stop."""
        from amends.projector import Projector

        if name not in self._projections:
            raise ProjectionError(f"This worker's app lists no projection {name!r}; deploy the one that does")
        projector = Projector(self._projections[name], self._pool, self._url)
        stop = asyncio.Event()
        watching = asyncio.create_task(_stop_on_shutdown(stop))
        try:
            await projector.run(stop, lambda position: activity.heartbeat(str(position)))
        finally:
            watching.cancel()


async def _stop_on_shutdown(stop: asyncio.Event) -> None:
    await activity.wait_for_worker_shutdown()
    stop.set()


@workflow.defn
class RunProjection:
    """Keeps one projection tailing, for ever."""

    @workflow.run
    async def run(self, name: str) -> None:
        """Start the tailing activity, and again whenever its worker stops."""
        workflow.set_current_details(f"Keeps the read model **{name}** up to date with the event log.")
        while workflow.info().get_current_history_length() < HISTORY_EVENTS:
            await workflow.execute_activity_method(
                ProjectionActivities.project,
                name,
                start_to_close_timeout=timedelta(days=365),
                heartbeat_timeout=SILENCE,
                retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
                summary=name,
            )
        workflow.continue_as_new(name)


async def start_projections(client: Client, projections: Iterable[Projection], task_queue: str) -> None:
    """See to it that every projection has its workflow; those that run already are left alone.

    Args:
        client: connected to Temporal.
        projections: those that the app lists.
        task_queue: where workers poll.
    """
    for projection in projections:
        await client.start_workflow(
            RunProjection.run,
            projection.name,
            id=f"projection-{projection.name}@{task_queue}",
            task_queue=task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"Read model {projection.name}",
        )
