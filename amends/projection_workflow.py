"""Supervises projections, by a workflow each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from temporalio import activity, workflow
from temporalio.client import Client

from amends.database import Pool
from amends.errors import ProjectionError
from amends.supervision import keep_following, see_to, tail

if TYPE_CHECKING:
    from amends.projection import Projection

__all__ = ["ProjectionActivities", "RunProjection", "start_projections"]


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
    async def project(self, part: str) -> None:
        """Keep a projection, or a partition of it, up to date until this worker is told to stop."""
        from amends.projector import Projector

        name, _, partition = part.partition("/")
        projection = self._projections.get(name)
        if projection is None or int(partition or 0) >= projection.partitions:
            raise ProjectionError(f"This worker's app lists no projection {part!r}; deploy one that does, or end this")
        await tail(Projector(projection, self._pool, self._url, partition=int(partition or 0)))


@workflow.defn
class RunProjection:
    """Keeps one projection tailing, or a partition of it (`name/1` and so on), for ever."""

    @workflow.run
    async def run(self, name: str) -> None:
        """Start the tailing activity, and again whenever its worker stops."""
        workflow.set_current_details(f"Keeps the read model **{name}** up to date with the event log.")
        await keep_following(ProjectionActivities.project, name)


async def start_projections(client: Client, projections: Iterable[Projection], task_queue: str) -> None:
    """See to it that every projection has its workflow; those that run already are left alone.

    Args:
        client: connected to Temporal.
        projections: those that the app lists.
        task_queue: where workers poll.
    """
    for projection in projections:
        for part in (projection.name, *(f"{projection.name}/{n}" for n in range(1, projection.partitions))):
            await see_to(
                client,
                RunProjection.run,
                part,
                id=f"projection-{part}",
                task_queue=task_queue,
                summary=f"Read model {part}",
            )
