"""What a saga promises, shown on trips: a business that the engine knows nothing of."""

from __future__ import annotations

import asyncio
import gc
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

import psycopg
import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import ApplicationError

import amends.worker
from amends.app import install
from amends.connect import connect
from amends.settings import Settings
from amends.visibility import MEMO, SAGA_STATUS, SAGA_STEP, SagaMemo
from tests.conftest import RunWorker
from tests.sagas.given import Handle, details, failed_tasks, replays, reset, rows, saga_status, story, until, until_true
from tests.sagas.trips import BUGS, CarefulTravel, Desk, Itinerary, Stop, Travel, trips_app

Mount = Literal["as_written", "inline", "child"]
MOUNTS: tuple[Mount, ...] = ("inline", "child")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

EVENTS = "select name, data ->> 'what' from amends.events where stream = %s order by xid, position"
WHY = "select data ->> 'why' from amends.events where stream = %s and name = 'trip_test.unbooked'"
ORIGINS = "select actor, trace, correlation_id, causation_id, command_id from amends.events where stream = %s"
COMMANDS = "select command_id, outcome from amends.commands where stream = %s order by recorded_at, command_id"
WAITING = "select 1 from pg_locks where relation = 'amends.commands'::regclass and not granted"


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

    async def start(self, *stops: Stop, mount: Mount = "as_written", process: Any = Travel) -> Handle:
        id = f"trip-{uuid4().hex[:12]}"
        handle: Handle = await self.client.start_workflow(
            process.run,
            Itinerary(trip_id=id, stops=stops),
            id=id,
            task_queue=self.task_queue,
            memo={MEMO: SagaMemo(actor="Phileas", trace=TRACE, mount=mount)},
            search_attributes=TypedSearchAttributes([SearchAttributePair(SAGA_STATUS, "Running")]),
            static_summary="round the world",
        )
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


@pytest.fixture
async def trips(settings: Settings, run_worker: RunWorker) -> AsyncIterator[Trips]:
    assert settings.database_url is not None
    url, desk = settings.database_url.get_secret_value(), Desk()
    app = trips_app(desk)
    install(app, url)
    async with run_worker(app):
        trips = Trips(await connect(settings), url, settings.task_queue, desk)
        yield trips
        desk.released.set()
        await replays(trips.started, app.workflows)


async def undone(handle: Handle) -> ApplicationError:
    """Wait for a saga that undoes all, and say why it did."""
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    error = failure.value.cause
    assert isinstance(error, ApplicationError)
    assert error.type == "SagaUndone", error
    assert await saga_status(handle) == "Compensated"
    return error


async def stuck(handle: Handle) -> ApplicationError:
    """Wait for a saga that can't undo all, and say what is left."""
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    error = failure.value.cause
    assert isinstance(error, ApplicationError)
    assert error.type == "UndoFailed", error
    assert await saga_status(handle) == "NeedsAttention"
    return error


# Undoing


async def test_given_three_steps_when_the_fourth_is_refused_then_they_are_undone_newest_first(trips: Trips) -> None:
    handle = await trips.start(book("hotel"), phone("flight"), book("car"), book("full cruise"))
    error = await undone(handle)
    assert error.details[0] == "TripFull"
    assert await story(handle) == [
        "book hotel: done",
        "phone flight: done",
        "book car: done",
        "book full cruise: refused: No room is left (what=full cruise)",
        "↩ book car: undone",
        "↩ phone flight: undone",
        "↩ book hotel: undone",
    ]
    assert await trips.events(handle) == ["booked hotel", "booked car", "unbooked car", "unbooked hotel"]
    assert trips.desk.held == []
    assert (await handle.describe()).typed_search_attributes.get(SAGA_STEP) == "book full cruise"


async def test_given_a_call_that_is_refused_when_undone_then_it_is_not_taken_back_itself(
    trips: Trips,
) -> None:
    trips.desk.will("order", "flight", "refuse")
    handle = await trips.start(book("hotel"), phone("flight"))
    error = await undone(handle)
    assert (error.details[0], error.details[1]["facts"]) == ("TripFull", {"what": "flight"})
    assert [call for call, _ in trips.desk.calls] == ["order flight"]
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]


@pytest.mark.parametrize("mood", ["act then fail for good", "act then hang", "fail for good"])
async def test_given_a_call_of_unknown_outcome_when_given_up_then_it_is_undone_too(trips: Trips, mood: Any) -> None:
    trips.desk.will("order", "flight", mood)
    handle = await trips.start(book("hotel"), phone("flight", patience=0.3))
    error = await undone(handle)
    assert error.details[0] == "failed"
    assert trips.desk.acted[-1] == ("cancel", "flight")
    assert trips.desk.held == []
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]


async def test_given_a_flaky_call_when_retried_then_it_acts_once_and_nothing_is_undone(trips: Trips) -> None:
    trips.desk.will("order", "flight", "fail", "act then fail", "fail")
    handle = await trips.start(phone("flight"), book("hotel"))
    await handle.result()
    assert len(trips.desk.calls) == 4
    assert {key for _, key in trips.desk.calls} == {f"{handle.id}/agency_test.order"}
    assert trips.desk.acted == [("order", "flight")]
    assert await saga_status(handle) == "Completed"


async def test_given_steps_side_by_side_when_one_is_refused_then_the_others_are_undone(trips: Trips) -> None:
    handle = await trips.start(together(book("hotel"), book("full cruise"), phone("flight"), book("car")))
    error = await undone(handle)
    assert error.details[0] == "TripFull"
    undos = [line for line in await story(handle) if line.startswith("↩")]
    assert undos == ["↩ book car: undone", "↩ phone flight: undone", "↩ book hotel: undone"]
    assert trips.desk.held == []


async def test_given_steps_side_by_side_when_one_is_refused_then_the_slow_ones_are_waited_for(trips: Trips) -> None:
    trips.desk.will("order", "flight", "hang")
    handle = await trips.start(together(book("full cruise"), phone("flight")))
    await trips.called("order flight")
    trips.desk.released.set()
    await undone(handle)
    assert trips.desk.acted == [("order", "flight"), ("cancel", "flight")]


async def test_given_an_undo_that_is_flaky_when_undone_then_it_is_retried_until_done(trips: Trips) -> None:
    trips.desk.will("cancel", "flight", "fail", "act then fail", "fail")
    handle = await trips.start(phone("flight"), book("full cruise"))
    await undone(handle)
    assert trips.desk.acted == [("order", "flight"), ("cancel", "flight")]
    assert [call for call, _ in trips.desk.calls].count("cancel flight") == 4


@pytest.mark.parametrize("mood", ["refuse", "fail for good"])
async def test_given_an_undo_that_fails_for_good_when_undone_then_the_others_run_and_it_needs_attention(
    trips: Trips, mood: Any
) -> None:
    trips.desk.will("cancel", "flight", mood)
    handle = await trips.start(book("hotel"), phone("flight"), book("stuck car"), book("boat"), book("full cruise"))
    error = await stuck(handle)
    assert "phone flight" in error.message
    assert "book stuck car" in error.message
    left = ["booked hotel", "booked stuck car", "booked boat", "unbooked boat", "unbooked hotel"]
    assert await trips.events(handle) == left
    query = f"SagaStatus = 'NeedsAttention' and WorkflowId = '{handle.id}'"

    async def listed() -> list[str]:
        return [found.id async for found in trips.client.list_workflows(query)]

    assert await until("the list shows it", listed) == [handle.id]


# The pivot


@pytest.mark.parametrize("mount", ["not at all", *MOUNTS])
async def test_given_a_pivot_is_done_when_later_steps_are_flaky_then_they_are_retried_past_their_deadline(
    trips: Trips, mount: Any
) -> None:
    trips.desk.will("order", "flight", "fail", "fail", "fail", "fail", "fail", "fail")
    flight = phone("flight", patience=0.05)
    if mount == "not at all":
        handle = await trips.start(book("hotel", pivot=True), flight)
    else:
        handle = await trips.start(book("hotel", pivot=True), sub("leg", flight), mount=mount)
    await handle.result()
    assert trips.desk.held == ["flight"]
    assert await saga_status(handle) == "Completed"


async def test_given_a_pivot_under_way_when_cancelled_by_update_then_it_is_too_late(trips: Trips) -> None:
    trips.desk.will("order", "flight", "hang")
    handle = await trips.start(book("hotel"), phone("flight", pivot=True))
    await trips.called("order flight")
    with pytest.raises(WorkflowUpdateFailedError) as failure:
        await handle.execute_update("turn_back", "bored")
    assert isinstance(failure.value.cause, ApplicationError)
    assert failure.value.cause.type == "TooLate"
    trips.desk.released.set()
    await handle.result()
    assert await trips.events(handle) == ["booked hotel"]


@pytest.mark.parametrize(
    "after",
    [(), (phone("train"),), (book("car"), WAIT), (sub("leg", phone("train")),)],
    ids=["nothing", "a call", "a wait", "an inline sub"],
)
async def test_given_a_pivot_under_way_when_cancelled_by_temporal_then_it_goes_forward(
    trips: Trips, after: tuple[Stop, ...]
) -> None:
    trips.desk.will("order", "flight", "hang")
    handle = await trips.start(book("hotel"), phone("flight", pivot=True), *after, mount="inline")
    await trips.called("order flight")
    await trips.cancel(handle)
    trips.desk.released.set()
    await handle.signal("call", "go")
    await handle.result()
    assert await saga_status(handle) == "Completed"
    assert ("cancel", "flight") not in trips.desk.acted


@pytest.mark.parametrize("shape", ["one", "together", "child"])
async def test_given_a_step_after_the_pivot_when_cancelled_by_temporal_then_it_goes_forward(
    trips: Trips, shape: str
) -> None:
    trips.desk.will("order", "train", "hang")
    after = {
        "one": phone("train"),
        "together": together(book("car"), phone("train")),
        "child": child("leg", phone("train")),
    }
    handle = await trips.start(book("hotel", pivot=True), after[shape], book("boat"))
    await trips.called("order train")
    await trips.cancel(handle)
    trips.desk.released.set()
    await handle.result()
    assert trips.desk.held == ["train"]
    assert await saga_status(handle) == "Completed"


async def test_given_a_pivot_that_is_refused_when_undone_then_it_is_not_undone_itself(trips: Trips) -> None:
    trips.desk.will("order", "flight", "refuse")
    handle = await trips.start(book("hotel"), phone("flight", pivot=True))
    error = await undone(handle)
    assert error.details[0] == "TripFull"
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]
    assert [call for call, _ in trips.desk.calls] == ["order flight"]


async def test_given_a_pivot_of_unknown_outcome_when_given_up_then_all_is_undone(trips: Trips) -> None:
    trips.desk.will("order", "flight", "act then fail for good")
    handle = await trips.start(book("hotel"), phone("flight", pivot=True))
    await undone(handle)
    assert trips.desk.held == []
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]


async def test_given_a_pivot_is_done_when_a_later_step_is_refused_then_nothing_is_undone_and_it_needs_attention(
    trips: Trips,
) -> None:
    handle = await trips.start(book("hotel", pivot=True), book("car"), book("full cruise"))
    await stuck(handle)
    assert await trips.events(handle) == ["booked hotel", "booked car"]


# Identity


async def test_given_the_same_sub_when_mounted_inline_or_as_a_child_then_the_command_ids_are_the_same(
    trips: Trips,
) -> None:
    found: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]]]] = {}
    for mount in MOUNTS:
        stops = (book("hotel"), sub("leg", book("car"), phone("flight"), book("boat")), book("full cruise"))
        handle = await trips.start(*stops, mount=mount)
        await undone(handle)
        found[mount] = (
            await trips.commands(handle),
            sorted(
                (call, DIGEST.sub("~…", key.removeprefix(handle.id)))
                for call, key in trips.desk.calls
                if key.startswith(handle.id)
            ),
        )
    assert found["inline"] == found["child"]
    assert found["inline"][0] == [
        ("trip_test.book:ID", "done"),
        ("leg/trip_test.book:ID", "done"),
        ("leg/trip_test.book:ID#2", "done"),
        ("trip_test.book:ID#2", "refused"),
        ("leg/undo/trip_test.unbook:ID~…", "done"),
        ("leg/undo/trip_test.unbook:ID~…", "done"),
        ("undo/trip_test.unbook:ID~…", "done"),
    ]
    assert found["inline"][1] == [
        ("cancel flight", "/leg/undo/agency_test.cancel~…"),
        ("order flight", "/leg/agency_test.order"),
    ]


@pytest.mark.parametrize("mount", MOUNTS)
async def test_given_two_subs_of_the_same_name_when_run_then_each_acts(trips: Trips, mount: Mount) -> None:
    handle = await trips.start(sub("leg", book("car")), sub("leg", book("boat")), mount=mount)
    await handle.result()
    assert await trips.events(handle) == ["booked car", "booked boat"]


async def test_given_a_finished_saga_when_reset_then_nothing_acts_twice(trips: Trips) -> None:
    handle = await trips.start(book("hotel"), phone("flight"), sub("leg", book("car")), book("full cruise"))
    await undone(handle)
    events, acted, commands = await trips.events(handle), [*trips.desk.acted], await trips.commands(handle)
    await reset(trips.client, handle)
    again = trips.client.get_workflow_handle(handle.id)
    trips.started.append(again)
    await undone(again)
    assert len(trips.desk.calls) == 4
    assert (await trips.events(handle), trips.desk.acted, await trips.commands(handle)) == (events, acted, commands)


async def test_given_a_saga_under_way_when_reset_then_nothing_acts_twice(trips: Trips) -> None:
    handle = await trips.start(book("hotel"), phone("flight"), WAIT, book("car"))
    await trips.hear(handle)
    await reset(trips.client, handle)
    again = trips.client.get_workflow_handle(handle.id)
    await trips.called("order flight", times=2)
    await again.signal("call", "go")
    await again.result()
    assert await trips.events(handle) == ["booked hotel", "booked car"]
    assert trips.desk.acted == [("order", "flight")]


async def test_given_little_room_in_the_cache_when_sagas_run_and_turn_back_then_they_replay_to_the_same_end(
    settings: Settings, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amends.worker, "CACHED_WORKFLOWS", 2)
    assert settings.database_url is not None
    url, desk = settings.database_url.get_secret_value(), Desk()
    app = trips_app(desk)
    install(app, url)
    async with run_worker(app):
        trips = Trips(await connect(settings), url, settings.task_queue, desk)
        stops = (book("hotel"), phone("flight"), sub("leg", together(book("car"), book("boat"))), WAIT)
        handles = [await trips.start(*stops, book("full cruise")) for _ in range(5)]
        handles += [await trips.start(*stops) for _ in range(5)]
        for handle in handles:
            await handle.signal("call", "go")
        for handle in handles[:5]:
            await undone(handle)
        for handle in handles[5:]:
            assert await handle.result() == ["go"]
            assert sorted(await trips.events(handle)) == ["booked boat", "booked car", "booked hotel"]
        await replays(handles, app.workflows)


async def test_given_sagas_under_way_when_their_worker_is_gone_then_nothing_of_them_runs_any_more(
    settings: Settings, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.database_url is not None
    url, desk = settings.database_url.get_secret_value(), Desk()
    desk.will("order", "flight", "hang")
    desk.will("cancel", "train", "hang")
    app = trips_app(desk)
    install(app, url)
    gc.collect()
    ran: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: ran.append(f"{what.object}: {what.exc_value!r}"))
    async with run_worker(app):
        trips = Trips(await connect(settings), url, settings.task_queue, desk)
        await trips.start(book("hotel"), phone("flight"))
        await trips.hear(await trips.start(book("hotel"), WAIT))
        await trips.start(phone("train"), book("full cruise"))
        await trips.called("order flight")
        await trips.called("cancel train")
    gc.collect()
    assert ran == []


async def test_given_a_saga_left_by_its_worker_when_another_saga_collects_the_garbage_then_it_does_not_undo_inside_it(
    settings: Settings, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.database_url is not None
    url, desk = settings.database_url.get_secret_value(), Desk()
    desk.will("order", "flight", "act then hang")
    desk.will("order", "train", "hang")
    app = trips_app(desk)
    install(app, url)
    monkeypatch.setattr(sys, "unraisablehook", lambda what: None)
    gc.collect()
    gc.disable()
    try:
        async with run_worker(app):
            await Trips(await connect(settings), url, settings.task_queue, desk).start(phone("flight"))
            await desk_called(desk, "order flight")
        elsewhere = settings.model_copy(update={"task_queue": f"{settings.task_queue}-elsewhere"})
        async with run_worker(app, elsewhere):
            trips = Trips(await connect(elsewhere), url, elsewhere.task_queue, desk)
            handle = await trips.start(
                book("hotel", pivot=True), phone("train"), Stop(kind="collect"), phone("bus"), book("car")
            )
            await trips.called("order train")
            await trips.cancel(handle)
            desk.released.set()
            await handle.result()
            assert ("cancel", "flight") not in desk.acted
            assert await failed_tasks(handle) == 0
            assert await saga_status(handle) == "Completed"
    finally:
        gc.enable()


# Cancellation


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


# Bugs


@pytest.mark.parametrize("where", ["after a step", "side by side", "in a sub"])
async def test_given_a_bug_in_the_workflow_when_mended_then_it_goes_on_and_nothing_was_undone(
    trips: Trips, where: str
) -> None:
    name = f"bug {uuid4().hex}"
    bug = Stop(kind="bug", name=name)
    shapes = {
        "after a step": (book("hotel"), bug, book("car")),
        "side by side": (book("hotel"), together(book("car"), bug)),
        "in a sub": (book("hotel"), sub("leg", bug, book("car"))),
    }
    BUGS.add(name)  # taken away as soon as it has struck: the code is mended before the task is tried again
    handle = await trips.start(*shapes[where])
    await handle.result()
    assert await failed_tasks(handle) == 1
    assert await trips.events(handle) == ["booked hotel", "booked car"]
    assert not any("↩" in line for line in await story(handle))
    assert await saga_status(handle) == "Completed"


# Composition


@pytest.mark.parametrize("mount", MOUNTS)
async def test_given_a_sub_when_it_is_refused_then_the_parent_gets_the_same_refusal(trips: Trips, mount: Mount) -> None:
    handle = await trips.start(book("hotel"), book("full cruise"), mount=mount, process=CarefulTravel)
    assert await handle.result() == ["TripFull", "No room is left (what=full cruise)", {"what": "full cruise"}]
    assert await saga_status(handle) == "Completed"
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]


@pytest.mark.parametrize("mount", MOUNTS)
async def test_given_a_sub_that_ended_well_when_a_later_step_is_refused_then_the_sub_is_undone(
    trips: Trips, mount: Mount
) -> None:
    stops = (book("hotel"), sub("leg", book("car"), phone("flight")), book("full cruise"))
    handle = await trips.start(*stops, mount=mount)
    await undone(handle)
    assert await trips.events(handle) == ["booked hotel", "booked car", "unbooked car", "unbooked hotel"]
    assert trips.desk.acted == [("order", "flight"), ("cancel", "flight")]


async def test_given_a_sub_mounted_inline_when_signalled_then_its_handlers_work_in_the_parent(trips: Trips) -> None:
    handle = await trips.start(book("hotel"), WAIT, process=CarefulTravel, mount="inline")
    await trips.hear(handle)
    await handle.signal("call", "go")
    assert await handle.result() == []
    assert await handle.query("heard") == ["go"]


async def test_given_a_signal_before_the_sub_is_mounted_when_mounted_then_it_gets_the_signal(trips: Trips) -> None:
    trips.desk.will("order", "flight", "hang")
    handle = await trips.start(phone("flight"), WAIT, process=CarefulTravel, mount="inline")
    await handle.signal("call", "early")
    await trips.called("order flight")
    trips.desk.released.set()
    await handle.result()
    assert await handle.query("heard") == ["early"]


async def test_given_two_subs_of_a_kind_one_after_the_other_when_signalled_then_the_running_one_gets_it(
    trips: Trips,
) -> None:
    handle = await trips.start(
        sub("first", book("hotel")), sub("second", WAIT, book("car")), process=CarefulTravel, mount="inline"
    )
    await trips.hear(handle)
    await handle.signal("call", "go")
    await asyncio.wait_for(handle.result(), 5)
    assert await trips.events(handle) == ["booked hotel", "booked car"]


# What can be seen


async def test_given_an_actor_and_a_trace_when_started_then_every_event_carries_them(trips: Trips) -> None:
    handle = await trips.start(book("hotel"), child("leg", book("car")), sub("other", book("boat")))
    await handle.result()
    origins = await rows(trips.url, ORIGINS, f"trip_test-{handle.id}")
    assert {(actor, trace, correlation) for actor, trace, correlation, _, _ in origins} == {
        ("Phileas", TRACE, handle.id)
    }
    assert [(causation, command) for _, _, _, causation, command in origins] == [
        (handle.id, f"{handle.id}/trip_test.book:{handle.id}"),
        (f"{handle.id}/leg", f"{handle.id}/leg/trip_test.book:{handle.id}"),
        (handle.id, f"{handle.id}/other/trip_test.book:{handle.id}"),
    ]


async def test_given_a_running_saga_when_looked_at_then_summary_and_timeline_tell_its_story(trips: Trips) -> None:
    handle = await trips.start(book("hotel"), phone("flight"), WAIT)
    await trips.hear(handle)
    assert await (await handle.describe()).static_summary() == "round the world"
    shown = await details(handle)
    assert shown.startswith("**Running**\n\n| At | Step | Result | Took |\n|---|---|---|---|\n| ")
    assert await story(handle) == ["book hotel: done", "phone flight: done", "wait for the call: running"]
    await handle.signal("call", "go")
    await handle.result()
    assert (await details(handle)).startswith("**Completed**")


@pytest.mark.parametrize(("last", "status"), [("car", "Completed"), ("full cruise", "Compensated")])
async def test_given_a_saga_that_has_ended_when_listed_by_status_then_it_is_found(
    trips: Trips, last: str, status: str
) -> None:
    handle = await trips.start(book("hotel"), child("leg", book(last)))
    await (handle.result() if status == "Completed" else undone(handle))
    query = f"SagaStatus = '{status}' and WorkflowId starts_with '{handle.id}'"

    async def listed() -> bool:
        found = {found.id async for found in trips.client.list_workflows(query)}
        return found == {handle.id, f"{handle.id}/leg"}

    await until("the list shows both", listed)
