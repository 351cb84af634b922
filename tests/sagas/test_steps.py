"""Kinds of steps besides plain ones: unknown outcomes that are asked for, timers, deadlines, groups."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from amends import Call
from tests.sagas.given import details, rows, saga_status, story, until
from tests.sagas.travels import WAIT, Trips, book, child, phone, sub, together, undone
from tests.sagas.trips import Agency, Stop, Ticket

STEPS = """
select kind, name, outcome, undone_at is not null from views.saga_steps where saga_id = %s order by number
"""


def asking(what: str) -> Stop:
    """A phone call that is given up soon, and can be asked about."""
    return Stop(kind="phone", name=what, patience=0.3, ask=True)


# Local calls


async def test_given_a_call_that_only_reads_when_it_is_local_then_it_is_no_activity_of_its_own(trips: Trips) -> None:
    handle = await trips.start(phone("flight"), Stop(kind="look", name="flight"), book("hotel"))
    assert await handle.result() == ["ticket for flight, as looked up"]
    events = (await handle.fetch_history()).events
    scheduled = [event.activity_task_scheduled_event_attributes.activity_type.name for event in events]
    assert [name for name in scheduled if name] == ["agency_test.order"]
    assert "look up flight: done" in await story(handle)
    assert ("step", "agency_test.look_up", "done", False) in await rows(trips.url, STEPS, handle.id)


async def test_given_a_local_call_that_is_refused_then_the_saga_undoes(trips: Trips) -> None:
    trips.desk.will("look up", "flight", "fail", "refuse")
    handle = await trips.start(book("hotel"), Stop(kind="look", name="flight"))
    assert (await undone(handle)).details[0] == "TripFull"
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]


async def test_given_a_local_call_that_is_to_be_the_pivot_then_the_task_fails_and_says_why(trips: Trips) -> None:
    handle = await trips.start(Stop(kind="look", name="flight", pivot=True))

    async def failed() -> str:
        events = (await handle.fetch_history()).events
        return "".join(event.workflow_task_failed_event_attributes.failure.message for event in events)

    assert "only reads" in await until("its task fails", failed)
    await handle.terminate("a bug")


def test_given_a_local_call_that_is_to_be_asked_about_or_to_answer_for_another_then_it_is_refused_at_once() -> None:
    look: Call[str | None] = Call(Agency.look_up, Ticket(what="flight"), local=True)
    with pytest.raises(RuntimeError, match=r"look_up.*only reads"):
        replace(look, ask=Call(Agency.look_up, Ticket(what="flight")))
    with pytest.raises(RuntimeError, match=r"order.*only reads"):
        Call(Agency.order, Ticket(what="flight"), ask=look)


# Unknown outcomes


@pytest.mark.parametrize("mood", ["act then fail for good", "act then hang"])
async def test_given_a_call_of_unknown_outcome_when_it_had_acted_then_the_saga_goes_on_with_what_it_is_told(
    trips: Trips, mood: Any
) -> None:
    trips.desk.will("order", "flight", mood)
    handle = await trips.start(asking("flight"), book("hotel"))
    await handle.result()
    assert trips.desk.held == ["flight"]
    assert await saga_status(handle) == "Completed"
    lines = await story(handle)
    assert lines[1] == "ask what became of: phone flight: done"


@pytest.mark.parametrize("mood", ["fail for good", "hang"])
async def test_given_a_call_of_unknown_outcome_when_it_had_not_acted_then_it_is_undone(trips: Trips, mood: Any) -> None:
    trips.desk.will("order", "flight", mood)
    handle = await trips.start(book("hotel"), asking("flight"))
    error = await undone(handle)
    assert error.details[0] == "failed"
    assert [call for call, _ in trips.desk.calls] == ["order flight", "look up flight", "cancel flight"]
    assert trips.desk.held == []


@pytest.mark.parametrize("mood", ["refuse", "fail for good"])
async def test_given_a_call_of_unknown_outcome_when_nobody_can_tell_then_it_is_undone(trips: Trips, mood: Any) -> None:
    trips.desk.will("order", "flight", "act then fail for good")
    trips.desk.will("look up", "flight", mood)
    handle = await trips.start(asking("flight"))
    await undone(handle)
    assert trips.desk.held == []


async def test_given_a_call_that_is_refused_when_it_could_be_asked_for_then_it_is_not(trips: Trips) -> None:
    trips.desk.will("order", "flight", "refuse")
    handle = await trips.start(asking("flight"))
    await undone(handle)
    assert [call for call, _ in trips.desk.calls] == ["order flight"]


# Time


async def test_given_a_rest_of_days_when_it_is_over_then_the_saga_goes_on(trips: Trips) -> None:
    handle = await trips.start(book("hotel"), Stop(kind="sleep", name="30"), book("car"), skipping=True)
    await handle.result()
    assert await story(handle) == ["book hotel: done", "rest: done", "book car: done"]


async def test_given_a_rest_when_cancelled_then_all_is_undone(trips: Trips) -> None:
    handle = await trips.start(book("hotel"), WAIT, Stop(kind="sleep", name="0.1"), WAIT)
    await trips.hear(handle)
    await trips.cancel(handle)
    await undone(handle)
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]


async def test_given_a_deadline_when_it_passes_then_all_is_undone_for_that_reason(trips: Trips) -> None:
    stops = (book("hotel"), sub("leg", book("car"), Stop(kind="sleep", name="10")))
    handle = await trips.start(*stops, mount="inline", within=3, skipping=True)
    error = await undone(handle)
    assert error.details[0] == "deadline_passed"
    assert await trips.events(handle) == ["booked hotel", "booked car", "unbooked car", "unbooked hotel"]


async def test_given_a_deadline_when_it_passes_while_a_child_waits_then_both_undo(trips: Trips) -> None:
    half_a_second = 0.5 / 86400
    handle = await trips.start(book("hotel"), child("leg", book("car"), WAIT), within=half_a_second)
    error = await undone(handle)
    assert error.details[0] == "deadline_passed"
    assert await trips.events(handle) == ["booked hotel", "booked car", "unbooked car", "unbooked hotel"]


async def test_given_a_deadline_when_the_saga_is_past_its_pivot_then_it_goes_forward(trips: Trips) -> None:
    handle = await trips.start(
        book("hotel", pivot=True), Stop(kind="sleep", name="10"), book("car"), within=3, skipping=True
    )
    await handle.result()
    assert await saga_status(handle) == "Completed"


async def test_given_a_deadline_when_the_saga_ends_before_then_nothing_of_it_is_left(trips: Trips) -> None:
    handle = await trips.start(book("hotel"), within=3, skipping=True)
    await handle.result()
    assert await saga_status(handle) == "Completed"


# Groups


async def test_given_a_group_whose_failure_is_lived_with_when_one_is_refused_then_the_others_are_undone_at_once(
    trips: Trips,
) -> None:
    group = together(book("car"), book("full cruise"), phone("flight"))
    handle = await trips.start(book("hotel"), Stop(kind="try", stops=(group,)), book("boat"))
    await handle.result()
    assert sorted(await trips.events(handle)) == ["booked boat", "booked car", "booked hotel", "unbooked car"]
    assert trips.desk.held == []


# The log


async def test_given_a_saga_that_turned_back_when_asked_by_sql_then_each_step_and_undo_is_a_row(trips: Trips) -> None:
    handle = await trips.start(book("hotel"), phone("flight"), book("full cruise"))
    await undone(handle)
    assert await rows(trips.url, STEPS, handle.id) == [
        ("step", "trip_test.book", "done", True),
        ("step", "agency_test.order", "done", True),
        ("step", "trip_test.book", "refused", False),
        ("undo", "agency_test.cancel", "done", False),
        ("undo", "trip_test.unbook", "done", False),
    ]
    [run] = await rows(
        trips.url,
        """select process, status, reason, failed_at, actor, steps, undos, undo_seconds between 0 and seconds
        from views.saga_runs where saga_id = %s""",
        handle.id,
    )
    assert run == ("Travel", "Compensated", "TripFull", "book full cruise", "Phileas", 3, 2, True)


async def test_given_a_call_of_unknown_outcome_when_asked_by_sql_then_it_is_begun_and_undone(trips: Trips) -> None:
    trips.desk.will("order", "flight", "act then fail for good")
    handle = await trips.start(phone("flight"))
    await undone(handle)
    assert await rows(trips.url, STEPS, handle.id) == [
        ("step", "agency_test.order", "begun", True),
        ("undo", "agency_test.cancel", "done", False),
    ]


async def test_given_a_flaky_call_when_it_gets_through_then_timeline_and_log_say_at_which_attempt(trips: Trips) -> None:
    trips.desk.will("order", "flight", "fail", "fail")
    handle = await trips.start(phone("flight"))
    await handle.result()
    assert await rows(trips.url, "select attempt from views.saga_steps where saga_id = %s", handle.id) == [(3,)]

    async def shown() -> bool:
        return (await details(handle)).splitlines()[-1].endswith("| 3 |")

    await until("the timeline says so", shown)
