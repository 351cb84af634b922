"""What the tests of sagas on trips share: a worker of the trips' app, and stops in short."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal
from uuid import uuid4

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import ApplicationError
from temporalio.testing import TimeSkipper

from amends.app import install
from amends.connect import connect
from amends.settings import Settings
from amends.visibility import MEMO, SAGA_STATUS, SagaMemo
from tests.conftest import RunWorker
from tests.sagas.given import Handle, replays, rows, saga_status, story, until, until_true
from tests.sagas.trips import Desk, Itinerary, Stop, Travel, trips_app

Mount = Literal["as_written", "inline", "child"]
MOUNTS: tuple[Mount, ...] = ("inline", "child")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

EVENTS = "select name, data ->> 'what' from amends.events where stream = %s order by xid, position"
COMMANDS = """
select command_id, outcome from amends.commands
where stream = %s and name not like 'saga.%%' order by recorded_at, command_id
"""

DIGEST = re.compile("~[0-9a-f]{8}")
"""What tells the undos of one name apart, by their content."""


def book(what: str, *, pivot: bool = False) -> Stop:
    return Stop(kind="book", name=what, pivot=pivot)


def phone(what: str, *, patience: float | None = None, pivot: bool = False) -> Stop:
    return Stop(kind="phone", name=what, patience=patience, pivot=pivot)


def together(*stops: Stop) -> Stop:
    return Stop(kind="together", stops=stops)


def sub(name: str, *stops: Stop) -> Stop:
    return Stop(kind="sub", name=name, stops=stops)


def child(name: str, *stops: Stop) -> Stop:
    return Stop(kind="child", name=name, stops=stops)


WAIT = Stop(kind="wait")


async def desk_called(desk: Desk, call: str, times: int = 1) -> None:
    """Wait until the agency has been called."""
    await until_true(call, lambda: [verb for verb, _ in desk.calls].count(call) >= times)


@dataclass
class Trips:
    """A worker of the trips' app with all that a test looks at."""

    client: Client
    url: str
    task_queue: str
    desk: Desk
    started: list[Handle] = field(default_factory=list)

    async def start(
        self,
        *stops: Stop,
        mount: Mount = "as_written",
        process: Any = Travel,
        within: float | None = None,
        skipping: bool = False,
        timeout: float | None = None,
        task: float | None = None,
    ) -> Handle:
        """Start a trip.

        Args:
            within: its deadline, in days.
            skipping: while nothing happens, its time flies.
            timeout: seconds after which Temporal ends it, whatever it does.
            task: seconds in which a workflow task has to end; updates come to a longer one with its heartbeat.
        """
        id = f"trip-{uuid4().hex[:12]}"
        client = TimeSkipper(self.client).client if skipping else self.client
        handle: Handle = await client.start_workflow(
            process.run,
            Itinerary(trip_id=id, stops=stops, within=within),
            id=id,
            task_queue=self.task_queue,
            execution_timeout=None if timeout is None else timedelta(seconds=timeout),
            task_timeout=None if task is None else timedelta(seconds=task),
            memo={MEMO: SagaMemo(actor="Phileas", trace=TRACE, mount=mount)},
            search_attributes=TypedSearchAttributes([SearchAttributePair(SAGA_STATUS, "Running")]),
            static_summary="round the world",
        )
        handle = self.client.get_workflow_handle(id)
        self.started.append(handle)
        return handle

    async def events(self, handle: Handle) -> list[str]:
        found = await rows(self.url, EVENTS, f"trip_test-{handle.id}")
        return [f"{name.removeprefix('trip_test.')} {what}" for name, what in found]

    async def commands(self, handle: Handle) -> list[tuple[str, str]]:
        found = await rows(self.url, COMMANDS, f"trip_test-{handle.id}")
        return [
            (DIGEST.sub("~…", command.removeprefix(f"{handle.id}/").replace(handle.id, "ID")), outcome)
            for command, outcome in found
        ]

    async def called(self, call: str, times: int = 1) -> None:
        await desk_called(self.desk, call, times)

    async def hear(self, handle: Handle) -> None:
        """Wait until the trip waits for a call."""

        async def waits() -> bool:
            return any("wait for the call: running" in line for line in await story(handle))

        await until("the trip waits", waits)

    async def cancel(self, handle: Handle) -> None:
        """Cancel through Temporal, and wait until the workflow knows."""

        async def known() -> bool:
            events = (await handle.fetch_history()).events
            last = [e.HasField("workflow_execution_cancel_requested_event_attributes") for e in events]
            done = [e.HasField("workflow_task_completed_event_attributes") for e in events]
            return True in last and True in done[last.index(True) :]

        await handle.cancel()
        await until("the workflow knows of its cancellation", known)


@asynccontextmanager
async def travelling(settings: Settings, run_worker: RunWorker) -> AsyncIterator[Trips]:
    """A worker of the trips' app; at the end, every saga that was started is replayed."""
    assert settings.database_url is not None
    url, desk = settings.database_url.get_secret_value(), Desk()
    app = trips_app(desk)
    install(app, url)
    async with run_worker(app, settings):
        trips = Trips(await connect(settings), url, settings.task_queue, desk)
        yield trips
        desk.released.set()
        await replays(trips.started, app.workflows, settings)


async def undone(handle: Handle) -> ApplicationError:
    """Wait for a saga that undoes all, and say why it did."""
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    error = failure.value.cause
    assert isinstance(error, ApplicationError)
    assert error.type == "SagaUndone", error
    assert await saga_status(handle) == "Compensated"
    return error
