"""Giving a saga up beside whatever else is going on: a child past the pivot, an undo being parked, another person."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.client import RPCError, WorkflowUpdateStage

from amends.errors import NotParked
from amends.repair import Abandon, Repair, Resolve, Retry, Skip
from amends.sweep import start_sweep
from tests.sagas.given import Handle, held, rows, saga_status, until
from tests.sagas.test_giving_up import WHO, given_up, operator, parked
from tests.sagas.travels import WAIT, Trips, book, child, phone, together
from tests.sagas.trips import Mood, Stop

STATUS = "select status from views.saga_runs where workflow_id = %s"
ACTIONS = "select action from views.saga_repairs where saga_id = %s order by number"


async def test_given_a_child_past_the_pivot_when_its_saga_is_abandoned_then_it_ends_too(
    trips: Trips,
) -> None:
    handle = await trips.start(
        book("hotel", pivot=True), together(child("leg", WAIT, book("car")), book("full cruise"))
    )
    await parked(trips, handle)
    leg = trips.client.get_workflow_handle(f"{handle.id}/leg")

    async def runs() -> bool:
        try:
            return bool(await leg.query("saga"))
        except RPCError:
            return False

    await until("the child runs", runs)
    await operator(trips).repair(handle.id, Abandon(**WHO))
    await given_up(handle)
    await given_up(leg)
    assert await saga_status(leg) == "Abandoned"
    assert await trips.events(handle) == ["booked hotel"]


async def run_of(handle: Handle) -> str:
    return (await handle.describe()).run_id


async def test_given_a_grandchild_parked_past_the_pivot_when_its_saga_is_abandoned_then_all_end(trips: Trips) -> None:
    deep = child("leg", child("deep", book("full ferry")))
    handle = await trips.start(book("hotel", pivot=True), together(deep, book("full cruise")))
    await parked(trips, handle)
    below = [trips.client.get_workflow_handle(f"{handle.id}/{path}") for path in ("leg", "leg/deep")]

    async def waits() -> bool:
        try:
            return await saga_status(below[1]) == "NeedsAttention"
        except RPCError:
            return False

    await until("the grandchild is parked", waits)
    await operator(trips).repair(handle.id, Abandon(**WHO))
    for saga in (handle, *below):
        await given_up(saga)
        assert await saga_status(saga) == "Abandoned"


async def test_given_an_abandon_when_it_comes_between_two_undos_then_the_next_is_not_begun(
    trips: Trips,
) -> None:
    """The answer of one undo and the abandon come in one task."""
    # given
    trips.desk.will("cancel", "flight", "hang")
    handle = await trips.start(phone("bus"), phone("flight"), book("stuck car"), book("full cruise"))
    await parked(trips, handle)
    await trips.called("cancel flight")
    # when
    abandoning = asyncio.create_task(operator(trips).repair(handle.id, Abandon(**WHO)))
    trips.desk.released.set()
    await abandoning
    # then
    await given_up(handle)
    assert await saga_status(handle) == "Abandoned"


async def test_given_an_abandoned_saga_when_it_is_terminated_before_its_end_then_it_stays_abandoned(
    trips: Trips,
) -> None:
    trips.desk.will("cancel", "flight", "hang")
    handle = await trips.start(phone("flight"), book("stuck car"), book("full cruise"))
    await parked(trips, handle)
    await trips.called("cancel flight")
    await operator(trips).repair(handle.id, Abandon(**WHO))
    await handle.terminate("no patience")

    async def swept() -> bool:
        return handle.id in await start_sweep(trips.client, trips.task_queue)

    await until("the sweep finds it", swept)
    assert await trips.client.get_workflow_handle(f"compensation-{handle.id}").result() == "abandoned"
    trips.desk.released.set()
    assert await rows(trips.url, STATUS, handle.id) == [("Abandoned",)]
    assert await trips.events(handle) == ["booked stuck car"]


async def test_given_an_undo_that_fails_by_a_bug_when_its_saga_is_abandoned_then_it_is_not_tried_again(
    trips: Trips,
) -> None:
    # given: an undo of our own whose activity fails at each attempt
    handle = await trips.start(book("broken hotel"), book("stuck car"), book("full cruise"), task=2)
    await parked(trips, handle)
    # when
    await operator(trips).repair(handle.id, Abandon(**WHO))
    # then
    await given_up(handle, 15)
    assert await saga_status(handle) == "Abandoned"


async def test_given_an_undo_that_is_just_being_parked_when_its_saga_is_abandoned_then_it_ends_at_once(
    trips: Trips,
) -> None:
    # given
    handle = await trips.start(book("stuck car"), book("stuck boat"), WAIT, book("full cruise"), task=2)
    await trips.hear(handle)
    async with held(trips.url, f"{handle.id}/park/{await run_of(handle)}#2") as reached:
        await handle.signal("call", "go")
        await reached()
        # when
        await handle.execute_update(Abandon.update, Abandon(**WHO))  # it takes longer than an operator waits
    # then
    await given_up(handle)
    assert await saga_status(handle) == "Abandoned"


async def test_given_an_undo_that_the_other_side_hangs_on_when_its_saga_is_abandoned_then_it_is_not_tried_again(
    trips: Trips,
) -> None:
    hangs: list[Mood] = ["hang"] * 50
    trips.desk.will("cancel", "flight", *hangs)
    flight = Stop(kind="phone", name="flight", attempt=1)
    handle = await trips.start(flight, book("stuck car"), book("full cruise"))
    await parked(trips, handle)
    await trips.called("cancel flight", 2)
    await operator(trips).repair(handle.id, Abandon(**WHO))
    await given_up(handle)
    assert await saga_status(handle) == "Abandoned"
    assert trips.desk.held == ["flight"]


@pytest.mark.parametrize("other", [Skip(**WHO), Retry(**WHO), Resolve(**WHO, done="sold"), Abandon(**WHO)])
async def test_given_a_saga_that_somebody_is_abandoning_when_another_repairs_it_then_that_is_refused(
    trips: Trips, other: Repair
) -> None:
    # given
    handle = await trips.start(book("stuck car"), book("full cruise"))
    await parked(trips, handle)
    async with held(trips.url, f"{handle.id}/repair/first") as reached:
        first = await handle.start_update(
            Abandon.update, Abandon(**WHO), id="first", wait_for_stage=WorkflowUpdateStage.ACCEPTED
        )
        await reached()
        # when
        with pytest.raises(NotParked):
            await operator(trips).repair(handle.id, other)
    # then
    await first.result()
    await given_up(handle)
    assert [action for (action,) in await rows(trips.url, ACTIONS, handle.id)] == ["park", "abandon"]


@pytest.mark.parametrize("repair", [Skip(**WHO), Retry(**WHO), Resolve(**WHO, done="sold"), Abandon(**WHO)])
async def test_given_a_repair_then_the_history_knows_of_it_before_it_is_written_down(
    trips: Trips, repair: Repair
) -> None:
    """A worker that dies in between loses neither: else the log would tell of a repair that never was."""
    handle = await trips.start(book("stuck car"), book("full cruise"))
    await parked(trips, handle)
    async with held(trips.url, f"{handle.id}/repair/it") as reached:
        update = asyncio.create_task(handle.execute_update(repair.update, repair, id="it"))
        await reached()
        events = (await handle.fetch_history()).events
        accepted = [event.workflow_execution_update_accepted_event_attributes for event in events]
        assert "it" in [each.protocol_instance_id for each in accepted]
    await update
