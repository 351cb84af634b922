"""Giving a saga up while it goes on elsewhere: it ends at once, and does no more."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from amends.operator import Operator
from amends.repair import Abandon
from tests.sagas.given import Handle, reset, story, until
from tests.sagas.travels import WAIT, Trips, book, sub, together
from tests.sagas.trips import Stop

WHO = {"actor": "Grace", "reason": "never mind"}

LIVED_WITH = Stop(kind="try", stops=(sub("leg", book("stuck car"), book("full cruise")),))


def operator(trips: Trips) -> Operator:
    return Operator(trips.client, trips.task_queue)


async def parked(trips: Trips, handle: Handle, count: int = 1) -> list[str]:
    async def waits() -> list[str]:
        found = [step.title for step in (await operator(trips).view(handle.id)).parked]
        return found if len(found) == count else []

    return await until("it is parked", waits)


async def given_up(handle: Handle, seconds: float = 20) -> None:
    """Assert that a saga ends soon, because it was abandoned."""
    with pytest.raises(WorkflowFailureError) as failure:
        await asyncio.wait_for(handle.result(), seconds)
    assert isinstance(failure.value.cause, ApplicationError)
    assert failure.value.cause.type == "Abandoned"


async def test_given_a_saga_that_goes_on_beside_a_parked_undo_when_abandoned_then_it_ends_and_does_no_more(
    trips: Trips,
) -> None:
    handle = await trips.start(LIVED_WITH, WAIT, book("boat"), mount="inline")
    await parked(trips, handle)
    await trips.hear(handle)
    await operator(trips).repair(handle.id, Abandon(**WHO))
    await given_up(handle)
    assert await trips.events(handle) == ["booked stuck car"]


async def test_given_a_wait_beside_a_parked_step_past_the_pivot_when_abandoned_then_the_saga_ends_at_once(
    trips: Trips,
) -> None:
    handle = await trips.start(book("hotel", pivot=True), together(book("full cruise"), WAIT), book("car"))
    await parked(trips, handle)
    await operator(trips).repair(handle.id, Abandon(**WHO))
    await given_up(handle)
    assert await trips.events(handle) == ["booked hotel"]


async def test_given_an_abandoned_saga_when_it_begins_anew_then_what_was_left_is_not_taken_for_done(
    trips: Trips,
) -> None:
    # given
    handle = await trips.start(book("hotel"), book("stuck car"), book("full cruise"))

    async def parked() -> bool:
        return bool((await handle.query("saga"))["parked"])

    await until("it is parked", parked)
    await handle.execute_update("saga_abandon", {"actor": "Grace", "reason": "never mind"})
    with pytest.raises(Exception, match="execution failed"):
        await handle.result()
    before = await trips.events(handle)
    # when
    await reset(trips.client, handle)
    again = trips.client.get_workflow_handle(handle.id)
    # then
    with pytest.raises(Exception, match="execution failed"):
        await asyncio.wait_for(again.result(), 60)
    assert "was ended from outside" in (await story(again))[0]
    assert await trips.events(handle) == before
