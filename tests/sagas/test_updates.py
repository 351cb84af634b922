"""What a saga does because of something, it does when the history knows of that: else a lost task could forget why."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from tests.sagas.given import Handle, held, saga_status, until
from tests.sagas.travels import WAIT, Trips, book, phone, undone
from tests.sagas.trips import BUGS, Stop


async def timers(handle: Handle) -> list[str]:
    """What the history has waited for."""
    events = (await handle.fetch_history()).events
    set_ = [event for event in events if event.HasField("timer_started_event_attributes")]
    return [event.user_metadata.summary.data.decode().strip('"') for event in set_]


async def markers(handle: Handle) -> list[str]:
    """The local activities that the history knows the outcome of."""
    events = (await handle.fetch_history()).events
    marked = [
        event.marker_recorded_event_attributes for event in events if event.HasField("marker_recorded_event_attributes")
    ]
    return [str(mark.details["data"].payloads[0].data) for mark in marked]


async def accepted(handle: Handle) -> list[str]:
    """The updates that the history knows of."""
    events = (await handle.fetch_history()).events
    known = [event.workflow_execution_update_accepted_event_attributes for event in events]
    return [each.accepted_request.input.name for each in known if each.protocol_instance_id]


@pytest.mark.parametrize("pivot", [False, True])
async def test_given_an_update_that_lets_a_saga_go_on_when_the_next_step_acts_then_the_history_knows_of_it(
    trips: Trips, pivot: bool
) -> None:
    handle = await trips.start(WAIT, book("car", pivot=pivot))
    async with held(trips.url, f"{handle.id}/trip_test.book:{handle.id}") as reached:
        telling = asyncio.create_task(handle.execute_update("tell", "go"))
        await reached()
        assert await accepted(handle) == ["tell"]
    await telling
    assert await handle.result() == ["go"]


async def test_given_an_update_that_turns_a_saga_back_then_the_history_knows_of_it_before_it_is_heard(
    trips: Trips,
) -> None:
    handle = await trips.start(book("car"), WAIT)
    await trips.hear(handle)
    async with held(trips.url, f"{handle.id}/close/{(await handle.describe()).run_id}/Compensated") as reached:
        turning = asyncio.create_task(handle.execute_update("turn_back", "never mind"))
        await reached()
        assert await accepted(handle) == ["turn_back"]
    await turning
    assert (await undone(handle)).details[0] == "never mind"
    assert await timers(handle) == ["wait for the call", "turn_back is on record"]


async def test_given_updates_at_once_of_which_one_is_allowed_then_the_others_are_refused_when_they_come_to_it(
    trips: Trips, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: a moment that is long enough for all of them to pass the first check
    monkeypatch.setattr("amends.conduct.MOMENT", timedelta(seconds=5))
    handle = await trips.start(book("hotel"), WAIT)
    await trips.hear(handle)
    # when
    telling = [asyncio.create_task(handle.execute_update("tell", "go")) for _ in range(3)]

    async def all_taken() -> bool:
        return await accepted(handle) == ["tell"] * 3

    await until("all have passed the first check", all_taken)
    told = await asyncio.gather(*telling, return_exceptions=True)
    # then
    refusals = [error for error in told if isinstance(error, WorkflowUpdateFailedError)]
    assert [str(refusal.cause) for refusal in refusals] == ["ValueError: go was told already"] * 2
    assert await handle.result() == ["go"]


async def test_given_a_read_that_is_refused_then_the_history_knows_of_it_before_anything_is_undone(
    trips: Trips,
) -> None:
    trips.desk.will("look up", "flight", "refuse")
    handle = await trips.start(book("hotel"), Stop(kind="look", name="flight"))
    async with held(trips.url, f"{handle.id}/close/{(await handle.describe()).run_id}/Compensated") as reached:
        await reached()
        assert any("agency_test.look_up" in mark for mark in await markers(handle))
    assert (await undone(handle)).details[0] == "TripFull"
    assert await timers(handle) == ["look up flight: failed"]


async def test_given_a_bug_in_a_local_step_when_it_is_mended_then_the_saga_goes_on(trips: Trips) -> None:
    BUGS.add("flight nobody can send")
    handle = await trips.start(book("hotel"), Stop(kind="look", name="flight nobody can send"))
    await handle.result()
    assert await timers(handle) == []
    events = (await handle.fetch_history()).events
    assert any(event.HasField("workflow_task_failed_event_attributes") for event in events)


async def test_given_a_wait_in_vain_then_the_history_knows_of_it_before_the_next_step(trips: Trips) -> None:
    handle = await trips.start(WAIT, book("car"), skipping=True)
    await handle.result()
    assert await timers(handle) == ["wait for the call", "wait for the call: not in time"]


async def test_given_a_step_that_a_rule_refuses_then_nothing_is_waited_for_because_the_log_knows(trips: Trips) -> None:
    handle = await trips.start(book("hotel"), book("full boat"))
    await undone(handle)
    assert await timers(handle) == []


async def test_given_a_saga_that_is_passing_its_pivot_when_told_to_turn_back_then_the_no_is_true(trips: Trips) -> None:
    handle = await trips.start(book("hotel"), WAIT, book("car", pivot=True), phone("boat"))
    async with held(trips.url, f"{handle.id}/trip_test.book:{handle.id}#2") as reached:
        await handle.signal("call", "go")
        await reached()
        turning = asyncio.create_task(handle.execute_update("turn_back", "never mind"))
    with pytest.raises(WorkflowUpdateFailedError) as refusal:
        await turning
    assert isinstance(refusal.value.cause, ApplicationError)
    assert refusal.value.cause.type == "TooLate"
    await handle.result()
    assert await saga_status(handle) == "Completed"
    assert await trips.events(handle) == ["booked hotel", "booked car"]
