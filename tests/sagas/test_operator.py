"""What an operator can do with sagas from outside, and how a no reads there."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from uuid import uuid4

import pytest
from temporalio.client import WorkflowFailureError

from amends.compensation import Compensation, compensation_id
from amends.ending import EndedSaga
from amends.errors import BeingCancelled, InvalidInput, NotParked, PastCancelling, SagaEnded, UnknownSaga
from amends.operator import Operator
from amends.repair import Cancel, Repair, Resolve, Retry, Skip
from tests.sagas.given import Handle, held, rows, until
from tests.sagas.travels import WAIT, Trips, book, phone, together, undone

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


async def test_given_operators_who_cancel_at_once_then_one_does_it_and_the_others_are_told(trips: Trips) -> None:
    handle = await trips.start(book("hotel"), WAIT, task=2)
    await trips.hear(handle)
    async with held(trips.url, f"{handle.id}/repair/first") as reached:
        first = asyncio.create_task(handle.execute_update(Cancel.update, Cancel(**WHO), id="first"))
        await reached()
        others = (operator(trips).repair(handle.id, Cancel(**WHO)) for _ in range(2))
        for said in await asyncio.gather(*others, return_exceptions=True):
            assert isinstance(said, BeingCancelled)
    await first
    assert (await undone(handle)).details[0] == "cancelled_by_operator"
    assert len(await rows(trips.url, CANCELS, handle.id)) == 1


async def test_given_a_saga_that_a_customer_has_cancelled_when_an_operator_cancels_it_then_that_is_refused(
    trips: Trips,
) -> None:
    trips.desk.will("order", "flight", "hang")
    handle = await trips.start(book("hotel"), together(phone("flight"), phone("car")))
    await trips.called("order flight")
    await handle.execute_update("turn_back", "changed my mind")
    with pytest.raises((BeingCancelled, PastCancelling)):
        await operator(trips).repair(handle.id, Cancel(**WHO))
    trips.desk.released.set()
    assert (await undone(handle)).details[0] == "changed my mind"
    assert await rows(trips.url, CANCELS, handle.id) == []


async def test_given_the_same_cancellation_twice_when_the_answer_was_lost_then_both_hear_the_same(trips: Trips) -> None:
    handle = await trips.start(book("hotel"), WAIT)
    await trips.hear(handle)
    both = (handle.execute_update(Cancel.update, Cancel(**WHO), id="one-wish") for _ in range(2))
    assert await asyncio.gather(*both) == [None, None]
    await undone(handle)
    assert len(await rows(trips.url, CANCELS, handle.id)) == 1


@pytest.mark.parametrize("first", ["customer", "operator"])
async def test_given_a_customer_and_an_operator_who_cancel_at_once_then_the_customer_hears_of_no_error(
    trips: Trips, first: str
) -> None:
    """While an operator's wish is being written down, or while the saga waits for a call to end."""
    handle = await trips.start(book("hotel"), WAIT)
    await trips.hear(handle)
    two = [operator(trips).repair(handle.id, Cancel(**WHO)), handle.execute_update("turn_back", "changed my mind")]
    said = await asyncio.gather(*(two if first == "operator" else reversed(two)), return_exceptions=True)
    by_operator, by_customer = said if first == "operator" else reversed(said)
    assert by_customer is None
    assert by_operator is None or isinstance(by_operator, (BeingCancelled, PastCancelling, SagaEnded))
    assert (await undone(handle)).details[0] in ("changed my mind", "cancelled_by_operator")


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


@pytest.mark.parametrize("id", ["", "x" * 2000, "a\x00b", "\ud800"])
async def test_given_an_id_that_none_can_have_when_asked_for_or_repaired_then_it_is_named(
    trips: Trips, id: str
) -> None:
    with pytest.raises(InvalidInput, match="saga_id: "):
        await operator(trips).view(id)
    with pytest.raises(InvalidInput, match="saga_id: "):
        await operator(trips).repair(id, Skip(**WHO))


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


async def test_given_a_compensation_that_was_cancelled_while_it_sent_its_saga_on_when_repaired_then_the_saga_hears_it(
    trips: Trips,
) -> None:
    # given: past its pivot a saga is sent on, and goes on whatever becomes of who did that
    handle = await trips.start(book("hotel", pivot=True), book("full boat"))
    await parked(trips, handle.id)
    ended = await handle.describe()
    await handle.terminate("to see what happens")
    compensation = await trips.client.start_workflow(
        Compensation.run,
        EndedSaga(
            saga_id=handle.id,
            run_id=ended.run_id,
            process="Travel",
            started_at=ended.start_time,
            reason="terminated",
        ),
        id=compensation_id(handle.id),
        task_queue=trips.task_queue,
    )
    await compensation.cancel()
    with suppress(WorkflowFailureError):
        await compensation.result()

    # when
    await parked(trips, handle.id)
    view = await operator(trips).view(handle.id)
    await operator(trips).repair(handle.id, Skip(**WHO))

    # then
    assert (view.workflow_id, view.status) == (handle.id, "NeedsAttention")
    await trips.client.get_workflow_handle(handle.id).result()
    assert (await operator(trips).view(handle.id)).status == "Completed"


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
