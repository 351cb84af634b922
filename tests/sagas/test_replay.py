"""The same saga again: histories that replay, ids that stay the same whatever comes first."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

import amends.worker
from amends.app import install
from amends.connect import connect
from amends.runner import RUNNER
from amends.settings import Settings
from tests.conftest import RunWorker
from tests.sagas.given import held, replays, reset, saga_status, until, until_true
from tests.sagas.travels import WAIT, Trips, book, child, phone, sub, together, undone
from tests.sagas.trips import Desk, Stop, Travel, trips_app

TIMES = 5
"""How often a history is replayed: what depends on addresses in memory goes wrong now and then only."""

WAITS = together(WAIT, WAIT, sub("leg", WAIT), sub("other", together(WAIT, WAIT)), Stop(kind="sleep", name="3"))
MIXED = together(WAIT, phone("flight"), child("leg", book("car"), WAIT), WAIT, child("other", WAIT), phone("train"))


def in_turn(*stops: Stop) -> Stop:
    """One branch that has several stops."""
    return Stop(kind="try", stops=stops)


def ids(trips: Trips, since: int = 0) -> dict[str, str]:
    """Under which id the agency was called for what."""
    return {call: key.split("/", 1)[1] for call, key in trips.desk.calls[since:]}


def meant_one_thing(desk: Desk) -> None:
    """Assert that no id stood for two things."""
    meant: dict[str, str] = {}
    for call, key in desk.calls:
        assert meant.setdefault(key, call) == call, key


@pytest.mark.parametrize("by", ["temporal", "update"])
@pytest.mark.parametrize("stop", [WAITS, MIXED], ids=["waits", "waits, calls and children"])
async def test_given_much_under_way_side_by_side_when_cancelled_then_its_history_replays(
    trips: Trips, stop: Stop, by: str
) -> None:
    # given
    for name in ("flight", "train"):
        for _ in range(TIMES):
            trips.desk.will("order", name, "hang")
    handles = [await trips.start(book("hotel"), stop) for _ in range(TIMES)]
    for handle in handles:
        await trips.hear(handle)
    if stop is MIXED:
        await trips.called("order flight", TIMES)
        await trips.called("order train", TIMES)
    # when
    for handle in handles:
        await (trips.cancel(handle) if by == "temporal" else handle.execute_update("turn_back", "bored"))
    trips.desk.released.set()
    # then
    for handle in handles:
        await undone(handle)
    for _ in range(TIMES):
        await replays(handles, [Travel])
    assert trips.desk.held == []


async def test_given_two_branches_with_the_same_steps_when_either_comes_first_then_the_ids_are_the_same(
    trips: Trips,
) -> None:
    branches = together(in_turn(phone("a"), phone("b")), in_turn(phone("c"), phone("d")))
    found: list[dict[str, str]] = []
    for slow, last in (("a", "d"), ("c", "b")):
        # given: one branch waits until the other has come to its end
        trips.desk.released.clear()
        trips.desk.will("order", slow, "hang")
        since = len(trips.desk.calls)
        # when
        handle = await trips.start(branches)
        await trips.called(f"order {last}", 1 + bool(found))
        trips.desk.released.set()
        await handle.result()
        found.append(ids(trips, since))
    # then
    assert found[0] == found[1]
    assert len(set(found[0].values())) == 4


async def test_given_two_branches_when_the_saga_begins_anew_and_the_other_comes_first_then_nothing_acts_twice(
    trips: Trips,
) -> None:
    # given: a waits until d is done
    branches = together(in_turn(phone("a"), book("b"), phone("b")), in_turn(phone("c"), book("d"), phone("d")))
    trips.desk.will("order", "a", "hang")
    handle = await trips.start(branches, WAIT)
    await trips.called("order d")
    trips.desk.released.set()
    await trips.hear(handle)
    events, acted = sorted(await trips.events(handle)), sorted(trips.desk.acted)
    # when: it begins anew, and c waits until b is done
    trips.desk.released.clear()
    trips.desk.will("order", "c", "hang")
    await reset(trips.client, handle)
    await trips.called("order b", 2)
    trips.desk.released.set()
    await trips.hear(handle)
    await handle.signal("call", "go")
    # then
    again = trips.client.get_workflow_handle(handle.id)
    await again.result()
    assert events == ["booked b", "booked d"]
    meant_one_thing(trips.desk)
    assert (sorted(await trips.events(handle)), sorted(trips.desk.acted)) == (events, acted)


async def test_given_no_room_in_the_cache_when_branches_turn_back_then_each_id_stands_for_one_thing(
    settings: Settings, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amends.worker, "CACHED_WORKFLOWS", 1)
    assert settings.database_url is not None
    url, desk = settings.database_url.get_secret_value(), Desk()
    app = trips_app(desk)
    install(app, url)
    async with run_worker(app):
        trips = Trips(await connect(settings), url, settings.task_queue, desk)
        desk.will("order", "a", "hang", "hang", "hang")
        branches = together(in_turn(phone("a"), book("b"), phone("b")), in_turn(phone("c"), book("d"), phone("d")))
        handles = [await trips.start(branches, book("full cruise"), task=2) for _ in range(3)]
        await trips.called("order d", 3)
        desk.released.set()
        for handle in handles:
            await undone(handle)
            assert sorted(await trips.events(handle)) == ["booked b", "booked d", "unbooked b", "unbooked d"]
        meant_one_thing(desk)
        assert desk.held == []
        await replays(handles, app.workflows)


async def test_given_a_saga_with_a_child_that_was_undone_when_it_begins_anew_then_nothing_counts_as_done(
    trips: Trips,
) -> None:
    """Its ids are known and tell of success, but what they stand for has been taken back."""
    # given
    handle = await trips.start(book("hotel"), child("leg", book("car")), WAIT)
    await trips.hear(handle)
    await handle.execute_update("turn_back", "bored")
    await undone(handle)
    before = await trips.events(handle)
    # when
    await reset(trips.client, handle)
    again = trips.client.get_workflow_handle(handle.id)
    # then
    error = await asyncio.wait_for(undone(again), 60)
    assert error.details[0] == "EndedFromOutside"
    assert await trips.events(handle) == before
    assert before == ["booked hotel", "booked car", "unbooked car", "unbooked hotel"]


async def test_given_a_saga_that_went_well_when_it_begins_anew_then_it_goes_well_again(trips: Trips) -> None:
    handle = await trips.start(book("hotel"), phone("flight"))
    await handle.result()
    await reset(trips.client, handle)
    again = trips.client.get_workflow_handle(handle.id)
    await again.result()
    assert await saga_status(again) == "Completed"
    assert (await trips.events(handle), trips.desk.acted) == (["booked hotel"], [("order", "flight")])
    await until_true("both runs have called", lambda: len(trips.desk.calls) == 2)


async def test_given_local_activities_that_ended_apart_when_replayed_in_one_go_then_each_goes_on_in_its_turn() -> None:
    """A history of a busy machine: what was parked was written down while the next undo was under way."""
    recorded = (Path(__file__).parent / "histories" / "ended_in_one_go.json").read_text()
    started = json.loads(recorded)["events"][0]["workflowExecutionStartedEventAttributes"]
    replayer = Replayer(
        workflows=trips_app(Desk()).workflows, workflow_runner=RUNNER, data_converter=pydantic_data_converter
    )
    await replayer.replay_workflow(WorkflowHistory.from_json(started["workflowId"], recorded))


@pytest.mark.parametrize("first", ["call", "command"])
async def test_given_a_command_that_outlasts_its_task_when_a_call_beside_it_ends_then_the_history_replays(
    trips: Trips, first: str
) -> None:
    # given: a call and a local command under way together, over the end of a workflow task
    trips.desk.will("order", "flight", "hang")
    deep = in_turn(in_turn(in_turn(book("slow"))), book("boat"), book("bike"))
    branches = [in_turn(phone("flight"), book("car"), book("coach")), deep]
    handle = await trips.start(
        WAIT, together(*(branches if first == "call" else branches[::-1])), book("hotel"), task=2
    )
    await trips.hear(handle)
    async with held(trips.url, f"{handle.id}/trip_test.book:{handle.id}{'@1' if first == 'call' else ''}") as reached:
        await handle.signal("call", "go")
        await reached()
        await trips.called("order flight")
        # when
        trips.desk.released.set()

        async def answered() -> bool:
            kinds = [event.WhichOneof("attributes") for event in (await handle.fetch_history()).events]
            answer, task = "activity_task_completed_event_attributes", "workflow_task_completed_event_attributes"
            return answer in kinds and task in kinds[kinds.index(answer) :]

        await until("the saga knows the answer", answered)
    await handle.result()
    # then
    for _ in range(TIMES):
        await replays([handle], [Travel])
