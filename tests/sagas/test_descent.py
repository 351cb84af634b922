"""Children of children: whoever turns back or is ended, all that stands below is undone, newest first."""

from __future__ import annotations

import pytest
from temporalio.client import RPCError

from amends.sweep import start_sweep
from tests.sagas.given import Handle, rows, saga_status, until
from tests.sagas.travels import WAIT, Trips, book, child, phone, undone
from tests.sagas.trips import Stop

DESCENT = (book("hotel"), child("leg", book("car"), child("deep", book("boat"), phone("flight"))))
TAKEN_BACK = ["unbooked boat", "unbooked car", "unbooked hotel"]
UNDONE = "select workflow_id from amends.commands where correlation_id = %s and kind = 'undo' order by number"


def below(trips: Trips, handle: Handle, path: str) -> Handle:
    return trips.client.get_workflow_handle(f"{handle.id}/{path}")


async def waits(trips: Trips, handle: Handle) -> None:
    """Wait until a child is there and waits for a call."""

    async def is_there() -> bool:
        try:
            await handle.describe()
        except RPCError:
            return False
        return True

    await until("the child is there", is_there)
    await trips.hear(handle)


async def compensated(trips: Trips, handle: Handle) -> None:
    async def found() -> bool:
        return handle.id in await start_sweep(trips.client, trips.task_queue)

    await until("the sweep finds it", found)
    compensation = trips.client.get_workflow_handle(f"compensation-{handle.id}")
    assert await compensation.result() == "undone"


async def test_given_a_grandchild_that_ended_well_when_the_root_turns_back_then_all_three_are_undone_newest_first(
    trips: Trips,
) -> None:
    handle = await trips.start(*DESCENT, book("full cruise"))
    await undone(handle)
    assert (await trips.events(handle))[3:] == TAKEN_BACK
    assert trips.desk.held == []
    assert {workflow for (workflow,) in await rows(trips.url, UNDONE, handle.id)} == {handle.id}, "all by the root"


async def test_given_a_grandchild_that_ended_well_when_the_root_is_terminated_and_swept_then_all_three_are_undone(
    trips: Trips,
) -> None:
    handle = await trips.start(*DESCENT, WAIT)
    await trips.hear(handle)
    await handle.terminate("to see what happens")
    await compensated(trips, handle)
    assert (await trips.events(handle))[3:] == TAKEN_BACK
    assert trips.desk.held == []


async def test_given_a_grandchild_under_way_when_the_root_is_cancelled_then_each_undoes_its_own(trips: Trips) -> None:
    deep = child("deep", book("boat"), phone("flight"), WAIT)
    handle = await trips.start(book("hotel"), child("leg", book("car"), deep))
    await waits(trips, below(trips, handle, "leg/deep"))
    await trips.cancel(handle)
    await undone(handle)
    assert (await trips.events(handle))[3:] == TAKEN_BACK
    for path in ("leg", "leg/deep"):
        assert await saga_status(below(trips, handle, path)) == "Compensated"


@pytest.mark.parametrize("whom", ["leg", "leg/deep"])
async def test_given_a_descendant_that_is_terminated_when_the_root_turns_back_then_all_below_is_undone_too(
    trips: Trips, whom: str
) -> None:
    deep = child("deep", book("boat"), phone("flight"), *((WAIT,) if whom == "leg/deep" else ()))
    handle = await trips.start(book("hotel"), child("leg", book("car"), deep, WAIT))
    await waits(trips, below(trips, handle, whom))
    await below(trips, handle, whom).terminate("to see what happens")
    await undone(handle)
    assert (await trips.events(handle))[3:] == TAKEN_BACK
    assert trips.desk.held == []


async def test_given_a_grandchild_that_can_not_undo_a_step_when_it_is_refused_then_the_root_parks_it(
    trips: Trips,
) -> None:
    deep = child("deep", book("stuck boat"), book("full cruise"))
    handle = await trips.start(book("hotel"), child("leg", book("car"), deep))

    async def parked() -> list[str]:
        return [step["title"] for step in (await handle.query("saga"))["parked"]]

    assert await until("it is parked", parked) == ["book stuck boat"]
    for path in ("leg", "leg/deep"):
        assert await saga_status(below(trips, handle, path)) == "HandedOver"
    await handle.execute_update("saga_skip", {"actor": "Grace", "reason": "never mind"})
    await undone(handle)
    assert (await trips.events(handle))[3:] == ["unbooked car", "unbooked hotel"]


@pytest.mark.parametrize("whom", ["leg", "leg/deep"])
async def test_given_a_fence_above_it_when_a_grandchild_goes_on_then_its_steps_do_not_act_any_more(
    trips: Trips, whom: str
) -> None:
    """Whoever is fenced, the root or a child of it, all below must not act behind the undoing."""
    handle = await trips.start(book("hotel"), child("leg", child("deep", WAIT, book("car"))))
    deep = below(trips, handle, "leg/deep")
    await waits(trips, deep)
    fenced = handle.id if whom == "leg/deep" else f"{handle.id}/leg"
    await rows(trips.url, "select amends.fence(%s, 'test', 'test')", fenced)
    await deep.signal("call", "go")
    await undone(handle)
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]


@pytest.mark.parametrize("path", ["leg", "leg/deep"])
async def test_given_a_descendant_terminated_past_the_pivot_when_started_again_then_the_saga_completes(
    trips: Trips, path: str
) -> None:
    inner = (book("car"), phone("flight"), WAIT, book("boat"))
    stops = (child("leg", *inner) if path == "leg" else child("leg", child("deep", *inner)),)
    handle = await trips.start(Stop(kind="book", name="hotel", pivot=True), *stops, book("train"))
    there = below(trips, handle, path)
    await waits(trips, there)
    first = (await there.describe()).run_id
    await there.terminate("to see what happens")

    async def again() -> bool:
        return (await there.describe()).run_id != first

    await until("it is started again", again)
    await trips.hear(there)
    await there.signal("call", "go")
    await handle.result()
    assert await saga_status(handle) == "Completed"
    assert await trips.events(handle) == ["booked hotel", "booked car", "booked boat", "booked train"]
    assert trips.desk.acted == [("order", "flight")]
