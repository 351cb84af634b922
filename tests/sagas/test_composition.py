"""Sagas made of others, inline or as children, and what can be seen of them."""

from __future__ import annotations

import asyncio

import pytest

from amends.repair import Cancel
from tests.sagas.given import details, rows, saga_status, story, until
from tests.sagas.travels import (
    MOUNTS,
    TRACE,
    WAIT,
    Mount,
    Trips,
    book,
    child,
    phone,
    sub,
    undone,
)
from tests.sagas.trips import CarefulTravel

REASON = "select reason from views.saga_runs where workflow_id = %s"
ORIGINS = """
select actor, trace, correlation_id, causation_id, command_id from amends.events where stream = %s
"""


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


@pytest.mark.parametrize("how", ["by its own page", "through Temporal"])
async def test_given_a_child_that_an_operator_cancels_when_it_is_undone_then_its_saga_says_why(
    trips: Trips, how: str
) -> None:
    handle = await trips.start(book("hotel"), child("leg", book("boat"), WAIT))
    leg = trips.client.get_workflow_handle(f"{handle.id}/leg")

    async def begun() -> bool:
        return "booked boat" in await trips.events(handle)

    await until("the child is there", begun)
    await trips.hear(leg)
    if how == "through Temporal":
        await leg.cancel()
    else:
        await leg.execute_update(Cancel.update, Cancel(actor="Grace", reason="because"))
    assert (await undone(handle)).details[0] == "cancelled_by_operator"
    assert await rows(trips.url, REASON, handle.id) == [("cancelled_by_operator",)]


@pytest.mark.parametrize("mount", MOUNTS)
async def test_given_a_sub_whose_time_is_up_when_it_is_undone_then_its_saga_says_why(
    trips: Trips, mount: Mount
) -> None:
    handle = await trips.start(WAIT, mount=mount, process=CarefulTravel, within=1 / 86400)
    assert (await undone(handle)).details[0] == "deadline_passed"


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
    await asyncio.wait_for(handle.result(), 60)
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
    assert shown.startswith("**Running**\n\n| At | Step | Result | Took | Attempts |\n|---|---|---|---|---|\n| ")
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
