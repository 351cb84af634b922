"""What a saga promises, shown on trips: a business that the engine knows nothing of."""

from __future__ import annotations

import gc
import sys
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

import amends.worker
from amends.app import install
from amends.connect import connect
from amends.settings import Settings
from amends.visibility import SAGA_STEP
from tests.conftest import RunWorker
from tests.sagas.given import failed_tasks, replays, reset, saga_status, story
from tests.sagas.travels import (
    DIGEST,
    MOUNTS,
    WAIT,
    Mount,
    Trips,
    book,
    child,
    desk_called,
    phone,
    sub,
    together,
    undone,
)
from tests.sagas.trips import BUGS, Desk, Stop, trips_app

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
    assert len(trips.desk.calls) == 2, "nothing is asked for again of what is over"
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
