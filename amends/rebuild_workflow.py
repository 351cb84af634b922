"""Rebuilds projections durably, by a workflow each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.common import RetryPolicy, WorkflowIDConflictPolicy
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.workflow import ActivityCancellationType

from amends.errors import Incompatible, NothingToDo, NotServed, StartupError
from amends.rebuild_request import RebuildRequest, Rebuilt, Who
from amends.supervision import elsewhere

if TYPE_CHECKING:
    from amends.derived_views import DerivedView
    from amends.projection import Projection

__all__ = ["RebuildActivities", "RebuildProjection", "rebuild_id", "start_rebuild", "start_rebuilds"]

SILENCE = timedelta(seconds=10)
"""A build that has not been heard of for this long is taken on elsewhere."""

BEAT = 1.0
"""Seconds between two signs of life."""

AT_A_TIME = 2
"""Most builds that one worker runs at a time, for its other work goes on."""

SERVED = """
select c.projection, c.version, g.made_with from amends.checkpoints c
left join amends.generations g using (projection, version, generation)
where c.role = 'served' and c.partition = 0
"""
"""What is served, and the settings that its rows were made with."""


class RebuildActivities:
    """Builds projections; built anew by every worker.

    Args:
        projections: those that the app lists.
        url: of the database, by a login that owns the schema; by another, builds are left to other workers.
        views: those that stand on the projections' views, and may wait for new columns of them.
    """

    def __init__(self, projections: Sequence[Projection], url: str, views: Sequence[DerivedView] = ()) -> None:
        self._projections = {projection.name: projection for projection in projections}
        self._url, self._views = url, views
        self._turns = asyncio.Semaphore(AT_A_TIME)

    @activity.defn(name="projection.rebuild")
    async def build(self, request: RebuildRequest) -> Rebuilt:
        """Build, catch up, verify and swap."""
        from amends.rebuilding import rebuild

        projection = self._projections.get(request.name)
        if projection is None or projection.version < request.version:
            has = "does not list it" if projection is None else f"has version {projection.version}"
            raise elsewhere(
                NotServed(
                    f"Version {request.version} of projection {request.name!r} is to be built, and this worker's code "
                    f"{has}; a worker that has it takes it on"
                )
            )
        async with _beating(), self._turns:
            await self._check_owner(f"Read model {request.name!r} is to be built")
            try:
                token = activity.info().workflow_run_id
                done = await _unless_shut_down(rebuild(projection, self._url, request, token))
                if done.outcome == "swapped" and self._views:
                    await asyncio.to_thread(self._show_views)
                return done
            except (Incompatible, NothingToDo) as error:
                raise ApplicationError(str(error), type=type(error).__name__, non_retryable=True) from error

    def _show_views(self) -> None:
        from amends.derived_views import install
        from amends.schema import owner_engine

        bases = [table for projection in self._projections.values() for table in projection.tables.values()]
        with owner_engine(self._url).begin() as connection:
            install(connection, self._views, bases)

    async def _check_owner(self, wanted: str) -> None:
        """Leave to another worker what takes an owner of the schema, where this one's login is none."""
        from amends.schema import owns_schema

        if not await asyncio.to_thread(owns_schema, self._url):
            raise elsewhere(
                NotServed(
                    f"{wanted}, and this worker's login does not own the schema; a worker that has AMENDS_OWNER_URL "
                    "takes it on: start one, for as long as it takes"
                )
            )

    @activity.defn(name="projection.cancel_rebuild")
    async def cancel(self, name: str, who: Who) -> bool:
        """Drop the build that is under way; False when there is none."""
        from amends.swapping import cancel_build

        await self._check_owner(f"The build of read model {name!r} is to be dropped")
        try:
            await asyncio.to_thread(cancel_build, self._url, name, who.actor, who.reason)
        except NothingToDo:
            return False
        return True


@workflow.defn
class RebuildProjection:
    """Rebuilds one projection: beside the one that is served, which it replaces when it has caught up."""

    def __init__(self) -> None:
        self._cancelled_by: Who | None = None

    @workflow.run
    async def run(self, request: RebuildRequest) -> Rebuilt:
        """Build, catch up, verify and swap; or clear up, when somebody cancels it."""
        workflow.set_current_details(
            f"Rebuilds the read model **{request.name}** for {request.actor}: {request.reason}. Readers see the old "
            "one until the new one has caught up."
        )
        building = workflow.start_activity_method(
            RebuildActivities.build,
            request,
            start_to_close_timeout=timedelta(days=365),
            heartbeat_timeout=SILENCE,
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=request.name,
        )
        try:
            await workflow.wait_condition(lambda: building.done() or self._cancelled_by is not None)
        except asyncio.CancelledError:
            self._cancelled_by = Who(actor="Temporal", reason="the workflow was cancelled")
        if self._cancelled_by is None:
            return await building
        # the tables first: the builder hears of that at once, and of a cancellation only by its next heartbeat
        await self._drop(request.name, self._cancelled_by)
        building.cancel()
        try:
            return await building  # it was done already
        except ActivityError:
            await self._drop(request.name, self._cancelled_by)  # if it had not even begun before
            return Rebuilt(outcome="cancelled", version=request.version, generation=0)

    async def _drop(self, name: str, who: Who) -> None:
        await workflow.execute_activity_method(
            RebuildActivities.cancel,
            args=[name, who],
            start_to_close_timeout=timedelta(minutes=1),
            retry_policy=RetryPolicy(maximum_interval=timedelta(seconds=30)),
        )

    @workflow.signal
    def cancel(self, who: Who) -> None:
        """Stop it and drop what is built."""
        self._cancelled_by = who


def rebuild_id(name: str, task_queue: str) -> str:
    """Id of the workflow that rebuilds a projection."""
    return f"rebuild-{name}@{task_queue}"


async def start_rebuild(
    client: Client, request: RebuildRequest, task_queue: str
) -> WorkflowHandle[RebuildProjection, Rebuilt]:
    """Start a rebuild, or find the one that runs.

    Args:
        client: connected to Temporal.
        request: what is wanted.
        task_queue: where workers poll.
    """
    return await client.start_workflow(
        RebuildProjection.run,
        request,
        id=rebuild_id(request.name, task_queue),
        task_queue=task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        static_summary=f"Rebuild {request.name}",
    )


async def start_rebuilds(client: Client, projections: Iterable[Projection], task_queue: str, url: str) -> None:
    """Start a rebuild of every projection whose code has a higher version than what the views show, or other settings.

    Args:
        client: connected to Temporal.
        projections: those that the app lists.
        task_queue: where workers poll.
        url: of the database.

    Raises:
        StartupError: the database has not been migrated.
    """
    from psycopg import AsyncConnection, ProgrammingError

    from amends.database import conninfo

    async with await AsyncConnection.connect(conninfo(url, "projector"), autocommit=True) as connection:
        try:
            rows = await (await connection.execute(SERVED)).fetchall()
        except ProgrammingError as error:
            raise StartupError(f"The database lacks what this code needs ({error}); run amends migrate") from error
    served = {name: (version, made_with) for name, version, made_with in rows}
    for projection in projections:
        request = _wanted(projection, *served.get(projection.name, (None, None)))
        if request is not None:
            await start_rebuild(client, request, task_queue)


def _wanted(projection: Projection, version: int | None, made_with: dict[str, str] | None) -> RebuildRequest | None:
    """The rebuild that this code asks for, given what the views show; None where there is nothing to build."""
    wanted: dict[str, Any] = {"name": projection.name, "version": projection.version, "actor": "amends"}
    if version is not None and version < projection.version:
        return RebuildRequest(**wanted, reason=f"version raised from {version} to {projection.version}", auto=True)
    if version == projection.version and made_with is not None and made_with != projection.made_with:
        reason = f"made with {made_with or 'nothing'}, and is to be with {projection.made_with or 'nothing'}"
        return RebuildRequest(**wanted, reason=reason, accept=True, auto=True)
    return None


async def _unless_shut_down(building: Coroutine[Any, Any, Rebuilt]) -> Rebuilt:
    """Leave off as soon as the worker is told to stop, rather than keep it from stopping; another one goes on."""
    tasks = asyncio.create_task(building), asyncio.create_task(activity.wait_for_worker_shutdown())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise elsewhere(NotServed("This worker stops; another one goes on building"))
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _beating() -> AsyncIterator[None]:
    """Give signs of life while the block runs."""

    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(BEAT)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
