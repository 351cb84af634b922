"""What an operator is told while no worker runs: soon, by a clear error, with what becomes of what was asked for."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from temporalio.client import Client

from amends.app import install
from amends.connect import connect
from amends.errors import NoAnswer
from amends.operator import Operator
from amends.repair import Cancel, Skip
from amends.settings import Settings
from tests.cli.typing_in import amends
from tests.conftest import RunWorker
from tests.sagas.given import Handle, until
from tests.sagas.test_operator import WHO
from tests.sagas.travels import WAIT, book, undone
from tests.sagas.trips import Desk, Itinerary, Stop, Travel, trips_app

Worker = AbstractAsyncContextManager[Any]


@pytest.fixture
def worker(settings: Settings, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker that does not run yet; operators have less patience meanwhile."""
    assert settings.database_url is not None
    monkeypatch.setattr("amends.operator.PATIENCE", 1.0)
    app = trips_app(Desk())
    install(app, settings.database_url.get_secret_value())
    return run_worker(app)


@pytest.fixture
async def client(settings: Settings) -> Client:
    return await connect(settings)


async def started(client: Client, settings: Settings, *stops: Stop) -> Handle:
    id = f"trip-{uuid4().hex[:12]}"
    request = Itinerary(trip_id=id, stops=stops)
    await client.start_workflow(Travel.run, request, id=id, task_queue=settings.task_queue)
    return client.get_workflow_handle(id)


async def test_given_no_worker_when_a_saga_is_cancelled_then_it_is_told_soon_and_done_once_there_is_one(
    client: Client, settings: Settings, worker: Worker
) -> None:
    handle = await started(client, settings, book("hotel"), WAIT)
    with pytest.raises(NoAnswer, match=f"task queue '{settings.task_queue}'.*may be done all the same"):
        await Operator(client, settings.task_queue).repair(handle.id, Cancel(**WHO))
    async with worker:
        assert (await undone(handle)).details[0] == "cancelled_by_operator"


async def test_given_no_worker_when_sagas_are_swept_then_it_is_told_soon_and_done_once_there_is_one(
    client: Client, settings: Settings, worker: Worker
) -> None:
    with pytest.raises(NoAnswer, match=f"task queue '{settings.task_queue}'.*done as soon as one does") as told:
        await Operator(client, settings.task_queue).sweep()
    sweep = next(word for word in str(told.value).split() if word.startswith("sweep-"))
    async with worker:
        assert await client.get_workflow_handle(sweep, result_type=list[str]).result() == []


async def test_given_no_worker_when_commands_are_typed_then_each_says_so(
    client: Client, settings: Settings, worker: Worker
) -> None:
    handle = await started(client, settings)
    who = ("--actor", "Grace", "--reason", "because")
    for command in (("show", handle.id), ("cancel", handle.id, *who), ("skip", handle.id, *who), ("sweep",)):
        ended = await amends("saga", *command, settings=settings)
        assert ended.exit_code == 1, repr(ended.exception)
        assert ended.stderr.startswith("NoAnswer: No worker answers for")
    await handle.terminate()


async def test_given_a_database_that_hangs_when_a_saga_is_repaired_then_it_is_told_that_it_will_be_done(
    client: Client, settings: Settings, worker: Worker
) -> None:
    assert settings.database_url is not None
    handle = await started(client, settings, book("stuck car"), book("full cruise"))
    operator = Operator(client, settings.task_queue)

    async def waits() -> bool:
        return bool((await operator.view(handle.id)).parked)

    async with worker:
        await until("it is parked", waits)
        async with await psycopg.AsyncConnection.connect(settings.database_url.get_secret_value()) as connection:
            await connection.execute("lock table amends.commands in exclusive mode")
            with pytest.raises(NoAnswer, match="it is accepted, and will be done"):
                await operator.repair(handle.id, Skip(**WHO))
        await undone(handle)
