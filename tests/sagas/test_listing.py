"""What lists of sagas say of those that somebody has ended from outside."""

from __future__ import annotations

from amends.listing import ListedSaga
from amends.repair import Resolve
from tests.sagas.given import Handle, reset, until
from tests.sagas.test_operator import WHO, operator, parked
from tests.sagas.travels import WAIT, Trips, book, child, undone


async def listed(trips: Trips, status: str | None = None) -> dict[str, ListedSaga]:
    return {saga.workflow_id: saga async for saga in operator(trips).sagas(status)}


async def swept(trips: Trips, handle: Handle) -> Handle:
    """A saga's compensation, once the sweep has found it."""

    async def found() -> bool:
        return handle.id in await operator(trips).sweep()

    await until("the sweep finds it", found)
    return trips.client.get_workflow_handle(f"compensation-{handle.id}")


async def test_given_a_parked_saga_that_was_terminated_when_it_is_put_right_then_lists_say_how_it_has_ended(
    trips: Trips,
) -> None:
    # given
    handle = await trips.start(book("stuck car"), book("full cruise"))
    await parked(trips, handle.id)
    await handle.terminate("to see what happens")

    async def closed() -> bool:
        return not (await listed(trips))[handle.id].open

    await until("it is listed as closed", closed)
    assert await listed(trips, "NeedsAttention") == {}  # nothing of it waits for anybody
    told = (await listed(trips))[handle.id]
    assert (told.status, told.settled_by, told.ended_well) == ("NeedsAttention", None, False)

    # when
    compensation = await swept(trips, handle)
    await parked(trips, handle.id)

    async def waits() -> bool:
        return (await listed(trips, "NeedsAttention")).keys() == {compensation.id}

    await until("its compensation waits in its place", waits)
    await operator(trips).repair(handle.id, Resolve(**WHO, done="by hand"))
    await compensation.result()

    # then
    async def right() -> bool:
        told = (await listed(trips))[handle.id]
        return (told.status, told.settled_by, told.ended_well) == ("Compensated", compensation.id, True)

    await until("lists say how it has ended", right)
    assert await listed(trips, "NeedsAttention") == {}


async def test_given_a_child_that_was_ended_with_its_saga_when_that_is_put_right_then_lists_say_so_of_the_child(
    trips: Trips,
) -> None:
    handle = await trips.start(book("hotel"), child("leg", book("boat"), WAIT))
    leg = trips.client.get_workflow_handle(f"{handle.id}/leg")

    async def begun() -> bool:
        return {handle.id, leg.id} <= (await listed(trips, "Running")).keys()

    await until("both are listed", begun)
    await trips.hear(leg)
    await leg.terminate("to see what happens")
    await undone(handle)

    async def right() -> bool:
        told = (await listed(trips))[leg.id]
        return (told.status, told.settled_by) == ("Compensated", handle.id)

    await until("lists say how it has ended", right)
    assert await listed(trips, "Running") == {}


async def test_given_a_saga_that_was_begun_anew_when_listed_then_it_is_there_once_by_its_latest_run(
    trips: Trips,
) -> None:
    handle = await trips.start(book("hotel"), WAIT)
    await trips.hear(handle)
    await reset(trips.client, handle)

    async def both() -> bool:
        found = [run async for run in trips.client.list_workflows(f"WorkflowId = '{handle.id}'")]
        return sorted(run.close_time is None for run in found) == [False, True]

    await until("Temporal lists both runs", both)
    assert [saga.open async for saga in operator(trips).sagas()] == [True]
    await handle.signal("call", "go on")
    await trips.client.get_workflow_handle(handle.id).result()
