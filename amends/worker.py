"""A worker process: registers what the app lists, runs until SIGTERM or SIGINT, drains."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import structlog
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import Interceptor, Worker

from amends.aggregate import Aggregate
from amends.app import App, Resources
from amends.command_activities import bind_activities, command_activities
from amends.compensation import Compensation
from amends.connect import connect
from amends.connections import address_of
from amends.database import Pool, open_pool
from amends.delivering import Delivery
from amends.dispatch import ExecuteCommand
from amends.erasing import ErasureActivities
from amends.errors import StartupError
from amends.handler import CommandHandler
from amends.notify import Notifier
from amends.process import Process
from amends.process_manager_workflow import ProcessManagerActivities, RunProcessManager, start_process_managers
from amends.projection_workflow import ProjectionActivities, RunProjection, start_projections
from amends.rebuild_workflow import RebuildActivities, RebuildProjection, start_rebuilds
from amends.revisions import FOUND, refuse_other
from amends.runner import RUNNER
from amends.saga_activities import SagaActivities
from amends.saga_log import SagaLog
from amends.settings import Settings
from amends.store import EventStore
from amends.sweep import Sweep, SweepActivities, schedule_sweep
from amends.transactions import refuse_a_log_ahead
from amends.versioning import deployment_config, follow_current

__all__ = ["LASTING", "open_worker", "run_worker", "start_followers"]

log = structlog.get_logger("amends.worker")

CACHED_WORKFLOWS = 2_000
"""Running sagas kept in memory; one that falls out is replayed from its history when it goes on."""

LASTING: tuple[type[Any], ...] = (
    ExecuteCommand,
    Compensation,
    Sweep,
    RunProjection,
    RunProcessManager,
    RebuildProjection,
)
"""The engine's own workflows."""


@asynccontextmanager
async def open_worker(
    app: App, settings: Settings, client: Client, interceptors: Sequence[Interceptor] = ()
) -> AsyncIterator[Worker]:
    """A worker that is ready to run, with its connections; they close when the block ends.

    Args:
        app: what to register.
        settings: database, task queue, version, pool size, drain time.
        client: connected to Temporal.
        interceptors: what comes between Temporal and workflows or activities.

    Raises:
        StartupError: no database is set, or half a version; or the log is ahead of the database's cluster.
        SchemaTooNew: newer code has migrated the database.
        SchemaTooOld: it is not migrated as far as this code needs.
    """
    if settings.database_url is None:
        raise StartupError("A worker needs AMENDS_DATABASE_URL; or let it work for `amends up`, with --join")
    url = settings.database_url.get_secret_value()
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(url, "writer", settings.pool_size))
        await _see_schema(pool, url)
        notifier = await stack.enter_async_context(Notifier(pool))
        store = EventStore(pool)
        aggregates: list[type[Aggregate[Any, Any]]] = [*app.aggregates, SagaLog]
        handler = CommandHandler(store, aggregates, notifier.poke)
        followers = max(2, sum(each.partitions for each in app.projections) + len(app.process_managers))
        projector_pool = await stack.enter_async_context(open_pool(url, "projector", followers))
        async with projector_pool.connection() as connection:
            await refuse_a_log_ahead(connection)
        projecting = ProjectionActivities(app.projections, url, projector_pool)
        assert settings.owner is not None
        rebuilding = RebuildActivities(app.projections, settings.owner.get_secret_value(), app.views)
        delivery = Delivery(client, settings)
        reacting = ProcessManagerActivities(app.process_managers, url, projector_pool, delivery)
        offered = [*app.activities(Resources(pool, handler)), ErasureActivities(pool, projector_pool)]
        doors = [bound for each in offered for bound in bind_activities(each, store)]
        definitions = [
            workflow._Definition.must_from_class(each) for each in app.workflows if issubclass(each, Process)
        ]
        processes = [definition.name for definition in definitions if definition.name is not None]
        sagas, sweeping = SagaActivities(pool, client), SweepActivities(pool, client, settings.task_queue, processes)
        follow_current(settings, LASTING)
        yield Worker(
            client,
            task_queue=settings.task_queue,
            workflows=[*app.workflows, *LASTING],
            activities=[
                *command_activities(handler, aggregates),
                *doors,
                sagas.end,
                sagas.resume,
                sagas.child_outcome,
                sweeping.sweep,
                projecting.project,
                rebuilding.build,
                rebuilding.cancel,
                reacting.react,
            ],
            interceptors=interceptors,
            deployment_config=deployment_config(settings),
            workflow_runner=RUNNER,
            max_cached_workflows=CACHED_WORKFLOWS,
            max_concurrent_activities=200,
            max_concurrent_local_activities=200,
            graceful_shutdown_timeout=timedelta(seconds=settings.drain_seconds),
        )


async def start_followers(app: App, settings: Settings, client: Client) -> None:
    """See to it that everything that follows the feed runs, and that raised versions of read models are built.

    Args:
        app: lists projections and process managers.
        settings: database and task queue.
        client: connected to Temporal.
    """
    assert settings.database_url is not None
    await start_projections(client, app.projections, settings.task_queue)
    await start_process_managers(client, app.process_managers, settings.task_queue)
    await start_rebuilds(client, app.projections, settings.task_queue, settings.database_url.get_secret_value())


async def run_worker(app: App, settings: Settings) -> None:
    """Work until told to stop: SIGTERM and SIGINT let running activities finish, then end the process cleanly.

    Args:
        app: what to register.
        settings: as for `open_worker`.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    client = await connect(settings)
    async with open_worker(app, settings, client) as worker:
        gc.collect()
        gc.freeze()  # what was imported stays, and need not be looked through again and again
        running = asyncio.create_task(worker.run())
        stopping = asyncio.create_task(stop.wait())
        beginning = asyncio.create_task(_begin(app, settings, client))
        try:
            await asyncio.wait({running, stopping, beginning}, return_when=asyncio.FIRST_COMPLETED)
            if beginning.done():
                beginning.result()
                await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                log.info("worker_draining", seconds=settings.drain_seconds)
        finally:  # also where it could not begin: without its connections it must not go on taking work
            for task in (stopping, beginning):
                task.cancel()
            await worker.shutdown()
            await running
    log.info("worker_stopped")


async def _see_schema(pool: Pool, url: str) -> None:
    """See that the database has the schema of this code, before any work is taken."""
    async with pool.connection() as connection:
        row = await (await connection.execute(FOUND)).fetchone()
    refuse_other(None if row is None else row[0], address_of(url))


async def _begin(app: App, settings: Settings, client: Client) -> None:
    await start_followers(app, settings, client)
    await schedule_sweep(client, settings.task_queue)
    where = {"task_queue": settings.task_queue, "namespace": settings.temporal_namespace}
    log.info("worker_started", **where, deployment=settings.deployment, build_id=settings.build_id)
