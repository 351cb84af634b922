"""The status of a projection says what is wrong with it, and never that it is well when nobody follows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from amends.app import App
from amends.app import install as install_app
from amends.database import Pool, open_pool
from amends.embedded import EmbeddedPostgres, free_port
from amends.errors import NothingToDo
from amends.projection_operator import ProjectionOperator, ProjectionStatus, open_operator
from amends.projector import Projector
from tests.conftest import FAST, RunWorker
from tests.engine.bells import doorman
from tests.engine.readside_shop import Placed, append, connect, fetch, install, order_list, running, until

NAME = "readside_orders"
WHO = ("Grace", "the disk is full")
MANY = """
insert into amends.events (stream, version, name, schema_version, data, correlation_id, causation_id, command_id, actor)
select 's', n, 'readside.noise', 1, '{}', 'c', 'c', n::text, 'a' from generate_series(1, 10500) n
"""
LATE = """
insert into amends.events (stream, version, name, schema_version, data, correlation_id, causation_id, command_id, actor,
                           recorded_at)
values (%s, 1, 'readside.noise', 1, '{}', 'c', 'c', 'c', 'a', clock_timestamp() - interval '11 seconds')
"""
A_MINUTE_LATER = """
create or replace function amends.oldest_writer(out pid integer, out application text, out seconds float8)
returns setof record language sql security definer set search_path = pg_catalog as $$
    select a.pid, a.application_name, extract(epoch from clock_timestamp() - a.xact_start)::float8 + 60
    from pg_stat_activity a
    where a.backend_xid is not null and a.pid <> pg_backend_pid() and a.application_name = 'nightly' limit 1 $$
"""


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, "projector", 4) as pool:
        yield pool


@pytest.fixture
async def operator(database_url: str) -> AsyncIterator[ProjectionOperator]:
    async with open_operator(database_url) as operator:
        yield operator


async def status(operator: ProjectionOperator) -> ProjectionStatus:
    [found] = await operator.status(NAME)
    return found


async def healthy(operator: ProjectionOperator) -> bool:
    return (await status(operator)).healthy


async def sql(url: str, statement: str, *parameters: Any) -> None:
    async with connect(url) as connection:
        await connection.execute(statement.encode(), parameters or None)


async def test_given_a_projection_nobody_follows_when_asked_then_not_healthy_until_somebody_does(
    database_url: str, pool: Pool, operator: ProjectionOperator
) -> None:
    install(database_url, order_list())
    new = await status(operator)
    assert (new.state, new.served, new.healthy) == ("live", True, False)
    assert new.problem == "nobody has followed it yet: does a worker of its version run?"
    async with running(Projector(order_list(), pool, database_url)):
        await until(lambda: healthy(operator))
    # when: its follower has died a while ago
    await sql(database_url, "update amends.checkpoints set beat_at = beat_at - interval '16 s'")
    dead = await status(operator)
    assert not dead.healthy
    assert dead.problem is not None
    assert dead.problem.startswith("nobody follows it: the last sign of life was 1")
    with pytest.raises(NothingToDo, match="no projection 'nothing'"):
        await operator.status("nothing")


async def test_given_an_idle_follower_when_time_passes_then_it_gives_signs_of_life_all_the_same(
    database_url: str, pool: Pool, operator: ProjectionOperator
) -> None:
    install(database_url, order_list())
    async with running(Projector(order_list(), pool, database_url, poll=600)):
        await until(lambda: healthy(operator))
        await sql(database_url, "update amends.checkpoints set beat_at = beat_at - interval '1 day'")
        await until(lambda: healthy(operator), 8)


async def test_given_events_not_read_yet_when_asked_then_counted_and_their_age_told(
    database_url: str, pool: Pool, operator: ProjectionOperator
) -> None:
    install(database_url, order_list())
    async with connect(database_url) as connection:
        at = await append(connection, "order-o1", 0, *(Placed(order_id="o1", total=n) for n in range(7)))
    behind = await status(operator)
    assert behind.lag_events == 7
    assert 0 < behind.lag_seconds < 60
    await Projector(order_list(), pool, database_url).catch_up(at)
    there = await status(operator)
    assert (there.lag_events, there.lag_seconds, there.events, there.position) == (0, 0, 7, at.number)


async def test_given_more_events_than_are_counted_when_asked_then_at_the_bound(
    database_url: str, operator: ProjectionOperator
) -> None:
    install(database_url, order_list())
    await sql(database_url, MANY)
    assert (await status(operator)).lag_events == 10_000


async def test_given_a_long_transaction_when_the_feed_stands_still_then_it_is_named(
    database_url: str, pool: Pool, operator: ProjectionOperator
) -> None:
    install(database_url, order_list())
    await sql(database_url, A_MINUTE_LATER)
    async with running(Projector(order_list(), pool, database_url)):
        await until(lambda: healthy(operator))
        async with connect(f"{database_url} application_name=nightly", autocommit=False) as long:
            await long.execute("select pg_current_xact_id()")
            held = await status(operator)
            pid = long.info.backend_pid
            assert not held.healthy
            assert held.problem is not None
            assert held.problem.startswith(
                f"the feed stands still: process {pid} (nightly) has a transaction open for 6"
            )
            await long.rollback()
        await until(lambda: healthy(operator))


async def test_given_a_pause_when_events_come_then_none_is_applied_until_it_is_resumed_whatever_restarts(
    database_url: str, pool: Pool, operator: ProjectionOperator
) -> None:
    install(database_url, order_list())

    async def place(n: int) -> None:
        async with connect(database_url) as connection:
            await append(connection, f"order-o{n}", 0, Placed(order_id=f"o{n}", total=1))

    async def shown(number: int) -> bool:
        return await fetch(database_url, "select count(*) from views.readside_order") == [(number,)]

    async with running(Projector(order_list(), pool, database_url, poll=0.01)) as beats:
        await place(1)
        await until(lambda: shown(1))
        # when
        await operator.pause(NAME, *WHO)
        await place(2)
        seen = len(beats.positions)
        await beats.until(lambda b: len(b.positions) > seen + 2)  # it is alive, and looks
        # then
        assert await shown(1)
        paused = await status(operator)
        assert (paused.state, paused.healthy) == ("paused", False)
        assert paused.problem == "paused by Grace: the disk is full"
    # and: after a restart
    async with running(Projector(order_list(), pool, database_url, poll=0.01)) as beats:
        await beats.until(lambda b: len(b.positions) > 2)
        assert await shown(1)
        # when
        await operator.resume(NAME, *WHO)
        # then
        await until(lambda: shown(2), 3)
        await until(lambda: healthy(operator))
    with pytest.raises(NothingToDo, match="is not paused"):
        await operator.resume(NAME, *WHO)
    with pytest.raises(NothingToDo, match="no projection nothing"):
        await operator.pause("nothing", *WHO)
    log = "select action, actor, reason from views.projection_log order by number"
    assert await fetch(database_url, log) == [("pause", *WHO), ("resume", *WHO)]


async def test_given_partitions_when_a_worker_runs_then_each_is_followed(
    database_url: str, operator: ProjectionOperator, run_worker: RunWorker
) -> None:
    shared = order_list()
    shared.partitions = 3
    install(database_url, shared)
    async with connect(database_url) as connection:
        for n in range(20):
            at = await append(connection, f"order-o{n}", 0, Placed(order_id=f"o{n}", total=1))
    async with run_worker(App(projections=[shared])):

        async def well() -> bool:
            found = await status(operator)
            return found.healthy and found.position == at.number

        await until(well)
    assert await fetch(database_url, "select count(*) from views.readside_order") == [(20,)]
    moved = "select count(*) from amends.checkpoints where projection = %s and position = %s"
    assert await fetch(database_url, moved, NAME, at.number) == [(3,)]


async def test_given_a_worker_when_asked_then_projections_and_process_managers_are_healthy(
    database_url: str, operator: ProjectionOperator, run_worker: RunWorker
) -> None:
    app = App(projections=[order_list()], process_managers=[doorman("greeting")])
    await asyncio.to_thread(install_app, app, database_url)
    async with run_worker(app):

        async def well() -> bool:
            found = {one.projection: one for one in await operator.status() if one.projection in (NAME, "greeting")}
            return len(found) == 2 and all(one.healthy and one.served and one.state == "live" for one in found.values())

        await until(well)


async def test_given_a_swap_that_is_under_way_when_paused_and_resumed_then_what_it_serves_is(
    database_url: str, operator: ProjectionOperator
) -> None:
    install(database_url, order_list())
    build = (
        "insert into amends.checkpoints (projection, version, generation, role) "
        "values ('readside_orders', 1, 2, 'building')"
    )
    await sql(database_url, build)
    changes: tuple[tuple[Callable[..., Coroutine[Any, Any, None]], str, int, int], ...] = (
        (operator.pause, "paused", 1, 2),
        (operator.resume, "live", 2, 1),
    )
    for change, state, old, new in changes:
        async with connect(database_url, autocommit=False) as swapping:
            served = "select from amends.checkpoints where projection = %s and role = 'served' for update"
            await swapping.execute(served, (NAME,))
            changing = asyncio.create_task(change(NAME, *WHO))

            async def waits() -> bool:
                waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = %s"
                return await fetch(database_url, waiting, swapping.info.dbname) == [(1,)]

            await until(waits)
            paused = "null" if change == operator.pause else "clock_timestamp()"  # a pause goes on with what is served
            for generation, role, pause in ((old, "kept", "null"), (new, "served", paused)):
                await swapping.execute(
                    f"update amends.checkpoints set role = '{role}', paused_at = {pause} "
                    f"where projection = '{NAME}' and generation = {generation}".encode()
                )
            await swapping.commit()
            await changing
        now = "select generation, state from views.projection_status where served and projection = %s"
        assert await fetch(database_url, now, NAME) == [(new, state)]


@pytest.fixture(scope="module")
async def managed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A database as a provider gives it: nobody but the provider may see what other sessions are at.

    The login owns the schema, and is neither superuser nor may read all statistics; so are a reader and a projector.
    """
    server = EmbeddedPostgres(tmp_path_factory.mktemp("managed"), free_port(), options=FAST)
    try:
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(server.wait_ready)
        await sql(server.url, "create role shop login createrole password 'shop'")
        await sql(server.url, "create database shop owner shop")
        url = make_conninfo(server.url, user="shop", password="shop", dbname="shop")
        await asyncio.to_thread(install_app, App(projections=[order_list()]), url)
        for login in ("reader", "projector", "writer"):
            await sql(server.url, f"create role some_{login} login password 'shop' in role amends_{login}")
        yield url
    finally:
        await asyncio.to_thread(server.stop)


@pytest.mark.parametrize("login", ["reader", "projector"])
async def test_given_a_long_transaction_when_one_without_any_privilege_asks_then_it_is_named_all_the_same(
    managed: str, login: str
) -> None:
    question = f"select healthy, problem from views.projection_status where projection = '{NAME}'"
    asking = make_conninfo(managed, user=f"some_{login}")
    async with await AsyncConnection.connect(asking, autocommit=True) as plain:
        superuser = "select rolsuper or pg_has_role(current_user, 'pg_read_all_stats', 'member') from pg_roles"
        [(may,)] = await (await plain.execute(f"{superuser} where rolname = current_user")).fetchall()
        assert not may
        # given: it is followed, and the feed moves
        beats = "update amends.checkpoints set beat_at = clock_timestamp()"
        await sql(managed, beats)
        assert await (await plain.execute(question)).fetchall() == [(True, None)]
        # when: somebody else's transaction is open, and an event has been waiting behind it for long
        holding = make_conninfo(managed, user="some_writer", application_name="nightly")
        async with await AsyncConnection.connect(holding) as long:
            await long.execute("select pg_current_xact_id()")
            await sql(managed, LATE, login)
            await sql(managed, beats)
            # then
            told = f"the feed stands still: process {long.info.backend_pid} (nightly) has a transaction open"
            assert await (await plain.execute(question)).fetchall() == [(False, told)]
            await long.rollback()
        # and: when it has ended
        assert await (await plain.execute(question)).fetchall() == [(True, None)]


async def test_given_a_worker_that_is_gone_when_asked_then_unhealthy_though_the_last_that_it_said_was_that_all_is_well(
    database_url: str, operator: ProjectionOperator, run_worker: RunWorker
) -> None:
    install(database_url, order_list())
    async with run_worker(App(projections=[order_list()])):
        await until(lambda: healthy(operator))
    # when: its activity is dead, and a while has passed
    await sql(database_url, "update amends.checkpoints set beat_at = beat_at - interval '16 s'")
    gone = await status(operator)
    # then
    assert (gone.state, gone.healthy) == ("live", False)
    assert gone.problem is not None
    assert gone.problem.startswith("nobody follows it: the last sign of life was ")
