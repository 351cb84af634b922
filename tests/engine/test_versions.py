"""Changing a story while sagas run: by two versions of the workers at once, and without them by a patch."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError
from temporalio import workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from amends import Context, Recorded
from amends.app import App, install
from amends.changes import Rows
from amends.cli.program import COMMANDS
from amends.connect import connect
from amends.database import open_pool
from amends.errors import StartupError
from amends.handler import CommandHandler
from amends.projection import Projection
from amends.projection_workflow import start_projections
from amends.runner import RUNNER
from amends.settings import Settings
from amends.store import EventStore
from amends.sweep import start_sweep
from amends.versioning import deployment_config, versions_of
from amends.visibility import SAGA_STATUS
from amends.worker import open_worker
from tests.cli.typing_in import amends
from tests.engine import errand_patched, errand_v1, errand_v2
from tests.engine.errands import Errand, Note, Noted, Request
from tests.sagas.given import Handle, replays, rows, saga_status, story, until

ROOT = Path(__file__).parents[2]

EVENTS = "select name, data ->> 'what' from amends.events where stream = %s order by xid, position"

Build = Callable[[str], AbstractAsyncContextManager[None]]

STORIES: dict[str, ModuleType] = {"v1": errand_v1, "v2": errand_v2}


def errands(story: ModuleType, *projections: Projection) -> App:
    return App(aggregates=[Errand], workflows=[story.Go, story.Shop], projections=projections)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with a deployment of this test."""
    return settings.model_copy(update={"deployment": f"errands-{uuid4().hex[:8]}"})


@pytest.fixture
async def client(settings: Settings) -> Client:
    return await connect(settings)


@asynccontextmanager
async def working(app: App, settings: Settings) -> AsyncIterator[None]:
    """A worker of an app, in this process."""
    client = await connect(settings)
    async with open_worker(app, settings, client) as worker:
        running = asyncio.create_task(worker.run())
        await start_projections(client, app.projections, settings.task_queue)
        try:
            yield
        finally:
            await worker.shutdown()
            await running


def build(settings: Settings, id: str, *projections: Projection) -> AbstractAsyncContextManager[None]:
    """A worker of a version."""
    return working(errands(STORIES[id], *projections), settings.model_copy(update={"build_id": id}))


async def deploy(settings: Settings, id: str) -> None:
    assert settings.deployment is not None
    done = await amends("deploy", id, settings=settings, AMENDS_DEPLOYMENT=settings.deployment)
    assert done.exit_code == 0, done.output


async def start(client: Client, settings: Settings, **request: Any) -> Handle:
    """Start a saga, and wait until it waits for the word."""
    id = f"errand-{uuid4().hex[:12]}"
    handle: Handle = await client.start_workflow(
        "ErrandGo",
        Request(errand=id, **request),
        id=id,
        task_queue=settings.task_queue,
        search_attributes=TypedSearchAttributes([SearchAttributePair(SAGA_STATUS, "Running")]),
        result_type=str,
    )

    async def waits() -> bool:
        return "wait for the word: running" in await story(handle)

    await until("it waits", waits)
    return handle


def url_of(settings: Settings) -> str:
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()


async def happened(settings: Settings, handle: Handle) -> list[str]:
    found = await rows(url_of(settings), EVENTS, f"errands_test-{handle.id}")
    return [what if name.endswith("noted") else f"no {what}" for name, what in found]


V1 = ["left", "paid", "bread", "home"]
V2 = ["umbrella", "left", "paid", "milk", "home"]


# Worker versions


async def test_given_a_running_saga_when_a_new_version_is_current_then_it_ends_on_the_old_one_and_new_ones_on_the_new(
    settings: Settings, client: Client
) -> None:
    async with build(settings, "v1"):
        # given: a saga of the first version, half-way
        await deploy(settings, "v1")
        old, cancelled = [await start(client, settings) for _ in range(2)]
        async with build(settings, "v2"):
            # when
            await deploy(settings, "v2")
            new = await start(client, settings)

            # then: the versions say who is needed for what
            found = {version.build_id: version for version in await versions_of(client, settings)}
            assert (found["v2"].status, found["v1"].status) == ("current", "draining")

            async def counted() -> bool:
                counts = {version.build_id: version.sagas for version in await versions_of(client, settings)}
                return counts == {"v1": 2, "v2": 1}

            await until("the sagas are counted", counted)

            # and: each goes on by its own code, the child that starts only now included
            for handle in (old, new):
                await handle.signal("word")
            assert [await old.result(), await new.result()] == ["v1", "v2"]
            assert await happened(settings, old) == V1
            assert await happened(settings, new) == V2

            # and: so does one that turns back
            await cancelled.execute_update("turn_back")
            with pytest.raises(WorkflowFailureError):
                await cancelled.result()
            assert await saga_status(cancelled) == "Compensated"
            assert await happened(settings, cancelled) == ["left", "paid", "no left"]

            # and: in the end nobody needs the old one
            async def free() -> bool:
                done = await amends("versions", "--json", settings=settings, AMENDS_DEPLOYMENT=str(settings.deployment))
                return {each["build_id"]: each["sagas"] for each in json.loads(done.stdout)} == {"v1": 0, "v2": 0}

            await until("nobody needs the old one", free)
    await replays([old, cancelled], [errand_v1.Go, errand_v1.Shop])
    await replays([new], [errand_v2.Go, errand_v2.Shop])


async def test_given_a_new_version_that_disappoints_when_the_old_one_is_made_current_again_then_new_sagas_take_that(
    settings: Settings, client: Client
) -> None:
    async with build(settings, "v1"), build(settings, "v2"):
        await deploy(settings, "v1")
        await deploy(settings, "v2")
        between = await start(client, settings)
        await deploy(settings, "v1")
        after = await start(client, settings)
        for handle in (between, after):
            await handle.signal("word")
        assert [await between.result(), await after.result()] == ["v2", "v1"]


async def test_given_a_projection_that_tails_when_a_new_version_is_current_then_it_goes_on_there(
    settings: Settings, client: Client
) -> None:
    """The projection's workflow has no end, so it must not be pinned; and its activity has none either."""
    seen: list[str] = []
    v1, v2 = (tailing(id, seen) for id in ("v1", "v2"))
    install(App(projections=[v1]), url_of(settings))
    async with build(settings, "v1", v1), build(settings, "v2", v2), noting(settings) as note:

        async def reads(id: str) -> bool:
            await note()
            return seen[-1:] == [id]

        await deploy(settings, "v1")
        await until("the old version reads", lambda: reads("v1"))
        await deploy(settings, "v2")
        await until("the new version reads", lambda: reads("v2"), 30)
    await client.get_workflow_handle(f"projection-{v1.name}@{settings.task_queue}").terminate()


def tailing(id: str, seen: list[str]) -> Projection:
    """A projection, as a version has it, that tells whenever it reads an event."""
    projection = Projection("errands_test_tails", version=1)

    @projection.on(Noted)
    def noted(event: Noted, fact: Recorded, rows: Rows) -> None:
        seen.append(id)

    return projection


@asynccontextmanager
async def noting(settings: Settings) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """What has something noted down, without a saga."""
    async with open_pool(url_of(settings), "writer", 1) as pool:
        handler = CommandHandler(EventStore(pool), [Errand])

        async def note() -> None:
            id = uuid4().hex
            context = Context(command_id=id, actor="test", correlation_id=id, causation_id=id)
            await handler.handle(Note(errand=id, what="x"), context)

        yield note


async def test_given_an_ended_saga_of_the_old_version_when_swept_then_it_is_put_right_by_whom_it_takes(
    settings: Settings, client: Client
) -> None:
    """Its undos are data and run anywhere; past its pivot it goes on, and for that it needs its own code."""
    async with build(settings, "v1"):
        await deploy(settings, "v1")
        before, after = await start(client, settings), await start(client, settings, ends="after the pivot")
        async with build(settings, "v2"):
            await deploy(settings, "v2")
            for handle in (before, after):
                await handle.terminate("by mistake")
            # when
            seen: set[str] = set()

            async def found() -> bool:
                seen.update(await start_sweep(client, settings.task_queue))
                return {before.id, after.id} <= seen

            await until("they are found", found)

            # then
            async def undone() -> bool:
                return await happened(settings, before) == ["left", "paid", "no left"]

            await until("it is undone", undone)

            async def goes_on() -> bool:
                return (await after.describe()).run_id != after.first_execution_run_id

            await until("it goes on", goes_on)
            again = client.get_workflow_handle(after.id, result_type=str)
            await again.signal("word")
            assert await again.result() == "v1"
            assert await happened(settings, after) == V1


async def test_given_no_worker_of_a_version_when_deployed_then_it_says_so(settings: Settings, client: Client) -> None:
    name = str(settings.deployment)
    done = await amends("deploy", "v9", "--wait", "0.3", settings=settings, AMENDS_DEPLOYMENT=name)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"v9 is not the current version of {name}, after 0.3 s" in done.stderr
    assert "AMENDS_BUILD_ID=v9" in done.stderr.replace("\n", "")
    done = await amends("versions", settings=settings, AMENDS_DEPLOYMENT=name)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "has ever come" in done.stderr


async def test_given_no_deployment_when_deployed_then_it_says_what_to_set(settings: Settings) -> None:
    for arguments, told in ((["versions"], "AMENDS_DEPLOYMENT"), (["deploy"], "AMENDS_BUILD_ID")):
        done = await amends(*arguments, settings=settings)
        assert done.exit_code == 2
        assert told in done.stderr


def test_given_half_a_version_when_a_worker_is_configured_then_it_is_refused() -> None:
    assert deployment_config(Settings()) is None
    for half in (Settings(deployment="shop"), Settings(build_id="v1")):
        with pytest.raises(StartupError, match="both"):
            deployment_config(half)
    with pytest.raises(ValidationError):
        Settings(deployment="with.dot", build_id="v1")


# Without worker versions


async def test_given_a_running_saga_when_its_story_is_patched_then_it_ends_as_it_began_and_new_ones_take_the_patch(
    settings: Settings, client: Client
) -> None:
    settings = settings.model_copy(update={"deployment": None})
    # given: a saga half-way, whose worker ends
    async with working(errands(errand_v1), settings):
        old = await start(client, settings)
    # when: the worker that comes has a step put in
    async with working(errands(errand_patched), settings):
        new = await start(client, settings)
        for handle in (old, new):
            await handle.signal("word")
        await asyncio.gather(old.result(), new.result())
    # then
    assert await happened(settings, old) == V1
    assert await happened(settings, new) == ["umbrella", *V1]
    # and: the patched story replays both; the next version, put in without a patch, would not
    await replays([old, new], [errand_patched.Go, errand_v1.Shop])
    replayer = Replayer(
        workflows=[errand_v2.Go, errand_v2.Shop],
        workflow_runner=RUNNER,
        data_converter=pydantic_data_converter,
    )
    with pytest.raises(NondeterminismError):
        await replayer.replay_workflow(await old.fetch_history())


# The page about it


def test_the_pages_snippets_are_what_is_tested_and_its_commands_and_settings_exist() -> None:
    page = (ROOT / "docs" / "versions.md").read_text()
    patch, replay = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert patch in (ROOT / "tests" / "engine" / "errand_patched.py").read_text()
    assert replay in (ROOT / "tests" / "sagas" / "given.py").read_text()
    assert set(re.findall(r"amends (\w+)", page)) <= {command.__name__ for command in COMMANDS}
    assert {name.lower() for name in re.findall(r"AMENDS_(\w+)=", page)} <= Settings.model_fields.keys()
    for name in ("patched", "deprecate_patch"):
        assert hasattr(workflow, name)
