"""Turning back by the log: what a worker did in a task that was lost is undone too, and nothing new comes behind it.

A local step acts before the history knows of it. When its task is lost, and something else has come meanwhile, the next
worker may go another way; the log tells what stands. The tests do what such a worker does, by its own means.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

import pytest
from temporalio.client import RPCError

from amends import Context
from amends.database import open_pool
from amends.errors import EndedFromOutside
from amends.handler import CommandHandler
from amends.operator import Operator
from amends.records import Receipt, UndoStep
from amends.repair import Cancel, Resolve
from amends.saga_log import CloseSaga, SagaLog
from amends.store import EventStore
from amends.sweep import start_sweep
from tests.sagas.given import Handle, reset, rows, saga_status, story, until
from tests.sagas.travels import WAIT, Trips, book, child, phone, sub, undone
from tests.sagas.trips import Stop, Trip, TripBook

WHO = {"actor": "Grace", "reason": "never mind"}
TURN_BACK = "select amends.turn_back(%s, %s, 'test', 'test')"
STATUS = "select status from views.saga_runs where workflow_id = %s"
FENCED = "select run_id from amends.fences where saga = %s"


async def done_by_another(
    trips: Trips, saga: str, run: str, what: str, *, step: str = "lost", pivot: bool = False, undo: bool = True
) -> Receipt:
    """A worker that has an old task of a saga takes a step."""
    id = f"{saga}/{step}"
    back = {"trip_id": saga, "what": what, "why": "{reason}"}
    context = Context(
        command_id=id,
        actor="Phileas",
        correlation_id=saga,
        causation_id=saga,
        workflow_id=saga,
        run_id=run,
        step=f"book {what}",
        kind="step",
        undo=UndoStep(id=f"{saga}/undo/{step}", undoes=id, title=f"book {what}", name="trip_test.unbook", data=back)
        if undo
        else None,
        pivot=pivot,
        guarded=True,
    )
    async with open_pool(trips.url, "writer", 1) as pool:
        return await CommandHandler(EventStore(pool), [Trip]).handle(TripBook(trip_id=saga, what=what), context)


async def waiting(trips: Trips, *stops: Stop) -> tuple[Handle, str]:
    """A trip that waits for a call, and its run."""
    handle = await trips.start(*stops)
    await trips.hear(handle)
    return handle, (await handle.describe()).run_id


@pytest.mark.parametrize("way", ["refused", "cancelled"])
async def test_given_a_step_of_a_lost_task_when_the_saga_turns_back_then_it_is_undone_first(
    trips: Trips, way: str
) -> None:
    # given
    handle, run = await waiting(trips, book("hotel"), WAIT, book("full cruise"))
    await done_by_another(trips, handle.id, run, "car")
    # when
    await (handle.signal("call", "go") if way == "refused" else handle.cancel())
    await undone(handle)
    # then
    assert await trips.events(handle) == ["booked hotel", "booked car", "unbooked car", "unbooked hotel"]
    assert "book car: was done in a task that was lost" in await story(handle)
    assert await saga_status(handle) == "Compensated"


async def test_given_steps_of_a_sub_that_were_undone_when_the_saga_turns_back_then_they_are_not_taken_for_lost(
    trips: Trips,
) -> None:
    tries = Stop(kind="try", stops=(sub("leg", book("car"), book("full boat")),))
    also = Stop(kind="try", stops=(child("leg", book("bus"), book("full boat")),))
    handle = await trips.start(book("hotel"), tries, also, child("tour", book("bike")), book("full cruise"))
    await undone(handle)
    counted = [await trips.events(handle)].pop()
    assert counted == [
        *("booked hotel", "booked car", "unbooked car", "booked bus", "unbooked bus"),
        *("booked bike", "unbooked bike", "unbooked hotel"),
    ]
    assert not [line for line in await story(handle) if "lost" in line]


async def test_given_a_saga_that_turned_back_when_an_old_task_goes_on_then_nothing_new_is_done_and_the_known_stays(
    trips: Trips,
) -> None:
    # given
    saga, run = f"trip-{uuid4().hex[:12]}", uuid4().hex
    known: dict[str, Any] = {"trips": trips, "saga": saga, "run": run, "what": "hotel", "step": "first"}
    first = await done_by_another(**known)
    # when
    assert await rows(trips.url, TURN_BACK, saga, run) == [(True,)]
    # then
    with pytest.raises(EndedFromOutside):
        await done_by_another(trips, saga, run, "car", step="second")
    assert (await done_by_another(**known)).position == first.position
    with pytest.raises(EndedFromOutside):
        await done_by_another(trips, saga, run, "car", step="pivot", pivot=True, undo=False)
    with pytest.raises(EndedFromOutside):
        await done_by_another(**known | {"run": "another"})


@pytest.mark.parametrize("way", ["cancelled", "refused"])
async def test_given_a_saga_that_begins_anew_when_it_turns_back_early_then_what_the_earlier_run_did_is_undone(
    trips: Trips, way: str
) -> None:
    # given
    handle, _ = await waiting(trips, phone("look"), book("hotel"), phone("pay"), WAIT)
    trips.desk.will("order", "look", "refuse" if way == "refused" else "hang")
    # when
    await reset(trips.client, handle)
    await trips.called("order look", 2)
    again = trips.client.get_workflow_handle(handle.id)
    if way == "cancelled":
        await Operator(trips.client, trips.task_queue).repair(handle.id, Cancel(**WHO))
        trips.desk.released.set()
    await undone(again)
    # then
    assert trips.desk.held == []
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]
    assert await start_sweep(trips.client, trips.task_queue) == []


PIVOTS = [book("hotel", pivot=True), phone("hotel", pivot=True)]


async def past_its_pivot(trips: Trips, mood: Literal["hang", "refuse"], pivot: Stop) -> Handle:
    """A trip that has come to its end, and begins anew."""
    handle = await trips.start(phone("look"), book("boat"), pivot, book("car"))
    await handle.result()
    trips.desk.will("order", "look", mood)
    await reset(trips.client, handle)
    await trips.called("order look", 2)
    return trips.client.get_workflow_handle(handle.id)


@pytest.mark.parametrize("pivot", PIVOTS, ids=["command", "call"])
async def test_given_a_saga_past_its_pivot_that_begins_anew_when_cancelled_then_it_keeps_what_it_has(
    trips: Trips, pivot: Stop
) -> None:
    again = await past_its_pivot(trips, "hang", pivot)
    await Operator(trips.client, trips.task_queue).repair(again.id, Cancel(**WHO))
    trips.desk.released.set()
    await again.result()
    assert trips.desk.held[0] == "look"
    booked = [what for what in await trips.events(again) if what != "booked hotel"] + trips.desk.held[1:]
    assert booked in (["booked boat", "booked car"], ["booked boat", "booked car", "hotel"])


@pytest.mark.parametrize("pivot", PIVOTS, ids=["command", "call"])
async def test_given_a_saga_past_its_pivot_that_begins_anew_when_it_is_refused_then_it_waits_for_a_person(
    trips: Trips, pivot: Stop
) -> None:
    again = await past_its_pivot(trips, "refuse", pivot)

    async def waits() -> bool:
        return await saga_status(again) == "NeedsAttention"

    await until("it needs somebody", waits)
    assert trips.desk.held[0] == "look"
    booked = [what for what in await trips.events(again) if what != "booked hotel"] + trips.desk.held[1:]
    assert booked in (["booked boat", "booked car"], ["booked boat", "booked car", "hotel"])
    await again.execute_update(Resolve.update, Resolve(**WHO, done="looked"))
    with pytest.raises(Exception, match="execution failed"):
        await again.result()


async def test_given_a_saga_that_turns_back_when_it_begins_anew_meanwhile_then_its_log_tells_its_end(
    trips: Trips,
) -> None:
    trips.desk.will("cancel", "flight", "hang")
    handle = await trips.start(book("hotel"), phone("flight"), book("full cruise"))
    await trips.called("cancel flight")
    await reset(trips.client, handle)
    trips.desk.released.set()
    again = trips.client.get_workflow_handle(handle.id)
    await undone(again)
    assert trips.desk.held == []
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]
    assert await rows(trips.url, STATUS, handle.id) == [("Compensated",)]


async def test_given_an_end_in_a_lost_task_when_the_saga_is_terminated_while_it_turns_back_then_it_is_swept(
    trips: Trips,
) -> None:
    """It was complete by its log, and then was not."""
    # given
    handle, run = await waiting(trips, book("hotel"), phone("flight"), WAIT)
    close = CloseSaga(
        saga_id=handle.id,
        process="Travel",
        status="Completed",
        reason=None,
        message=None,
        failed_at=None,
        started_at=datetime.now(UTC),
        turned_back_at=None,
        steps=3,
        undos=0,
        run_id=run,
    )
    id = f"{handle.id}/close/{run}/Completed"
    context = Context(
        command_id=id, actor="test", correlation_id=handle.id, causation_id=id, workflow_id=handle.id, run_id=run
    )
    async with open_pool(trips.url, "writer", 1) as pool:
        await CommandHandler(EventStore(pool), [SagaLog]).handle(close, context)
    # when
    trips.desk.will("cancel", "flight", "hang")
    await handle.cancel()
    await trips.called("cancel flight")
    await handle.terminate("to see what happens")
    trips.desk.released.set()

    async def swept() -> bool:
        return handle.id in await start_sweep(trips.client, trips.task_queue)

    # then
    await until("the sweep finds it", swept)
    await trips.client.get_workflow_handle(f"compensation-{handle.id}").result()
    assert trips.desk.held == []
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]


async def test_given_a_pivot_of_a_lost_task_when_the_saga_would_turn_back_then_it_waits_for_a_person(
    trips: Trips,
) -> None:
    """What came meanwhile let the story go another way than the worker did that passed the pivot."""
    # given
    handle, run = await waiting(trips, book("hotel"), WAIT, book("full cruise"))
    await done_by_another(trips, handle.id, run, "car", pivot=True, undo=False)
    # when
    await handle.cancel()

    async def waits() -> bool:
        return await saga_status(handle) == "NeedsAttention"

    await until("it needs somebody", waits)
    # then
    assert await trips.events(handle) == ["booked hotel", "booked car"]
    assert await rows(trips.url, FENCED, handle.id) == []
    resolve = Resolve(actor="Grace", reason="the tour is booked", done="told the customer")
    await handle.execute_update(Resolve.update, resolve)
    with pytest.raises(Exception, match="execution failed"):
        await handle.result()


async def test_given_the_pivot_itself_in_a_lost_task_when_cancelled_then_the_saga_goes_on(trips: Trips) -> None:
    # given
    stops = (book("hotel"), WAIT, book("car", pivot=True), book("boat"))
    handle, run = await waiting(trips, *stops)
    step = f"trip_test.book:{handle.id}#2"
    await done_by_another(trips, handle.id, run, "car", step=step, pivot=True, undo=False)
    # when: the call and the cancellation come in one task
    await handle.signal("call", "go")
    with suppress(RPCError):  # it may have been faster
        await handle.cancel()
    await handle.result()
    # then
    assert await trips.events(handle) == ["booked hotel", "booked car", "booked boat"]
    assert await saga_status(handle) == "Completed"
