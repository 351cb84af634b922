"""Sagas that are cancelled: by anybody, at any point, also while they undo."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from amends.app import install
from amends.connect import connect
from amends.settings import Settings
from tests.conftest import RunWorker
from tests.sagas.given import rows, saga_status, story, until
from tests.sagas.travels import (
    WAIT,
    Trips,
    book,
    child,
    phone,
    sub,
    together,
    undone,
)
from tests.sagas.trips import Desk, trips_app

WAITING = "select 1 from pg_locks where relation = 'amends.commands'::regclass and not granted"
WHY = "select data ->> 'why' from amends.events where stream = %s and name = 'trip_test.unbooked'"


CANCELLED_AT = {
    "the first step": (phone("flight"), book("hotel")),
    "a later step": (book("hotel"), phone("flight"), book("car")),
    "the last step": (book("hotel"), book("car"), phone("flight")),
    "side by side": (book("hotel"), together(book("car"), phone("flight"), book("boat"))),
    "a sub": (book("hotel"), sub("leg", book("car"), phone("flight"))),
    "a child": (book("hotel"), child("leg", book("car"), phone("flight"))),
    "two children side by side": (
        book("hotel"),
        together(child("leg", book("car"), phone("flight")), child("other", book("boat"))),
    ),
}


@pytest.mark.parametrize("by", ["temporal", "update"])
@pytest.mark.parametrize("where", CANCELLED_AT)
async def test_given_a_call_under_way_when_cancelled_then_it_and_all_before_it_are_undone(
    trips: Trips, where: str, by: str
) -> None:
    trips.desk.will("order", "flight", "hang")
    handle = await trips.start(*CANCELLED_AT[where])
    await trips.called("order flight")
    if by == "temporal":
        await trips.cancel(handle)
    else:
        await handle.execute_update("turn_back", "bored")
    trips.desk.released.set()
    error = await undone(handle)
    assert error.details[0] == ("cancelled_by_operator" if by == "temporal" else "bored")
    assert trips.desk.acted == [("order", "flight"), ("cancel", "flight")]
    events = await trips.events(handle)
    assert sorted(e for e in events if e.startswith("un")) == sorted(f"un{e}" for e in events if e.startswith("b"))


@pytest.mark.parametrize("by", ["temporal", "update"])
async def test_given_a_command_under_way_when_cancelled_then_what_was_done_is_undone(trips: Trips, by: str) -> None:
    async with await psycopg.AsyncConnection.connect(trips.url) as connection:
        await connection.execute("lock table amends.commands in access exclusive mode")
        handle = await trips.start(book("hotel"), book("car"), WAIT)

        async def asked() -> bool:
            cursor = await connection.execute(WAITING.encode())
            return await cursor.fetchone() is not None

        await until("the command waits for the lock", asked)
        cancelling = asyncio.create_task(
            handle.cancel() if by == "temporal" else handle.execute_update("turn_back", "bored")
        )
        if by == "temporal":
            await cancelling
        await connection.commit()
    await cancelling
    await undone(handle)
    events = await trips.events(handle)
    assert "booked hotel" in events
    assert sorted(e for e in events if e.startswith("un")) == sorted(f"un{e}" for e in events if e.startswith("b"))


@pytest.mark.parametrize("by", ["temporal", "update"])
async def test_given_a_wait_when_cancelled_then_all_is_undone_with_the_reason(trips: Trips, by: str) -> None:
    handle = await trips.start(book("hotel"), WAIT, book("car"))
    await trips.hear(handle)
    if by == "temporal":
        await trips.cancel(handle)
    else:
        await handle.execute_update("turn_back", "bored")
    await undone(handle)
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]
    expected = "cancelled_by_operator" if by == "temporal" else "bored"
    assert await rows(trips.url, WHY, f"trip_test-{handle.id}") == [(expected,)]


async def test_given_a_cancellation_by_update_then_the_history_knows_of_it_before_anything_is_undone(
    trips: Trips,
) -> None:
    """A workflow task that is lost takes an update with it; what was undone for it would stay undone."""
    handle = await trips.start(book("hotel"), WAIT, book("car"))
    await trips.hear(handle)
    await handle.execute_update("turn_back", "bored")
    await undone(handle)
    kinds = [event.WhichOneof("attributes") for event in (await handle.fetch_history()).events]
    accepted = kinds.index("workflow_execution_update_accepted_event_attributes")
    first_undo = kinds.index("marker_recorded_event_attributes", accepted)
    assert "workflow_task_completed_event_attributes" in kinds[accepted:first_undo]


@pytest.mark.parametrize("mood", ["hang", "act then hang"])
@pytest.mark.parametrize("first", ["refused", "turned back"])
async def test_given_an_undo_under_way_when_cancelled_by_temporal_then_the_undo_finishes(
    trips: Trips, first: str, mood: Any
) -> None:
    trips.desk.will("cancel", "flight", mood)
    last = book("full cruise") if first == "refused" else WAIT
    handle = await trips.start(book("hotel"), phone("flight"), last)
    if first == "turned back":
        await trips.hear(handle)
        await handle.execute_update("turn_back", "bored")
    await trips.called("cancel flight")
    assert await saga_status(handle) == "Compensating"
    await trips.cancel(handle)
    trips.desk.released.set()
    error = await undone(handle)
    assert error.details[0] == ("TripFull" if first == "refused" else "bored")
    assert trips.desk.held == []
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]


async def test_given_an_undo_in_a_child_when_the_parent_is_cancelled_then_all_undos_finish(trips: Trips) -> None:
    trips.desk.will("cancel", "flight", "hang")
    handle = await trips.start(book("hotel"), child("leg", phone("flight"), book("full cruise")))
    await trips.called("cancel flight")
    await trips.cancel(handle)
    trips.desk.released.set()
    await undone(handle)
    assert await saga_status(trips.client.get_workflow_handle(f"{handle.id}/leg")) == "Compensated"
    assert trips.desk.acted == [("order", "flight"), ("cancel", "flight")]
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]


async def test_given_a_child_with_a_refused_step_when_cancelled_meanwhile_then_its_undos_do_not_clash_with_the_parents(
    trips: Trips,
) -> None:
    trips.desk.will("order", "train", "hang")
    legs = together(phone("flight"), phone("bus"), phone("train"))
    trips.desk.will("order", "bus", "refuse")
    handle = await trips.start(book("hotel"), child("leg", legs))
    await trips.called("order train")
    leg = trips.client.get_workflow_handle(f"{handle.id}/leg")

    async def refused() -> bool:
        return any("phone bus: refused" in line for line in await story(leg))

    await until("the bus is refused", refused)
    await trips.cancel(handle)
    await trips.cancel(leg)
    trips.desk.released.set()
    await undone(handle)
    assert trips.desk.held == []
    keys: dict[str, str] = {}
    for call, key in trips.desk.calls:
        assert keys.setdefault(key, call) == call, f"one idempotency key for two different requests: {key}"


async def test_given_a_child_when_its_parent_is_terminated_then_the_child_undoes_itself(trips: Trips) -> None:
    handle = await trips.start(child("leg", phone("flight"), WAIT))
    leg = trips.client.get_workflow_handle(f"{handle.id}/leg")
    await trips.called("order flight")
    await handle.terminate("to see what happens")
    await undone(leg)
    assert trips.desk.held == []


async def test_given_no_worker_yet_when_cancelled_before_the_first_step_then_the_status_is_final(
    settings: Settings, run_worker: RunWorker
) -> None:
    assert settings.database_url is not None
    url, desk = settings.database_url.get_secret_value(), Desk()
    app = trips_app(desk)
    install(app, url)
    trips = Trips(await connect(settings), url, settings.task_queue, desk)
    handle = await trips.start(book("hotel"))
    await handle.cancel()
    async with run_worker(app):
        await undone(handle)
        # its first step is taken and undone: a worker that died in its first task may have taken it already
        assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]
