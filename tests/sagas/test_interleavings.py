"""Interleavings: sagas that are cancelled, or run out of time, while something is parked or is being undone."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from amends.operator import Operator
from amends.repair import Cancel, Skip
from tests.sagas.given import Handle, saga_status, until
from tests.sagas.travels import WAIT, Trips, book, phone, sub, together
from tests.sagas.trips import Stop

WHO = {"actor": "Grace", "reason": "never mind"}


def operator(trips: Trips) -> Operator:
    return Operator(trips.client, trips.task_queue)


async def parked(trips: Trips, handle: Handle, count: int = 1) -> list[str]:
    async def waits() -> list[str]:
        found = [step.title for step in (await operator(trips).view(handle.id)).parked]
        return found if len(found) == count else []

    return await until("it is parked", waits)


LIVED_WITH = Stop(kind="try", stops=(sub("leg", book("stuck car"), book("full cruise")),))


async def test_given_a_saga_that_goes_on_beside_a_parked_undo_when_cancelled_then_the_rest_is_undone(
    trips: Trips,
) -> None:
    handle = await trips.start(book("hotel"), LIVED_WITH, WAIT, mount="inline")
    await parked(trips, handle)
    await trips.hear(handle)
    await operator(trips).repair(handle.id, Cancel(**WHO))

    async def rest_is_undone() -> bool:
        return (await trips.events(handle))[-1] == "unbooked hotel"

    await until("the rest is undone", rest_is_undone)
    assert await parked(trips, handle) == ["book stuck car"]
    await operator(trips).repair(handle.id, Skip(**WHO))
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    assert await saga_status(handle) == "Compensated"
    assert (await trips.events(handle)).count("unbooked hotel") == 1


async def test_given_a_group_that_is_undone_when_cancelled_meanwhile_then_each_step_is_undone_once(
    trips: Trips,
) -> None:
    trips.desk.will("cancel", "flight", "hang")
    group = Stop(kind="try", stops=(together(phone("flight"), book("full cruise"), book("car")),))
    handle = await trips.start(book("hotel"), group, phone("train"))
    await trips.called("cancel flight")
    await trips.cancel(handle)
    trips.desk.released.set()
    with pytest.raises(WorkflowFailureError):
        await asyncio.wait_for(handle.result(), 60)
    assert await saga_status(handle) == "Compensated"
    assert trips.desk.held == []
    assert trips.desk.acted.count(("cancel", "flight")) == 1
    assert sorted(await trips.events(handle)) == ["booked car", "booked hotel", "unbooked car", "unbooked hotel"]


async def test_given_a_deadline_when_it_passes_during_the_undo_of_a_group_then_that_finishes_and_all_is_undone(
    trips: Trips,
) -> None:
    trips.desk.will("cancel", "flight", "hang")
    group = Stop(kind="try", stops=(together(phone("flight"), book("full cruise")),))
    handle = await trips.start(book("hotel"), group, phone("train"), within=3 / 86400)
    await trips.called("cancel flight")

    async def passed() -> bool:
        events = (await handle.fetch_history()).events
        return any(event.HasField("timer_fired_event_attributes") for event in events)

    await until("the deadline passes", passed)
    trips.desk.released.set()
    with pytest.raises(WorkflowFailureError) as failure:
        await asyncio.wait_for(handle.result(), 60)
    assert isinstance(failure.value.cause, ApplicationError)
    assert failure.value.cause.details[0] == "deadline_passed"
    assert trips.desk.held == []
    assert trips.desk.acted.count(("cancel", "flight")) == 1
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]
