"""Sagas that somebody ended from outside are put right: undone by the command log, or sent on past their pivot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from temporalio.client import RPCError

from amends.app import install
from amends.connect import connect
from amends.repair import Skip
from amends.settings import Settings
from amends.sweep import schedule_sweep, start_sweep
from tests.conftest import RunWorker
from tests.sagas.given import Handle, reset, rows, saga_status, until
from tests.sagas.travels import MOUNTS, WAIT, Mount, Trips, book, child, phone, sub, together
from tests.sagas.trips import Desk, Stop, trips_app

RUN = "select process, status, reason from views.saga_runs where workflow_id = %s"
SHIFT = (
    "update amends.commands set recorded_at = recorded_at + %s::interval where workflow_id = %s and name = 'saga.close'"
)
LOCKED = "select 1 from pg_locks where relation = 'amends.events'::regclass and not granted"


async def swept(trips: Trips, handle: Handle) -> Handle:
    """Sweep until the saga is found, which lists show with a little delay, and give its compensation."""

    async def found() -> bool:
        return handle.id in await start_sweep(trips.client, trips.task_queue)

    await until("the sweep finds it", found)
    return trips.client.get_workflow_handle(f"compensation-{handle.id}")


async def terminated(trips: Trips, *stops: Stop, mount: Mount = "as_written") -> Handle:
    """A trip that is terminated while it waits after its stops."""
    handle = await trips.start(*stops, WAIT, mount=mount)
    await trips.hear(handle)
    await handle.terminate("to see what happens")
    return handle


async def ended_at(trips: Trips, handle: Handle, difference: LiteralString) -> None:
    """Have the end of a saga written by a clock that differs; the log does not let itself be changed otherwise."""
    async with await psycopg.AsyncConnection.connect(trips.url) as connection:
        await connection.execute("set session_replication_role = replica")
        await connection.execute(SHIFT, (difference, handle.id))


async def running(child: Handle) -> Handle:
    """The child, once it runs."""

    async def runs() -> bool:
        try:
            return bool(await child.query("saga"))
        except RPCError:
            return False

    await until("the child runs", runs)
    return child


@asynccontextmanager
async def locked(url: str, table: LiteralString) -> AsyncIterator[psycopg.AsyncConnection]:
    """Nobody writes to a table meanwhile."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(sql.SQL("lock table {} in access exclusive mode").format(sql.SQL(table)))
        yield connection
        await connection.rollback()


@pytest.mark.parametrize("mount", MOUNTS)
async def test_given_a_saga_that_is_terminated_when_swept_then_it_is_undone_newest_first(
    trips: Trips, mount: Mount
) -> None:
    stops = (book("hotel"), sub("leg", book("car"), phone("flight")), book("boat"))
    handle = await terminated(trips, *stops, mount=mount)
    compensation = await swept(trips, handle)
    assert await compensation.result() == "undone"
    assert (await trips.events(handle))[3:] == ["unbooked boat", "unbooked car", "unbooked hotel"]
    assert trips.desk.held == []
    assert await saga_status(compensation) == "Compensated"
    assert await rows(trips.url, RUN, handle.id) == [("Travel", "Compensated", "terminated")]


async def test_given_a_saga_that_runs_out_of_its_workflow_s_time_when_swept_then_it_is_undone(trips: Trips) -> None:
    handle = await trips.start(book("hotel"), WAIT, timeout=1.5)
    compensation = await swept(trips, handle)
    await compensation.result()
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]
    assert await rows(trips.url, RUN, handle.id) == [("Travel", "Compensated", "timed_out")]


async def test_given_a_saga_that_was_put_right_when_swept_again_then_it_is_left_alone(trips: Trips) -> None:
    handle = await terminated(trips, book("hotel"))
    await (await swept(trips, handle)).result()
    assert await start_sweep(trips.client, trips.task_queue) == []


async def test_given_a_database_whose_clock_is_behind_when_swept_then_a_saga_that_was_put_right_is_left_alone(
    trips: Trips,
) -> None:
    handle = await terminated(trips, book("hotel"))
    await (await swept(trips, handle)).result()
    await ended_at(trips, handle, "-1 hour")
    assert await start_sweep(trips.client, trips.task_queue) == []


async def test_given_a_database_whose_clock_is_ahead_when_a_saga_begins_anew_and_is_terminated_then_it_is_swept(
    trips: Trips,
) -> None:
    # given
    handle = await trips.start(book("hotel"), phone("flight"))
    await handle.result()
    await ended_at(trips, handle, "1 hour")
    # when
    trips.desk.will("order", "flight", "hang")
    await reset(trips.client, handle)
    await trips.called("order flight", 2)
    await trips.client.get_workflow_handle(handle.id).terminate("to see what happens")
    # then
    await (await swept(trips, handle)).result()
    assert trips.desk.held == []
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]
    trips.desk.released.set()


async def test_given_sagas_that_ended_by_themselves_when_swept_then_none_is_found(trips: Trips) -> None:
    await (await trips.start(book("hotel"))).result()
    handle = await trips.start(book("hotel"), book("full cruise"))
    with pytest.raises(Exception, match="execution failed"):
        await handle.result()
    assert await start_sweep(trips.client, trips.task_queue) == []


async def test_given_a_call_under_way_when_terminated_then_it_is_undone_though_its_answer_comes_late(
    trips: Trips,
) -> None:
    trips.desk.will("order", "flight", "act then hang")
    handle = await trips.start(book("hotel"), phone("flight"))
    await trips.called("order flight")
    await handle.terminate("to see what happens")
    await (await swept(trips, handle)).result()
    trips.desk.released.set()
    assert trips.desk.acted == [("order", "flight"), ("cancel", "flight")]
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]


async def test_given_a_call_that_was_refused_when_terminated_later_then_it_is_not_undone(trips: Trips) -> None:
    trips.desk.will("order", "flight", "refuse")
    handle = await terminated(trips, Stop(kind="try", stops=(phone("flight"),)), book("hotel"))
    await (await swept(trips, handle)).result()
    assert [call for call, _ in trips.desk.calls] == ["order flight"]


async def test_given_an_undo_under_way_when_terminated_then_the_rest_is_undone_and_nothing_twice(trips: Trips) -> None:
    trips.desk.will("cancel", "flight", "act then hang")
    handle = await trips.start(book("hotel"), phone("flight"), book("car"), book("full cruise"))
    await trips.called("cancel flight")
    await handle.terminate("to see what happens")
    trips.desk.released.set()
    await (await swept(trips, handle)).result()
    assert trips.desk.acted == [("order", "flight"), ("cancel", "flight")]
    assert await trips.events(handle) == ["booked hotel", "booked car", "unbooked car", "unbooked hotel"]


async def test_given_a_command_under_way_when_swept_then_it_is_undone_or_never_acts(trips: Trips) -> None:
    async with locked(trips.url, "amends.events") as connection:
        handle = await trips.start(book("hotel"), WAIT)

        async def waits() -> bool:
            return await (await connection.execute(LOCKED)).fetchone() is not None

        await until("the command waits", waits)
        await handle.terminate("to see what happens")
        compensation = await swept(trips, handle)
    await compensation.result()
    events = await trips.events(handle)
    assert events in (["booked hotel", "unbooked hotel"], []), "done and undone, or never done"


async def test_given_a_step_whose_undo_was_skipped_by_hand_when_terminated_then_it_stays_settled(trips: Trips) -> None:
    handle = await trips.start(book("hotel"), book("stuck car"), book("stuck boat"), book("full cruise"))

    async def parked() -> bool:
        return len((await handle.query("saga"))["parked"]) == 2

    await until("both are parked", parked)
    who = {"actor": "Grace", "reason": "never mind"}
    car = next(step for step in (await handle.query("saga"))["parked"] if "car" in step["title"])
    await handle.execute_update("saga_skip", Skip(**who, step=car["step"]))
    await handle.terminate("to see what happens")
    compensation = await swept(trips, handle)

    async def one_parked() -> list[str]:
        return [step["title"] for step in (await compensation.query("saga"))["parked"]]

    assert await until("the other is parked again", one_parked) == ["book stuck boat"]
    assert await saga_status(compensation) == "NeedsAttention"
    await compensation.execute_update("saga_skip", Skip(**who))
    assert await compensation.result() == "undone"


async def test_given_a_compensation_that_is_terminated_too_when_swept_then_it_begins_again(trips: Trips) -> None:
    trips.desk.will("cancel", "flight", "hang")
    handle = await terminated(trips, book("hotel"), phone("flight"))
    compensation = await swept(trips, handle)
    await trips.called("cancel flight")
    await compensation.terminate("again")
    trips.desk.released.set()

    async def begun() -> bool:
        return (await saga_status(trips.client.get_workflow_handle(compensation.id))) == "Compensated" or not (
            await start_sweep(trips.client, trips.task_queue)
        )

    await until("it is put right", begun)
    assert trips.desk.held == []
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]


# Past the pivot


@pytest.mark.parametrize("mount", MOUNTS)
async def test_given_a_saga_terminated_past_its_pivot_when_swept_then_it_goes_on_to_its_end(
    trips: Trips, mount: Mount
) -> None:
    trips.desk.will("order", "train", "hang")
    stops = (book("hotel", pivot=True), book("car"), sub("leg", phone("train")), book("boat"))
    handle = await trips.start(*stops, mount=mount)
    await trips.called("order train")
    await handle.terminate("to see what happens")
    trips.desk.released.set()
    assert await (await swept(trips, handle)).result() == "resumed"
    again = trips.client.get_workflow_handle(handle.id)
    await again.result()
    assert await saga_status(again) == "Completed"
    assert await trips.events(handle) == ["booked hotel", "booked car", "booked boat"]
    assert trips.desk.held == ["train"]

    async def nothing_left() -> bool:
        return await start_sweep(trips.client, trips.task_queue) == []

    await until("nothing is left to do", nothing_left)


@pytest.mark.parametrize("mood", ["hang", "act then hang"])
async def test_given_a_pivot_under_way_when_terminated_then_it_is_either_undone_or_goes_on(
    trips: Trips, mood: Any
) -> None:
    trips.desk.will("order", "train", mood)
    handle = await trips.start(book("hotel"), phone("train", pivot=True), book("car"))
    await trips.called("order train")
    await handle.terminate("to see what happens")
    trips.desk.released.set()
    await (await swept(trips, handle)).result()
    again = trips.client.get_workflow_handle(handle.id)
    await again.result()
    assert trips.desk.held == ["train"]
    assert await trips.events(handle) == ["booked hotel", "booked car"]


async def test_given_a_child_that_ends_after_its_root_was_terminated_past_the_pivot_then_it_is_not_run_again(
    trips: Trips,
) -> None:
    handle = await trips.start(book("hotel", pivot=True), child("leg", book("car"), WAIT), book("boat"))
    leg = await running(trips.client.get_workflow_handle(f"{handle.id}/leg"))
    await trips.hear(leg)
    run = (await leg.describe()).run_id
    await handle.terminate("to see what happens")
    await leg.signal("call", "go")
    assert await leg.result() == ["go"]
    assert await (await swept(trips, handle)).result() == "resumed"
    await trips.client.get_workflow_handle(handle.id).result()
    assert await trips.events(handle) == ["booked hotel", "booked car", "booked boat"]
    assert (await leg.describe()).run_id == run


# Children


async def test_given_a_child_that_is_terminated_when_its_parent_turns_back_then_the_child_s_steps_are_undone(
    trips: Trips,
) -> None:
    handle = await trips.start(book("hotel"), child("leg", together(book("car"), phone("flight")), WAIT))
    leg = trips.client.get_workflow_handle(f"{handle.id}/leg")
    await trips.called("order flight")
    await trips.hear(leg)
    await leg.terminate("to see what happens")
    with pytest.raises(Exception, match="execution failed"):
        await handle.result()
    assert await saga_status(handle) == "Compensated"
    assert sorted(await trips.events(handle)) == ["booked car", "booked hotel", "unbooked car", "unbooked hotel"]
    assert trips.desk.held == []
    assert await start_sweep(trips.client, trips.task_queue) == []
    [(_, status, _)] = await rows(trips.url, RUN, leg.id)
    assert status == "Compensated", "a child that was ended ends with its saga"


async def test_given_a_child_that_undoes_itself_when_its_terminated_parent_is_swept_meanwhile_then_they_agree(
    trips: Trips,
) -> None:
    trips.desk.will("cancel", "flight", "hang", "hang")
    handle = await trips.start(book("hotel"), child("leg", phone("flight"), WAIT))
    leg = trips.client.get_workflow_handle(f"{handle.id}/leg")
    await trips.called("order flight")
    await trips.hear(leg)
    await handle.terminate("to see what happens")
    await trips.called("cancel flight")
    compensation = await swept(trips, handle)
    await trips.called("cancel flight", times=2)
    trips.desk.released.set()
    assert await compensation.result() == "undone"
    with pytest.raises(Exception, match="execution failed"):
        await leg.result()
    assert await saga_status(leg) == "Compensated"
    assert trips.desk.acted == [("order", "flight"), ("cancel", "flight")]


# The schedule


async def test_given_a_schedule_when_made_twice_then_there_is_one_that_sweeps_every_minute(
    settings: Settings, run_worker: RunWorker
) -> None:
    assert settings.database_url is not None
    app = trips_app(Desk())
    install(app, settings.database_url.get_secret_value())
    async with run_worker(app):
        client = await connect(settings)
        for _ in range(2):
            await schedule_sweep(client, settings.task_queue)
        schedule = client.get_schedule_handle(f"sweep@{settings.task_queue}")
        spec = (await schedule.describe()).schedule.spec
        assert [interval.every.total_seconds() for interval in spec.intervals] == [60]
        await schedule.trigger()

        async def ran() -> bool:
            return bool((await schedule.describe()).info.recent_actions)

        await until("it sweeps", ran)
        await schedule.delete()


async def test_given_a_child_of_a_saga_when_its_steps_come_after_the_fence_then_they_are_refused(trips: Trips) -> None:
    """A child that is still under way when its root is swept can't do anything new."""
    handle = await trips.start(book("hotel"), child("leg", WAIT, book("car")))
    leg = await running(trips.client.get_workflow_handle(f"{handle.id}/leg"))
    await rows(trips.url, "select amends.fence(%s, 'test', 'test')", handle.id)
    await trips.hear(leg)
    await leg.signal("call", "go")
    with pytest.raises(Exception, match="execution failed"):
        await handle.result()
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]
