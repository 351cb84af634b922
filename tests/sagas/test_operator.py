"""What an operator can do with sagas from outside, and how a no reads there."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from amends.errors import InvalidInput, NotParked, PastCancelling, SagaEnded, UnknownSaga
from amends.operator import Operator
from amends.repair import Cancel, Repair, Resolve, Retry, Skip
from tests.sagas.given import Handle, rows, until
from tests.sagas.travels import WAIT, Trips, book, phone, undone

WHO = {"actor": "Grace", "reason": "the agency called back"}
COUNTED = "select failed_at, steps, undos from views.saga_runs where workflow_id = %s"
CANCELS = "select actor, payload ->> 'reason' from amends.commands where name = 'saga.cancel' and workflow_id = %s"


def operator(trips: Trips) -> Operator:
    return Operator(trips.client, trips.task_queue)


async def parked(trips: Trips, saga_id: str) -> None:
    async def waits() -> bool:
        return bool((await operator(trips).view(saga_id)).parked)

    await until("it is parked", waits)


async def ended_well(trips: Trips) -> Handle:
    handle = await trips.start(book("hotel"))
    await handle.result()
    return handle


async def test_given_sagas_when_listed_then_those_of_a_status_are_found_with_their_step(trips: Trips) -> None:
    well = await ended_well(trips)
    ill = await trips.start(book("stuck car"), book("full cruise"))
    await parked(trips, ill.id)

    async def both() -> bool:
        found = {saga.workflow_id: saga async for saga in operator(trips).sagas()}
        return {well.id, ill.id} == found.keys() and found[ill.id].status == "NeedsAttention"

    await until("both are listed", both)
    [listed] = [saga async for saga in operator(trips).sagas(status="NeedsAttention")]
    assert (listed.workflow_id, listed.step, listed.open, listed.process) == (ill.id, "book stuck car", True, "Travel")
    await operator(trips).repair(ill.id, Skip(**WHO))
    await undone(ill)


async def test_given_a_running_saga_when_cancelled_by_an_operator_then_it_is_undone_and_the_log_says_who_and_why(
    trips: Trips,
) -> None:
    handle = await trips.start(book("hotel"), WAIT)
    await trips.hear(handle)
    await operator(trips).repair(handle.id, Cancel(**WHO))
    assert (await undone(handle)).details[0] == "cancelled_by_operator"
    assert await rows(trips.url, CANCELS, handle.id) == [("Grace", "the agency called back")]
    assert await rows(trips.url, COUNTED, handle.id) == [("wait for the call", 2, 1)], "what people did is no step"


async def test_given_a_saga_past_its_pivot_when_cancelled_by_an_operator_then_it_is_refused(trips: Trips) -> None:
    handle = await trips.start(book("hotel", pivot=True), WAIT)
    await trips.hear(handle)
    with pytest.raises(PastCancelling):
        await operator(trips).repair(handle.id, Cancel(**WHO))
    await handle.signal("call", "go")
    await handle.result()
    assert await rows(trips.url, CANCELS, handle.id) == []


@pytest.mark.parametrize(
    "request_", [Retry(**WHO), Skip(**WHO), Resolve(**WHO, done="it"), Cancel(**WHO)], ids=lambda r: type(r).__name__
)
async def test_given_a_saga_that_has_ended_when_repaired_then_it_is_refused(trips: Trips, request_: Repair) -> None:
    handle = await ended_well(trips)
    with pytest.raises(SagaEnded):
        await operator(trips).repair(handle.id, request_)


async def test_given_a_saga_that_ends_while_a_repair_is_on_its_way_then_it_is_refused(trips: Trips) -> None:
    id = f"trip-{uuid4().hex[:12]}"
    handle: Handle = await trips.client.start_workflow("Travel", id=id, task_queue="nobody works here")
    repairing = asyncio.create_task(operator(trips).repair(id, Cancel(**WHO)))
    for _ in range(20):  # the server takes a connection's requests in turn, so that it has the repair by then
        await handle.describe()
    await handle.terminate()
    with pytest.raises(SagaEnded):
        await repairing


async def test_given_no_such_saga_when_asked_for_or_repaired_then_it_is_refused(trips: Trips) -> None:
    with pytest.raises(UnknownSaga):
        await operator(trips).view("nonsense")
    with pytest.raises(UnknownSaga):
        await operator(trips).repair("nonsense", Skip(**WHO))


async def test_given_a_parked_saga_when_repaired_wrongly_then_the_no_says_why(trips: Trips) -> None:
    trips.desk.will("cancel", "flight", "refuse")
    handle = await trips.start(phone("flight"), book("full cruise"))
    await parked(trips, handle.id)
    with pytest.raises(NotParked, match=r"step=nonsense.*agency_test\.cancel"):
        await operator(trips).repair(handle.id, Skip(**WHO, step="nonsense"))
    with pytest.raises(InvalidInput, match="what"):
        await operator(trips).repair(handle.id, Retry(**WHO, input={"who": "me"}))
    await operator(trips).repair(handle.id, Retry(**WHO))
    await undone(handle)


async def test_given_a_terminated_saga_when_repaired_by_its_own_id_then_its_compensation_is_repaired(
    trips: Trips,
) -> None:
    handle = await trips.start(book("stuck car"), WAIT)
    await trips.hear(handle)
    await handle.terminate("to see what happens")

    async def found() -> bool:
        return handle.id in await operator(trips).sweep()

    await until("the sweep finds it", found)
    await parked(trips, handle.id)
    await operator(trips).repair(handle.id, Resolve(**WHO, done="sold it"))
    await trips.client.get_workflow_handle(f"compensation-{handle.id}").result()
