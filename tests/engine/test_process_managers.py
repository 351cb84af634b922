"""Process managers: each event acts once, whatever dies between the reaction and the checkpoint."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from psycopg import Error as PgError
from structlog.testing import capture_logs
from temporalio.client import WorkflowHandle

from amends import Event, ProcessManager, Signal, Start
from amends.app import App, install
from amends.embedded import EmbeddedTemporal, free_port
from amends.errors import NotDelivered, ProjectionError, Superseded, UnreadableBatch
from amends.process_manager_workflow import start_process_managers
from amends.reader import Reader
from amends.settings import Settings
from amends.testing import given
from amends.visibility import MEMO, SAGA_STATUS, SEARCH_ATTRIBUTES, SagaMemo
from app import app as shop_app
from tests.conftest import RunWorker
from tests.engine.bells import (
    House,
    Knock,
    Leave,
    Noise,
    OpenDoor,
    Opened,
    Rang,
    Ring,
    Visit,
    WaitBehindDoor,
    doorman,
    house,
    open_house,
)
from tests.engine.readside_shop import connect, fetch, order_list, running
from tests.sagas.given import saga_status, until, until_true

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

BREAK = """
create function break_off() returns trigger language plpgsql as
$$ begin perform pg_terminate_backend(pg_backend_pid()); return new; end $$;
create trigger break_off before update on amends.checkpoints for each row execute function break_off();
"""
"""Ends whoever moves a checkpoint: what is to be done for it has been done by then."""

RAW = """
insert into amends.events (stream, version, name, schema_version, data, correlation_id, causation_id, command_id, actor)
select 'bells-raw', 1, 'bells.rang', 1, jsonb_build_object('bell', %s::text, 'order_id', 'o1'), 'c', 'c', 'c', 'raw'
"""
"""An event appended by hand, in a transaction that may stay open."""

BEGINNING = "update amends.checkpoints set xid = '0', position = 0 where projection = 'greeting'"
"""What a restored database may look like: everything is delivered again."""

CAUGHT_UP = "update amends.checkpoints set xid = %s, position = %s where projection = %s"


@pytest.fixture
async def home(settings: Settings) -> AsyncIterator[House]:
    async with open_house(settings) as home:
        yield home


def opens(home: House, *managers: ProcessManager) -> App:
    """An app with these process managers, installed."""
    app = house(*managers)
    install(app, home.url)
    return app


async def test_given_events_when_they_happen_then_each_starts_one_saga_that_lists_show_like_any_other(
    home: House, run_worker: RunWorker
) -> None:
    app = opens(home, doorman("greeting"))
    async with run_worker(app):
        await home.does(Ring(bell="front", order_id="o7"), trace=TRACE)
        await until("the first door is open", lambda: home.events(Opened))
        await home.rings("back")
        first, second = [f"greeting-{id}" for id in await home.events(Rang)]
        assert [id for id, _ in await home.openings(2)] == sorted([first, second])
        saga = home.client.get_workflow_handle(first)
        assert await saga.result() == "front"
        described = await saga.describe()
        memo = await described.memo_value(MEMO, type_hint=SagaMemo)
    assert (memo.actor, memo.trace, memo.labels) == ("process-manager:greeting", TRACE, {"bell": "front"})
    assert (memo.causation, memo.mount) == (first.removeprefix("greeting-"), home.settings.mount)
    assert memo.fingerprint
    assert described.typed_search_attributes[SAGA_STATUS] == "Completed"
    assert described.search_attributes["OrderId"] == ["o7"]
    assert await described.static_summary() == "Open front"
    told = (
        "select actor, correlation_id, causation_id, trace from amends.events where name = %s and data ->> 'bell' = %s"
    )
    assert await fetch(home.url, told, "bells.opened", "front") == [(memo.actor, first, memo.causation, TRACE)]


async def test_given_an_event_that_leads_to_several_starts_when_it_happens_then_each_has_an_id_of_its_own(
    home: House,
) -> None:
    manager = doorman("greeting", doors=3)
    opens(home, manager)
    await home.reactor(manager).catch_up(await home.rings("front"))
    [event] = await home.events(Rang)
    ids = [id for id, _ in await home.openings(3)]
    assert ids == [f"greeting-{event}", f"greeting-{event}#2", f"greeting-{event}#3"]


async def test_given_the_start_of_a_process_when_its_worker_never_came_then_it_is_shown_as_running(home: House) -> None:
    manager = doorman("greeting")
    opens(home, manager)
    await home.reactor(manager).catch_up(await home.rings("front"))
    [event] = await home.events(Rang)
    assert await saga_status(home.client.get_workflow_handle(f"greeting-{event}")) == "Running"


async def test_given_a_death_between_delivery_and_checkpoint_when_run_again_then_it_has_started_one_workflow(
    home: House, run_worker: RunWorker
) -> None:
    manager = doorman("greeting")
    opens(home, manager)
    before = await home.checkpoint(manager)
    at = await home.rings("front")
    async with connect(home.url) as connection:
        await connection.execute(BREAK.encode())
        with pytest.raises(PgError):
            await home.reactor(manager).catch_up(at)
        await connection.execute("drop function break_off cascade")
    [event] = await home.events(Rang)
    saga = home.client.get_workflow_handle(f"greeting-{event}")
    run = (await saga.describe()).run_id
    assert await home.checkpoint(manager) == before
    # again while it runs, and again when it has ended
    await home.reactor(manager).catch_up(at)
    assert await home.checkpoint(manager) == at
    async with run_worker(house()):
        await saga.result()
    await home.sql(BEGINNING)
    await home.reactor(manager).catch_up(at)
    assert (await saga.describe()).run_id == run
    assert await home.openings(1) == [(saga.id, run)]
    assert await fetch(home.url, "select count(*) from amends.events where name = 'bells.opened'") == [(1,)]


async def test_given_the_tailing_is_cancelled_between_delivery_and_checkpoint_when_run_again_then_one_workflow(
    home: House,
) -> None:
    manager = doorman("greeting")
    opens(home, manager)
    at = await home.rings("front")
    [event] = await home.events(Rang)
    async with connect(home.url, autocommit=False) as lock:
        await lock.execute("select * from amends.checkpoints where projection = 'greeting' for update")
        tailing = asyncio.create_task(home.reactor(manager).run(asyncio.Event(), lambda position: None))
        await until("the workflow is there", lambda: home.exists(f"greeting-{event}"))
        tailing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await tailing
    assert await home.checkpoint(manager) < at
    assert await home.reactor(manager).catch_up(at) == at
    assert [id for id, _ in await home.openings(1)] == [f"greeting-{event}"]


async def test_given_two_workers_and_reactors_besides_when_events_come_then_each_acts_once(
    home: House, run_worker: RunWorker
) -> None:
    manager = doorman("greeting")
    app = opens(home, manager)
    async with run_worker(app), run_worker(app):
        at = [await home.rings(f"b{n}") for n in range(30)][-1]
        ends = await asyncio.gather(
            *(home.reactor(manager, batch=4).catch_up(at) for _ in range(3)), return_exceptions=True
        )
        assert all(end >= at if isinstance(end, tuple) else isinstance(end, Superseded) for end in ends), ends
        wanted = sorted(f"greeting-{event}" for event in await home.events(Rang))
        assert [id for id, _ in await home.openings(30)] == wanted
        for id in wanted:
            await home.client.get_workflow_handle(id).result()
    doors = "select count(*), count(distinct data ->> 'bell') from amends.events where name = 'bells.opened'"
    assert await fetch(home.url, doors) == [(30, 30)]


async def test_given_signals_delivered_twice_when_heard_then_once_each_and_in_order(
    home: House, run_worker: RunWorker
) -> None:
    manager = doorman("greeting")
    app = opens(home, manager)
    waiting = await home.waits("front")
    at = await home.does(Knock(bell="front", waiting=waiting.id, times=40))
    for _ in range(3):
        await home.sql(BEGINNING)
        await home.reactor(manager, batch=15).catch_up(at)
    async with run_worker(app):
        await home.does(Leave(bell="front", waiting=waiting.id))
        assert await waiting.result() == list(range(1, 41))


async def test_given_an_event_that_starts_and_the_next_that_signals_it_when_delivered_together_then_in_their_order(
    home: House,
) -> None:
    manager = doorman("greeting")
    opens(home, manager)
    for n in range(10):
        await home.rings(f"b{n}")
    started = [f"greeting-{event}" for event in await home.events(Rang)]
    at = [await home.does(Knock(bell="any", waiting=id, times=2)) for id in started][-1]
    await home.reactor(manager).catch_up(at)
    for id in started:
        assert await signals_of(home.client.get_workflow_handle(id)) == ["knocked", "knocked"]


async def signals_of(handle: WorkflowHandle[Any, Any]) -> list[str]:
    kept = (event.workflow_execution_signaled_event_attributes for event in (await handle.fetch_history()).events)
    return [signal.signal_name for signal in kept if signal.signal_name]


async def test_given_a_workflow_that_has_ended_or_never_was_when_signalled_then_warned_and_passed_over(
    home: House, run_worker: RunWorker
) -> None:
    manager = doorman("greeting")
    opens(home, manager)
    ended = await home.waits("front")
    await ended.terminate()
    await home.does(Knock(bell="front", waiting=ended.id, times=1))
    await home.does(Knock(bell="front", waiting="nobody", times=1))
    at = await home.rings("front")
    with capture_logs() as logs:
        assert await home.reactor(manager).catch_up(at) == at
    warned = [(log["event"], log["log_level"], log["workflow_id"]) for log in logs if log["log_level"] == "warning"]
    assert sorted(warned) == sorted(("signal_to_nobody", "warning", id) for id in (ended.id, "nobody"))
    assert len(await home.openings(1)) == 1


def test_given_a_signal_that_its_workflow_would_drop_when_made_then_told_so() -> None:
    assert Signal("w", WaitBehindDoor.left).arguments == []
    assert Signal("w", WaitBehindDoor.knocked, Noise(times=1)).name == "knocked"
    with pytest.raises(TypeError, match="'knocked' takes another argument"):
        Signal("w", WaitBehindDoor.knocked)
    with pytest.raises(TypeError, match="'knocked' takes another argument"):
        Signal("w", WaitBehindDoor.knocked, Visit(bell="front"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="'left' takes no argument"):
        Signal("w", WaitBehindDoor.left, Noise(times=1))
    with pytest.raises(TypeError, match=r"not a method decorated with @workflow\.signal"):
        Signal("w", WaitBehindDoor.run, Visit(bell="front"))  # type: ignore[arg-type]


async def test_given_a_log_with_a_past_when_managers_are_new_then_one_begins_now_and_one_at_the_beginning(
    home: House,
) -> None:
    await home.rings("past")
    late, early = doorman("late"), doorman("early", since="beginning")
    async with connect(home.url, autocommit=False) as open_then:
        # an event whose transaction is open when the manager comes happens after that
        await open_then.execute("select pg_current_xact_id()")
        await asyncio.to_thread(opens, home, late, early)
    at = await home.rings("future")
    await asyncio.to_thread(opens, home, late, early)  # again, which must not move it
    for manager in (late, early):
        await home.reactor(manager).catch_up(at)
    past, future = await home.events(Rang)
    assert [id for id, _ in await home.openings(3)] == sorted([f"early-{past}", f"early-{future}", f"late-{future}"])


async def test_given_an_event_whose_transaction_was_open_when_the_manager_came_when_it_commits_then_it_acts(
    home: House,
) -> None:
    manager = doorman("greeting")
    async with connect(home.url, autocommit=False) as slow:
        await slow.execute(RAW, ("slow",))
        await home.rings("quick")
        await asyncio.to_thread(opens, home, manager)
        await slow.commit()
    at = await home.rings("later")
    await home.reactor(manager).catch_up(at)
    assert len(await home.openings(3)) == 3, "the quick one was not shown to any reader before the slow one"


async def test_given_a_handler_that_fails_when_deployed_anew_then_seen_meanwhile_and_nothing_is_lost_or_doubled(
    home: House, run_worker: RunWorker
) -> None:
    broken = opens(home, doorman("greeting", breaks_at="back"))
    supervising = home.client.get_workflow_handle(f"process-manager-greeting@{home.settings.task_queue}")
    async with run_worker(broken):
        at = [await home.rings(bell) for bell in ("front", "back", "side")][-1]
        told = await until("the failure is shown", lambda: failure_of(supervising))
    for part in ("'greeting' can't react to 'bells.rang' at position", "stream bells-back", "BrokenHandler: back"):
        assert part in told
    front, back, side = [f"greeting-{event}" for event in await home.events(Rang)]
    assert [id for id, _ in await home.openings(1)] == [front], "what was before it has acted, what comes after waits"
    async with run_worker(house(doorman("greeting"))):
        assert [id for id, _ in await home.openings(3)] == sorted([front, back, side])
        async with Reader(home.url, 1) as reader:
            assert (await reader.at_least(at, ["greeting"], 20)).fresh


async def failure_of(handle: WorkflowHandle[Any, Any]) -> str:
    """Why the activity of a supervising workflow failed last, as the Web UI shows it."""
    pending = (await handle.describe()).raw_description.pending_activities
    return pending[0].last_failure.message if pending else ""


async def test_given_an_event_that_can_not_be_read_when_wanted_then_it_stops_there_and_unwanted_ones_are_not_read(
    home: House,
) -> None:
    manager = ProcessManager("greeting")
    told: list[str] = []

    @manager.on(Opened)
    def opened(event: Opened, fact: object) -> None:
        told.append(event.bell)

    opens(home, manager)
    async with connect(home.url) as connection:
        await connection.execute(RAW.replace("'order_id', 'o1'", "'colour', 1"), ("front",))
    later = await home.rings("later")
    assert await home.reactor(manager).catch_up(later) == later, "nobody wants it, so nobody has to read it"
    rang = doorman("other", since="beginning")
    opens(home, rang)
    with pytest.raises(UnreadableBatch, match=r"'other' can't react to 'bells\.rang'.*colour"):
        await home.reactor(rang).catch_up(later)
    assert told == []
    assert await home.checkpoint(rang) == (0, 0)


async def test_given_a_request_that_temporal_does_not_take_when_delivered_then_named_and_not_passed_over(
    home: House,
) -> None:
    manager = ProcessManager("greeting")

    @manager.on(Rang)
    def rang(event: Rang, fact: object) -> Start[Visit]:
        return Start(OpenDoor, Visit(bell=event.bell), attributes={"NoSuchAttribute": "x"})

    opens(home, manager)
    before = await home.checkpoint(manager)
    at = await home.rings("front")
    with pytest.raises(NotDelivered, match=r"'greeting' can't deliver greeting-.*'bells\.rang'.*NoSuchAttribute"):
        await home.reactor(manager).catch_up(at)
    assert await home.checkpoint(manager) == before


async def test_given_no_temporal_for_a_while_when_it_is_back_then_what_happened_meanwhile_acts_once(
    settings: Settings, tmp_path: Path, run_worker: RunWorker
) -> None:
    attributes = {**SEARCH_ATTRIBUTES, **shop_app.search_attributes}
    data, port = tmp_path / "temporal.db", free_port()
    with ExitStack() as ending:

        def serve() -> EmbeddedTemporal:
            server = EmbeddedTemporal(tmp_path / "temporal", port, None, db_path=data, search_attributes=attributes)
            ending.callback(server.stop, 1.0)
            server.start()
            server.wait_ready()
            return server

        server = serve()
        private = settings.model_copy(update={"temporal_address": server.address})
        async with open_house(private) as home:
            app = opens(home, doorman("greeting"))
            async with run_worker(app, private):
                await home.rings("before")
                assert len(await home.openings(1)) == 1
                assert server.pid is not None
                os.kill(server.pid, signal.SIGKILL)
                await until_true("the server is dead", lambda: server.poll() is not None)
                for n in range(3):
                    await home.rings(f"meanwhile-{n}")
                serve()
                wanted = sorted(f"greeting-{event}" for event in await home.events(Rang))
                assert [id for id, _ in await home.openings(4)] == wanted
                for id in wanted:
                    await asyncio.wait_for(home.client.get_workflow_handle(id).result(), 60)


async def test_given_no_installation_when_run_then_told_so(home: House) -> None:
    with pytest.raises(ProjectionError, match=r"Process manager 'greeting' version 1 has no checkpoint; install it"):
        await home.reactor(doorman("greeting")).run(asyncio.Event(), lambda position: None)


async def test_given_a_worker_whose_app_lacks_the_manager_when_it_is_to_run_it_then_told_so(
    home: House, run_worker: RunWorker
) -> None:
    await start_process_managers(home.client, [doorman("greeting")], home.settings.task_queue)
    supervising = home.client.get_workflow_handle(f"process-manager-greeting@{home.settings.task_queue}")
    async with run_worker(house()):
        told = await until("the failure is shown", lambda: failure_of(supervising))
    assert "lists no process manager 'greeting'; deploy one that does" in told


async def test_given_a_manager_that_is_behind_when_waiting_for_projections_then_only_for_those_that_are_named(
    home: House,
) -> None:
    manager, orders = doorman("greeting"), order_list()
    install(App(aggregates=[], projections=[orders], process_managers=[manager]), home.url)
    at = await home.rings("front")
    async with Reader(home.url, 2) as reader:
        await home.sql(CAUGHT_UP, str(at.xid), at.number, orders.name)
        assert (await reader.at_least(at, [orders.name], 0)).fresh
        behind = await reader.at_least(at, [orders.name, manager.name], 0)
        assert (behind.fresh, behind.projection, behind.reason) == (False, "greeting", "behind")
        async with running(home.reactor(manager)):
            assert (await reader.at_least(at, [manager.name], 20)).fresh


async def test_given_a_notification_when_the_poll_is_far_off_then_it_acts_at_once(home: House) -> None:
    manager = doorman("greeting")
    opens(home, manager)
    async with running(home.reactor(manager, poll=600)) as beats:
        at = await home.rings("front")
        await beats.until(lambda b: b.positions[-1] == at)
    assert len(await home.openings(1)) == 1


def test_given_a_faulty_declaration_when_imported_then_told_what_is_wrong() -> None:
    for name in ("", "Greeting", "a:b", "a b", "1st"):
        with pytest.raises(TypeError, match="is no name of a process manager"):
            ProcessManager(name)
    with pytest.raises(TypeError, match=r"Process manager 'greeting' handles 'bells\.rang' already"):
        doorman("greeting").on(Rang)(lambda event, fact: None)
    with pytest.raises(TypeError, match="Event has no message name"):
        doorman("greeting").on(Event)(lambda event, fact: None)
    strange = ProcessManager("strange")
    strange.on(Rang)(lambda event, fact: "ring back")  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match="is to return Start or Signal, several of them, or None, not 'r'"):
        given(strange).when(Rang(bell="front", order_id="o1"))
    with pytest.raises(TypeError, match="'greeting' needs a name of its own"):
        house(doorman("greeting"), doorman("greeting"))
    with pytest.raises(TypeError, match="'readside_orders' needs a name of its own"):
        App(projections=[order_list()], process_managers=[doorman("readside_orders")])
