"""What the sweep meets: repairs under way, people who repair meanwhile, another sweep, a saga without a status."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from amends.app import App, install
from amends.connect import connect
from amends.operator import Operator
from amends.repair import Abandon, Retry, Skip
from amends.settings import Settings
from amends.sweep import start_sweep
from tests.conftest import RunWorker
from tests.sagas.given import Handle, rows, saga_status, until
from tests.sagas.travels import WAIT, Trips, book, child, phone
from tests.sagas.trips import Itinerary, Stop, Travel, Trip

WHO = {"actor": "Grace", "reason": "the agency called back"}
RUN = "select status from views.saga_runs where workflow_id = %s"
OTHER = {"what": "flight by another name"}


def operator(trips: Trips) -> Operator:
    return Operator(trips.client, trips.task_queue)


def compensation(trips: Trips, handle: Handle) -> Handle:
    return trips.client.get_workflow_handle(f"compensation-{handle.id}")


async def swept(trips: Trips, handle: Handle) -> Handle:
    """Sweep until the saga is found, which lists show with a little delay, and give its compensation."""

    async def found() -> bool:
        return handle.id in await start_sweep(trips.client, trips.task_queue)

    await until("the sweep finds it", found)
    return compensation(trips, handle)


async def parked(trips: Trips, handle: Handle, count: int = 1) -> list[str]:
    """Wait until so much is parked, in the saga or in its compensation, and give the titles."""

    async def waits() -> list[str]:
        found = [step.title for step in (await operator(trips).view(handle.id)).parked]
        return found if len(found) == count else []

    return await until("it is parked", waits)


def calls(trips: Trips, call: str) -> list[str]:
    return [key for called, key in trips.desk.calls if called == call]


# Undos that somebody had changed


@pytest.mark.parametrize("mood", ["hang", "act then hang"])
async def test_given_an_undo_retried_with_other_input_when_terminated_then_the_changed_one_acts_once_and_only_that(
    trips: Trips, mood: Any
) -> None:
    # given: the changed undo is under way
    trips.desk.will("cancel", "flight", "refuse")
    trips.desk.will("cancel", OTHER["what"], mood)
    handle = await trips.start(book("hotel"), phone("flight"), book("full cruise"))
    await parked(trips, handle)
    await operator(trips).repair(handle.id, Retry(**WHO, input=OTHER))
    await trips.called(f"cancel {OTHER['what']}")
    # when
    await handle.terminate("to see what happens")
    trips.desk.released.set()
    assert await (await swept(trips, handle)).result() == "undone"
    # then
    assert len(calls(trips, "cancel flight")) == 1, "the original is not repeated"
    assert len(set(calls(trips, f"cancel {OTHER['what']}"))) == 1, "one id, so that it acts once"
    assert trips.desk.acted == [("order", "flight"), ("cancel", OTHER["what"])]
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]


async def test_given_a_changed_undo_that_was_done_when_terminated_later_then_neither_is_done_again(
    trips: Trips,
) -> None:
    # given: two undos are parked, and one is done with other input
    trips.desk.will("cancel", "flight", "refuse")
    handle = await trips.start(phone("flight"), book("stuck car"), book("full cruise"))
    await parked(trips, handle, 2)
    await operator(trips).repair(handle.id, Retry(**WHO, step=_flight(await _steps(trips, handle)), input=OTHER))
    assert await parked(trips, handle) == ["book stuck car"]
    await trips.called(f"cancel {OTHER['what']}")
    # when
    await handle.terminate("to see what happens")
    await swept(trips, handle)
    # then
    assert await parked(trips, handle) == ["book stuck car"]
    await operator(trips).repair(handle.id, Skip(**WHO))
    assert await compensation(trips, handle).result() == "undone"
    assert trips.desk.acted == [("order", "flight"), ("cancel", OTHER["what"])]
    assert len(trips.desk.calls) == 3


async def _steps(trips: Trips, handle: Handle) -> list[str]:
    return [step.step for step in (await operator(trips).view(handle.id)).parked]


def _flight(steps: list[str]) -> str:
    return next(step for step in steps if "agency" in step)


# Sagas without a status


async def test_given_a_saga_started_by_hand_without_a_status_when_it_runs_then_lists_find_it_and_the_sweep_too(
    trips: Trips,
) -> None:
    # given
    id = f"trip-{uuid4().hex[:12]}"
    request = Itinerary(trip_id=id, stops=(book("hotel"), WAIT))
    handle: Handle = await trips.client.start_workflow(Travel.run, request, id=id, task_queue=trips.task_queue)
    handle = trips.client.get_workflow_handle(id)
    await trips.hear(handle)
    # then
    assert await saga_status(handle) == "Running"
    query = f"SagaStatus = 'Running' and WorkflowId = '{id}'"

    async def listed() -> bool:
        return [found.id async for found in trips.client.list_workflows(query)] == [id]

    await until("the list shows it", listed)
    assert [saga.workflow_id async for saga in operator(trips).sagas(status="Running")] == [id]
    # when
    await handle.terminate("to see what happens")
    assert await (await swept(trips, handle)).result() == "undone"
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]


# Others at the same time


async def test_given_two_sweeps_at_once_when_both_find_a_saga_then_it_is_undone_once(trips: Trips) -> None:
    handle = await trips.start(book("hotel"), phone("flight"), WAIT)
    await trips.hear(handle)
    await handle.terminate("to see what happens")
    await swept(trips, handle)
    await asyncio.gather(*(start_sweep(trips.client, trips.task_queue) for _ in range(4)))
    await compensation(trips, handle).result()

    async def left_alone() -> bool:
        return await start_sweep(trips.client, trips.task_queue) == []

    await until("nothing is left to do", left_alone)
    assert trips.desk.acted == [("order", "flight"), ("cancel", "flight")]
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]


async def test_given_a_parked_saga_when_terminated_and_repaired_in_its_compensation_then_it_is_over(
    trips: Trips,
) -> None:
    trips.desk.will("cancel", "flight", "refuse", "refuse")
    handle = await trips.start(book("hotel"), phone("flight"), book("full cruise"))
    await parked(trips, handle)
    await handle.terminate("to see what happens")
    again = await swept(trips, handle)

    async def refused_again() -> bool:
        return len(calls(trips, "cancel flight")) == 2

    await until("the compensation is refused too", refused_again)
    await parked(trips, handle)
    await operator(trips).repair(handle.id, Retry(**WHO))
    assert await again.result() == "undone"
    assert len(set(calls(trips, "cancel flight"))) == 3
    assert trips.desk.held == []


async def test_given_a_parked_compensation_when_abandoned_then_the_saga_is_and_the_sweep_leaves_it_alone(
    trips: Trips,
) -> None:
    handle = await trips.start(book("stuck car"), WAIT)
    await trips.hear(handle)
    await handle.terminate("to see what happens")
    again = await swept(trips, handle)
    await parked(trips, handle)
    await operator(trips).repair(handle.id, Abandon(**WHO))
    with pytest.raises(Exception, match="execution failed"):
        await again.result()
    assert await saga_status(again) == "Abandoned"
    assert await rows(trips.url, RUN, handle.id) == [("Abandoned",)]
    assert await start_sweep(trips.client, trips.task_queue) == []
    assert await trips.events(handle) == ["booked stuck car"]


async def test_given_a_child_that_can_not_undo_a_step_when_its_root_is_gone_then_the_compensation_parks_it(
    trips: Trips,
) -> None:
    handle = await trips.start(book("hotel"), child("leg", book("stuck car"), WAIT))
    leg = trips.client.get_workflow_handle(f"{handle.id}/leg")

    async def there() -> bool:
        return "booked stuck car" in await trips.events(handle)

    await until("the child is there", there)
    await trips.hear(leg)
    await handle.terminate("to see what happens")
    with pytest.raises(Exception, match="execution failed"):
        await leg.result()
    assert await saga_status(leg) == "HandedOver"
    again = await swept(trips, handle)
    assert await parked(trips, handle) == ["book stuck car"]
    await operator(trips).repair(handle.id, Skip(**WHO))
    assert await again.result() == "undone"
    assert (await trips.events(handle))[-1] == "unbooked hotel"


async def test_given_a_pivot_of_unknown_outcome_when_terminated_while_it_is_undone_then_the_undoing_goes_on(
    trips: Trips,
) -> None:
    trips.desk.will("order", "train", "act then fail for good")
    trips.desk.will("cancel", "train", "act then hang")
    handle = await trips.start(book("hotel"), Stop(kind="phone", name="train", pivot=True), book("car"))
    await trips.called("cancel train")
    await handle.terminate("to see what happens")
    trips.desk.released.set()
    await (await swept(trips, handle)).result()

    async def over() -> bool:
        latest = trips.client.get_workflow_handle(handle.id)
        return await saga_status(latest) == "Compensated" or await rows(trips.url, RUN, handle.id) == [("Compensated",)]

    await until("it is undone", over)
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]
    assert trips.desk.acted == [("order", "train"), ("cancel", "train")]


async def test_given_an_app_without_processes_when_swept_then_nothing_is_found(
    settings: Settings, run_worker: RunWorker
) -> None:
    assert settings.database_url is not None
    app = App(aggregates=[Trip], workflows=[], activities=lambda resources: [])
    install(app, settings.database_url.get_secret_value())
    async with run_worker(app), asyncio.timeout(20):
        assert await start_sweep(await connect(settings), settings.task_queue) == []
