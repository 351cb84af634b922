"""Repairs in detail: ids of what is tried again, two people at once, personal data, giving a saga up."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from amends.app import install
from amends.connect import connect
from amends.database import open_pool
from amends.errors import InvalidInput, NotParked, SagaEnded
from amends.feed import Feed
from amends.operator import Operator
from amends.records import START
from amends.repair import Abandon, Repair, Resolve, Retry, Skip
from amends.settings import Settings
from amends.sweep import start_sweep
from amends.values import MASK
from tests.conftest import RunWorker
from tests.sagas.given import Handle, rows, saga_status, until
from tests.sagas.guests import Guest, Receive, Welcomed, guests_app
from tests.sagas.travels import Trips, book, phone, undone
from tests.sagas.trips import Stop

ACTIONS = "select action, actor from views.saga_repairs where saga_id = %s order by number"
STATUS = "select status from views.saga_runs where workflow_id = %s"
LOG = "select c::text from amends.commands c where correlation_id = %s"

WHO = {"actor": "Grace", "reason": "the agency called back"}


def operator(trips: Trips) -> Operator:
    return Operator(trips.client, trips.task_queue)


async def parked(who: Operator, saga_id: str, count: int = 1) -> list[str]:
    """Wait until so much is parked, and give the steps' ids."""

    async def waits() -> list[str]:
        found = [step.step for step in (await who.view(saga_id)).parked]
        return found if len(found) == count else []

    return await until("it is parked", waits)


async def given_up(handle: Handle) -> None:
    """Wait for the end of a saga that was abandoned."""
    with pytest.raises(WorkflowFailureError) as failure:
        await asyncio.wait_for(handle.result(), 60)
    assert isinstance(failure.value.cause, ApplicationError)
    assert failure.value.cause.type == "Abandoned"


def keys(trips: Trips, call: str) -> list[str]:
    return [key for called, key in trips.desk.calls if called == call]


# Ids


async def test_given_an_undo_of_unknown_outcome_when_retried_then_it_keeps_its_id_and_acts_once(trips: Trips) -> None:
    trips.desk.will("cancel", "flight", "act then fail for good")
    handle = await trips.start(phone("flight"), book("full cruise"))
    await parked(operator(trips), handle.id)
    await operator(trips).repair(handle.id, Retry(**WHO))
    await undone(handle)
    first, second = keys(trips, "cancel flight")
    assert first == second
    assert trips.desk.acted == [("order", "flight"), ("cancel", "flight")]


async def test_given_an_undo_that_was_refused_twice_when_retried_then_each_time_under_an_id_of_its_own(
    trips: Trips,
) -> None:
    trips.desk.will("cancel", "flight", "refuse", "refuse")
    handle = await trips.start(phone("flight"), book("full cruise"))
    [first] = await parked(operator(trips), handle.id)
    await operator(trips).repair(handle.id, Retry(**WHO))

    async def another() -> bool:
        return await parked(operator(trips), handle.id) != [first]

    await until("it is parked again", another)
    await operator(trips).repair(handle.id, Retry(**WHO))
    await undone(handle)
    used = keys(trips, "cancel flight")
    assert len(set(used)) == 3
    assert [key.count("/again/") for key in used] == [0, 1, 1]


async def test_given_a_step_past_the_pivot_of_unknown_outcome_when_retried_then_it_keeps_its_id(trips: Trips) -> None:
    trips.desk.will("order", "train", "act then fail for good")
    handle = await trips.start(book("hotel", pivot=True), phone("train"))
    await parked(operator(trips), handle.id)
    await operator(trips).repair(handle.id, Retry(**WHO))
    await handle.result()
    assert len(set(keys(trips, "order train"))) == 1
    assert trips.desk.acted == [("order", "train")]


# Two people


@pytest.mark.parametrize("second", [Retry, Skip, Resolve], ids=lambda kind: kind.__name__)
async def test_given_two_operators_at_once_when_one_retries_then_the_other_is_told_and_nothing_is_done_twice(
    trips: Trips, second: type[Repair]
) -> None:
    # given
    trips.desk.will("cancel", "flight", "refuse")
    handle = await trips.start(phone("flight"), book("full cruise"))
    await parked(operator(trips), handle.id)
    other = second(actor="Ada", reason="mine", **({"done": "by hand"} if second is Resolve else {}))
    # when
    both = await asyncio.gather(
        *(operator(trips).repair(handle.id, each) for each in (Retry(**WHO), other)), return_exceptions=True
    )
    # then
    await undone(handle)
    assert [type(each) for each in both].count(type(None)) == 1, both
    [no] = [each for each in both if each is not None]
    assert isinstance(no, NotParked | SagaEnded)
    winner = ("retry", "Grace") if both[0] is None else (second.__name__.lower(), "Ada")
    assert await rows(trips.url, ACTIONS, handle.id) == [("park", "Phileas"), winner]
    assert len(keys(trips, "cancel flight")) == (2 if winner[0] == "retry" else 1)


# Giving up


async def test_given_much_parked_and_waiting_when_abandoned_then_it_ends_at_once_and_the_sweep_leaves_it_alone(
    trips: Trips,
) -> None:
    # given
    hotel, ship = (Stop(kind="book", name=name, last=True) for name in ("hotel", "ship"))
    trips.desk.will("cancel", "flight", "refuse")
    handle = await trips.start(hotel, ship, book("stuck car"), phone("flight"), book("stuck boat"), book("full cruise"))
    await parked(operator(trips), handle.id, 3)
    before = await trips.events(handle)
    # when
    await operator(trips).repair(handle.id, Abandon(**WHO))
    # then
    await given_up(handle)
    assert await saga_status(handle) == "Abandoned"
    assert await rows(trips.url, STATUS, handle.id) == [("Abandoned",)]
    query = f"SagaStatus = 'Abandoned' and ExecutionStatus = 'Failed' and WorkflowId = '{handle.id}'"

    async def listed() -> bool:
        return [found.id async for found in trips.client.list_workflows(query)] == [handle.id]

    await until("the list shows it", listed)
    assert await start_sweep(trips.client, trips.task_queue) == []
    assert await trips.events(handle) == before, "nothing more is undone"
    assert trips.desk.held == ["flight"]


async def test_given_an_undo_under_way_and_others_to_come_when_abandoned_then_no_other_begins(trips: Trips) -> None:
    # given: a boat that can't be given back, then a flight whose undo takes its time, then a hotel
    trips.desk.will("cancel", "flight", "hang")
    handle = await trips.start(book("hotel"), phone("flight"), book("stuck boat"), book("full cruise"))
    await parked(operator(trips), handle.id)
    await trips.called("cancel flight")
    # when
    await operator(trips).repair(handle.id, Abandon(**WHO))
    trips.desk.released.set()
    # then
    await given_up(handle)
    assert await trips.events(handle) == ["booked hotel", "booked stuck boat"]
    assert await rows(trips.url, STATUS, handle.id) == [("Abandoned",)]


async def test_given_steps_parked_side_by_side_past_the_pivot_when_abandoned_then_the_saga_ends(trips: Trips) -> None:
    group = Stop(kind="together", stops=(book("full cruise"), book("full ferry")))
    handle = await trips.start(book("hotel", pivot=True), group, book("car"))
    await parked(operator(trips), handle.id, 2)
    await operator(trips).repair(handle.id, Abandon(**WHO))
    await given_up(handle)
    assert await saga_status(handle) == "Abandoned"
    assert await rows(trips.url, STATUS, handle.id) == [("Abandoned",)]
    assert await trips.events(handle) == ["booked hotel"]


# Personal data


async def test_given_input_with_personal_data_when_retried_then_it_is_done_and_masked_wherever_it_is_told(
    settings: Settings, run_worker: RunWorker
) -> None:
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    app = guests_app()
    install(app, url)
    client = await connect(settings)
    who, id = Operator(client, settings.task_queue), f"house-{uuid4().hex[:12]}"
    async with run_worker(app):
        # given
        guest = Guest(house_id=id, name="Ada")
        handle: Any = await client.start_workflow(Receive.run, guest, id=id, task_queue=settings.task_queue)
        await parked(who, id)
        [step] = (await who.view(id)).parked
        # when: the mask is given as it was shown, which is nobody's name
        assert step.input == {"house_id": id, "name": MASK}
        with pytest.raises(InvalidInput, match="personal"):
            await who.repair(id, Retry(**WHO, input=step.input))
        await who.repair(id, Retry(**WHO, input={"house_id": id, "name": "Ada"}))

        async def again() -> bool:
            return any("/again/" in each.step for each in (await who.view(id)).parked)

        await until("it is refused again", again)
        assert "Ada" not in (await who.view(id)).model_dump_json()
        await who.repair(id, Retry(**WHO, input={"house_id": id, "name": "Bess"}))
        await handle.result()
        # then
        async with open_pool(url, "projector", 1) as pool:
            found = [
                row.recorded().event for row in await Feed(pool).read(START, 1000) if row.name == Welcomed.message_name
            ]
        assert [event.name for event in found if isinstance(event, Welcomed)] == ["Bess"]
        log = " ".join(line for (line,) in await rows(url, LOG, id))
        assert MASK in log
        assert "Ada" not in log
        assert "Bess" not in log
