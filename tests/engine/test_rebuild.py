"""A projection is built beside itself and swapped, and whoever reads never notices."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, Text
from sqlalchemy.dialects.postgresql import JSONB
from temporalio.client import WorkflowHandle

from amends.app import App
from amends.building import Builder
from amends.changes import Rows
from amends.connect import connect as connect_temporal
from amends.database import Pool, open_pool
from amends.errors import Incompatible, NothingToDo, NotServed, ProjectionError
from amends.feed import Feed
from amends.installation import begin_build
from amends.log_check import check_log
from amends.messages import Event, upcast
from amends.projection import Projection
from amends.projection_operator import open_operator
from amends.projector import Projector
from amends.rebuild_request import RebuildRequest, Rebuilt, Who
from amends.rebuild_workflow import RebuildProjection, rebuild_id, start_rebuild
from amends.rebuilding import caught_up as caught_up_build
from amends.rebuilding import rebuild
from amends.records import Recorded
from amends.schema import owner_engine
from amends.settings import Settings
from amends.swapping import drop_old, roll_back
from tests.conftest import RunWorker
from tests.engine.readside_shop import Placed, append, connect, fetch, install, order_list, running, until

ROWS = "select * from views.readside_order order by order_id"
BUILDS = """
select version, generation, served, state from views.projection_status
where projection = 'readside_orders' order by 1, 2
"""
TABLES = "select tablename from pg_tables where tablename like 'readside_order_v%' order by 1"
WHO = {"actor": "Grace", "reason": "to see"}


class Renamed(Event, name="rebuild.renamed", version=2):
    """An event whose first version called its field otherwise, and counted nothing."""

    who: str
    times: int

    @upcast(1)
    @staticmethod
    def name_is_who(data: dict[str, Any]) -> dict[str, Any]:
        return {"who": data["name"], "times": 1}


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, "projector", 6) as pool:
        yield pool


def asked(projection: Projection, **options: Any) -> RebuildRequest:
    return RebuildRequest(name=projection.name, version=projection.version, **WHO, **options)


async def placed(url: str, orders: int, each: int = 3, *, prefix: str = "o") -> None:
    async with connect(url) as connection:
        for n in range(orders):
            events = [Placed(order_id=f"{prefix}{n}", total=n + k) for k in range(each)]
            await append(connection, f"order-{prefix}{n}", 0, *events)


async def caught_up(url: str, pool: Pool, projection: Projection) -> None:
    await Projector(projection, pool, url).catch_up(await Feed(pool).head())


async def test_given_events_when_rebuilt_then_the_views_show_the_same_rows_of_another_table(
    database_url: str, pool: Pool
) -> None:
    history = order_list()
    install(database_url, history)
    await placed(database_url, 20)
    await caught_up(database_url, pool, history)
    before = await fetch(database_url, ROWS)
    # when
    done = await rebuild(history, database_url, asked(history))
    # then
    assert done.outcome == "swapped"
    assert done.report is not None
    assert [(t.table, t.old_rows, t.new_rows) for t in done.report.tables] == [("readside_order", 20, 20)]
    assert await fetch(database_url, ROWS) == before
    assert await fetch(database_url, BUILDS) == [(1, 1, False, "kept"), (1, 2, True, "live")]
    shows = await fetch(database_url, "select pg_get_viewdef('views.readside_order'::regclass)")
    assert "readside_order_v1_g2" in shows[0][0]
    # and: it is followed from there
    await placed(database_url, 3, prefix="later")
    await caught_up(database_url, pool, history)
    assert len(await fetch(database_url, ROWS)) == 23


def wider(version: int, *, name: str = "readside_orders") -> Projection:
    """The order list with another meaning: a column more, and totals in thousandths."""
    history = Projection(name, version=version)
    orders = history.table(
        "readside_order",
        Column("order_id", Text, primary_key=True, comment="Which order."),
        Column("largest", BigInteger, comment="Largest of its totals."),
        Column("status", Text, nullable=False, server_default="new", comment="How far it's come."),
        Column("total", BigInteger, nullable=False, default=0, comment="In thousandths."),
        Column("placed", Integer, nullable=False, default=0, comment="How often."),
        Column("at", DateTime(timezone=True), comment="When last."),
        Column("totals", JSONB, nullable=False, server_default="[]", comment="Each single total."),
        Index("readside_order_by_total", "total"),
        comment="One row an order.",
        computed={"net": ("total - total % 10", "Total, rounded down to ten.")},
    )

    @history.on(Placed)
    def placed(event: Placed, fact: Recorded, rows: Rows) -> None:
        change = rows(orders, event.order_id).set(status="placed").greatest(at=fact.recorded_at, largest=event.total)
        change.add(total=10 * event.total, placed=1).append(totals=event.total)

    return history


async def test_given_a_raised_version_when_installed_then_the_old_one_is_shown_until_the_new_one_is_built(
    database_url: str, pool: Pool
) -> None:
    old, new = order_list(), wider(2)
    install(database_url, old)
    await placed(database_url, 5)
    await caught_up(database_url, pool, old)
    shown = await fetch(database_url, ROWS)
    # when
    install(database_url, new)
    # then: nothing has changed for whoever reads, and the status says what is going on
    assert await fetch(database_url, ROWS) == shown
    assert await fetch(database_url, BUILDS) == [(1, 1, True, "rebuilding"), (2, 1, False, "rebuilding")]
    with pytest.raises(NotServed, match="not what the views show"):
        await Projector(new, pool, database_url).catch_up(await Feed(pool).head())
    # when
    done = await rebuild(new, database_url, asked(new))
    # then: the new rows, the old columns in their order, the new one behind them
    assert done.outcome == "swapped"
    after = await fetch(database_url, "select * from views.readside_order order by order_id")
    assert [(*row[:2], row[2] // 10, *row[3:6]) for row in after] == [row[:6] for row in shown]
    assert [row[-1] for row in after] == [n + 2 for n in range(5)]
    # and: an old worker's start does not bring the old version back, nor does an old follower go on
    install(database_url, old)
    assert await fetch(database_url, BUILDS) == [(1, 1, False, "kept"), (2, 1, True, "live")]
    with pytest.raises(NotServed, match="show version 2 by now"):
        await Projector(old, pool, database_url).run(asyncio.Event(), lambda _: None)


async def test_given_two_versions_with_the_same_index_when_both_are_there_then_each_table_has_its_own(
    database_url: str, pool: Pool
) -> None:
    install(database_url, wider(1))
    await placed(database_url, 2)
    for version in (2, 2):
        await rebuild(wider(version), database_url, asked(wider(version)))
    named = "select tablename, indexname from pg_indexes where indexname like '%by_total' order by 1"
    assert await fetch(database_url, named) == [
        (name, f"{name}_by_total") for name in ("readside_order_v1", "readside_order_v2", "readside_order_v2_g2")
    ]


@asynccontextmanager
async def meanwhile(*loops: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Do something again and again while the block runs; errors come out at its end."""
    over = asyncio.Event()

    async def repeat(once: Callable[[], Awaitable[None]]) -> None:
        while not over.is_set():
            await once()

    async with asyncio.TaskGroup() as group:
        for once in loops:
            group.create_task(repeat(once))
        try:
            yield
        finally:
            over.set()


async def test_given_writers_and_readers_when_rebuilt_then_nobody_sees_a_gap_and_the_rows_are_those_of_a_replay(
    database_url: str, pool: Pool
) -> None:
    history = order_list()
    install(database_url, history)
    await placed(database_url, 300)
    await caught_up(database_url, pool, history)
    seen, wrote = [(0, 0)], [0]
    async with (
        connect(database_url) as reading,
        connect(database_url) as writing,
        running(Projector(history, pool, database_url, poll=0.01)),
    ):

        async def read() -> None:
            row = await (
                await reading.execute("select count(*), coalesce(sum(placed), 0)::int from views.readside_order")
            ).fetchone()
            assert row is not None
            assert row >= seen[-1], "rows have gone"
            seen.append(row)

        async def write() -> None:
            wrote[0] += 1
            await append(writing, f"order-w{wrote[0]}", 0, Placed(order_id=f"w{wrote[0]}", total=1))

        async with meanwhile(read, write):
            for _ in range(3):
                done = await rebuild(history, database_url, asked(history))
                assert (done.outcome, done.report and done.report.agrees) == ("swapped", True)
        at = await Feed(pool).head()
        await until(lambda: passed(database_url, at.number))
    assert len(seen) > 50
    assert wrote[0] > 50
    rows = await fetch(database_url, ROWS)
    assert len(rows) == 300 + wrote[0]
    assert rows == await replayed(database_url, pool)


async def passed(url: str, number: int) -> bool:
    return await fetch(
        url,
        "select position >= %s from views.projection_status where served and projection = 'readside_orders'",
        number,
    ) == [(True,)]


async def replayed(url: str, pool: Pool) -> list[tuple[Any, ...]]:
    """The rows of a projection that takes one event at a time."""
    alone = order_list("one_by_one", version=7)
    install(url, alone)
    await Projector(alone, pool, url, batch=1).catch_up(await Feed(pool).head())
    return await fetch(url, "select *, total - total % 10 from read_models.readside_order_v7 order by order_id")


async def test_given_a_builder_that_is_killed_when_built_again_then_it_goes_on_from_there(
    database_url: str, pool: Pool
) -> None:
    history = order_list()
    install(database_url, history)
    await placed(database_url, 60)
    await caught_up(database_url, pool, history)
    # given
    builder = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.engine.rebuild_alone", database_url, cwd=Path(__file__).parents[2]
    )
    built = "select coalesce(sum(events), 0)::int from amends.checkpoints where role = 'building'"

    async def begun() -> bool:
        [(events,)] = await fetch(database_url, built)
        return bool(events > 30)

    await until(begun)
    builder.kill()
    await builder.wait()
    [(events,)] = await fetch(database_url, built)
    assert 30 < events < 180
    # when
    async with open_operator(database_url) as operator:
        await operator.throttle("readside_orders", None, "Grace", "it has been slow enough")
    done = await rebuild(history, database_url, asked(history))
    # then
    assert (done.outcome, done.generation) == ("swapped", 2)
    assert done.events <= 180 - events
    assert await fetch(database_url, ROWS) == await replayed(database_url, pool)


async def test_given_a_swap_that_nobody_heard_of_when_asked_again_then_it_is_not_built_once_more(
    database_url: str, pool: Pool
) -> None:
    history = order_list()
    install(database_url, history)
    await placed(database_url, 3)
    await caught_up(database_url, pool, history)
    for _ in range(2):
        done = await rebuild(history, database_url, asked(history), "this intent")
        assert (done.outcome, done.generation) == ("swapped", 2)
    assert await fetch(database_url, TABLES) == [("readside_order_v1",), ("readside_order_v1_g2",)]


async def test_given_rows_that_differ_when_rebuilt_then_reported_and_swapped_only_when_accepted(
    database_url: str, pool: Pool
) -> None:
    history = order_list()
    install(database_url, history)
    await placed(database_url, 30)
    await caught_up(database_url, pool, history)
    async with connect(database_url) as connection:
        await connection.execute("update read_models.readside_order_v1 set total = 0 where order_id like 'o1%'")
        await connection.execute("delete from read_models.readside_order_v1 where order_id = 'o2'")
        await connection.execute("insert into read_models.readside_order_v1 (order_id) values ('nobody')")
    shown = await fetch(database_url, ROWS)
    # when
    done = await rebuild(history, database_url, asked(history))
    # then
    assert done.outcome == "differs"
    assert done.report is not None
    [table] = done.report.tables
    assert table.differing == {"different": 11, "only_new": 1, "only_old": 1}
    assert table.first == {
        "different": [["o1"], *([f"o1{n}"] for n in range(9))],
        "only_new": [["o2"]],
        "only_old": [["nobody"]],
    }
    assert await fetch(database_url, ROWS) == shown
    async with open_operator(database_url) as operator:
        assert (await operator.report("readside_orders"))["tables"][0]["differing"]["different"] == 11
        [_, waiting] = await operator.status("readside_orders")
        assert (waiting.state, waiting.healthy) == ("rebuilding", False)
        assert waiting.problem is not None
        assert "waits for somebody to look" in waiting.problem
    # when: somebody looked at it
    done = await rebuild(history, database_url, asked(history, accept=True))
    # then
    assert (done.outcome, done.generation) == ("swapped", 2)
    assert await fetch(database_url, ROWS) == await replayed(database_url, pool)


async def test_given_rows_that_differ_when_rebuilt_again_without_accepting_then_from_the_beginning(
    database_url: str, pool: Pool
) -> None:
    history = order_list()
    install(database_url, history)
    await placed(database_url, 3)
    await caught_up(database_url, pool, history)
    async with connect(database_url) as connection:
        await connection.execute("update read_models.readside_order_v1 set total = 0 where order_id = 'o1'")
    assert (await rebuild(history, database_url, asked(history))).outcome == "differs"
    async with connect(database_url) as connection:
        await connection.execute("update read_models.readside_order_v1 set total = 6 where order_id = 'o1'")
    done = await rebuild(history, database_url, asked(history))
    assert (done.outcome, done.events) == ("swapped", 9)


async def test_given_columns_named_like_aliases_when_rows_differ_then_seen(database_url: str) -> None:
    named = narrow(1, column("o"), column("n"), column("v"), view="t", key="t")
    install(database_url, named)
    async with connect(database_url) as connection:
        await connection.execute("insert into read_models.t_v1 (t, o, n, v) values ('only_old', 1, 1, 1)")
    done = await rebuild(named, database_url, asked(named))
    assert done.outcome == "differs"
    assert done.report is not None
    assert done.report.tables[0].differing == {"only_old": 1}
    # and: where only another column than the one named like the alias differs
    for table, value in (("t_v1", 1), ("t_v1_g2", 2)):
        async with connect(database_url) as connection:
            await connection.execute(
                f"insert into read_models.{table} (t, o, n, v) values ('both', 1, 1, {value})".encode()
            )
            await connection.execute(f"delete from read_models.{table} where t = 'only_old'".encode())
    done = await rebuild(named, database_url, asked(named, accept=True))
    assert done.report is not None
    assert done.report.tables[0].differing == {"different": 1}


def narrow(version: int, *columns: Column[Any], view: str = "t", key: str = "k") -> Projection:
    projection = Projection("p", version=version)
    projection.table(view, Column(key, Text, primary_key=True, comment="Key."), *columns, comment="A row a key.")
    return projection


def column(name: str, kind: Any = Integer) -> Column[Any]:
    return Column(name, kind, comment="Some.")


async def test_given_columns_that_go_or_change_when_installed_or_rebuilt_then_refused_by_name(
    database_url: str,
) -> None:
    install(database_url, narrow(1, column("a"), column("b")))
    dropped, retyped, gone = narrow(2, column("b")), narrow(2, column("a", Text), column("b")), narrow(2, view="u")
    for wrong, named in (
        (dropped, r"views\.t has a column 'a' \(integer\).*keep the column"),
        (retyped, r"Column 'a' of views\.t is of type integer, and would be text.*another name"),
        (gone, r"no longer makes views\.t.*keep its table"),
    ):
        with pytest.raises(Incompatible, match=named):
            install(database_url, wrong)
        with pytest.raises(Incompatible, match=named):
            await rebuild(wrong, database_url, asked(wrong))
    assert await fetch(database_url, "select count(*) from amends.checkpoints where projection = 'p'") == [(1,)]
    assert await fetch(database_url, "select tablename from pg_tables where tablename like 't\\_v%'") == [("t_v1",)]


async def test_given_views_upon_a_view_when_columns_are_added_and_moved_then_they_stay_and_so_does_the_order(
    database_url: str,
) -> None:
    install(database_url, narrow(1, column("a"), column("b")))
    async with connect(database_url) as connection:
        await connection.execute("create view mine as select b from views.t")
    # when
    new = narrow(2, column("c"), column("b"), column("a"))
    install(database_url, new)
    await rebuild(new, database_url, asked(new))
    # then
    columns = "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 order by attnum"
    assert await fetch(database_url, columns, "views.t") == [("k",), ("a",), ("b",), ("c",)]
    assert await fetch(database_url, "select * from mine") == []


async def test_given_a_swap_when_rolled_back_then_the_old_rows_at_once_and_the_columns_stay(
    database_url: str, pool: Pool
) -> None:
    old, new = order_list(), wider(2)
    install(database_url, old)
    await placed(database_url, 4)
    await caught_up(database_url, pool, old)
    before = await fetch(database_url, ROWS)
    with pytest.raises(NothingToDo, match="keeps no other build"):
        await roll_back(database_url, "readside_orders", **WHO)
    await rebuild(new, database_url, asked(new))
    # when
    assert await roll_back(database_url, "readside_orders", **WHO) == (1, 1)
    # then: an added column shows null
    assert await fetch(database_url, ROWS) == [(*row, None) for row in before]
    # and: the old one is followed from where it was left
    await placed(database_url, 1, prefix="later")
    await caught_up(database_url, pool, old)
    assert len(await fetch(database_url, ROWS)) == 5
    # and: nobody builds the version again that was turned down, until somebody asks
    install(database_url, new)
    assert (await rebuild(new, database_url, asked(new, auto=True))).outcome == "nothing"
    assert await fetch(database_url, BUILDS) == [(1, 1, True, "live"), (2, 1, False, "kept")]
    # when: forward again, without building
    assert await roll_back(database_url, "readside_orders", **WHO) == (2, 1)
    await caught_up(database_url, pool, new)
    assert [row[-1] for row in await fetch(database_url, ROWS)] == [2, 2, 3, 4, 5]
    told = "select action, actor, reason from views.projection_log where projection = 'readside_orders' order by number"
    rolled = ("rollback", *WHO.values())
    assert await fetch(database_url, told) == [("build", *WHO.values()), ("swap", *WHO.values()), rolled, rolled]


async def test_given_a_rollback_after_other_settings_when_workers_start_again_then_it_stays_until_somebody_asks(
    settings: Settings, run_worker: RunWorker, database_url: str
) -> None:
    def days(zone: str) -> Projection:
        projection = Projection("days", version=1, made_with={"time_zone": zone})
        projection.table("a_day", Column("day", Text, primary_key=True, comment="Which."), comment="A row a day.")
        return projection

    install(database_url, days("UTC"))
    app, client = App(projections=[days("Asia/Tokyo")]), await connect_temporal(settings)
    showing = "select generation from views.projection_status where served and projection = 'days'"

    async def shown(generation: int) -> bool:
        return await fetch(database_url, showing) == [(generation,)]

    async def ended() -> Any:
        handle: WorkflowHandle[Any, Rebuilt] = client.get_workflow_handle_for(
            RebuildProjection.run, rebuild_id("days", settings.task_queue)
        )
        return await handle.result()

    async def left_alone() -> bool:
        return bool((await ended()).outcome == "nothing")

    # given: other settings have it built anew
    async with run_worker(app):
        await until(lambda: shown(2), 30)
        assert (await ended()).outcome == "swapped"
    assert await roll_back(database_url, "days", **WHO) == (1, 1)
    # when
    async with run_worker(app):
        # then
        await until(left_alone, 30)
        assert await shown(1)
        # and: when somebody asks
        request = RebuildRequest(name="days", version=1, accept=True, **WHO)
        done = await (await start_rebuild(client, request, settings.task_queue)).result()
        assert (done.outcome, done.generation) == ("swapped", 3)


async def test_given_old_builds_when_dropped_then_their_tables_go_unless_something_is_built_upon_them(
    database_url: str, pool: Pool
) -> None:
    history = order_list()
    install(database_url, history)
    await placed(database_url, 2)
    for _ in range(2):
        await rebuild(history, database_url, asked(history))
    async with connect(database_url) as connection:
        await connection.execute("create view mine as select * from read_models.readside_order_v1")
        with pytest.raises(ProjectionError, match=r"others are built upon them.*mine"):
            await asyncio.to_thread(drop_old, database_url, "readside_orders", **WHO)
        await connection.execute("drop view mine")
    dropped = await asyncio.to_thread(drop_old, database_url, "readside_orders", **WHO)
    assert sorted(dropped) == [(1, 1), (1, 2)]
    assert await fetch(database_url, TABLES) == [("readside_order_v1_g3",)]
    assert await fetch(database_url, BUILDS) == [(1, 3, True, "live")]
    with pytest.raises(NothingToDo):
        await asyncio.to_thread(drop_old, database_url, "readside_orders", **WHO)


async def test_given_a_reader_in_a_long_transaction_when_swapped_then_the_swap_waits_and_no_other_reader_does(
    database_url: str, pool: Pool
) -> None:
    history = order_list()
    install(database_url, history)
    await placed(database_url, 2)
    await caught_up(database_url, pool, history)
    async with connect(database_url, autocommit=False) as long, connect(database_url) as other:
        await long.execute("select * from views.readside_order")
        rebuilding = asyncio.create_task(rebuild(history, database_url, asked(history)))
        waits = "select count(*) from pg_locks where not granted and relation = 'views.readside_order'::regclass"

        async def waiting() -> bool:
            return await fetch(database_url, waits) == [(1,)]

        await until(waiting)
        async with asyncio.timeout(5):
            assert len(await (await other.execute("select * from views.readside_order")).fetchall()) == 2
        await long.rollback()
        assert (await rebuilding).outcome == "swapped"


async def test_given_a_throttle_when_it_is_changed_then_the_build_obeys(database_url: str, pool: Pool) -> None:
    history = order_list()
    install(database_url, history)
    await placed(database_url, 40)
    await caught_up(database_url, pool, history)
    rebuilding = asyncio.create_task(rebuild(history, database_url, asked(history, throttle=10)))
    rate = "select events from views.projection_status where not served and projection = 'readside_orders'"

    async def slowly() -> bool:
        return await fetch(database_url, rate) > [(10,)]

    began = time.monotonic()
    await until(slowly)
    assert time.monotonic() - began > 0.5, "ten events take about a second"
    async with open_operator(database_url) as operator:
        await operator.throttle("readside_orders", None, "Grace", "in a hurry")
        async with asyncio.timeout(8):
            assert (await rebuilding).outcome == "swapped"
        with pytest.raises(NothingToDo, match="No build of readside_orders is under way"):
            await operator.throttle("readside_orders", 5, "Grace", "too late")


async def test_given_a_throttled_build_when_what_is_served_stands_still_for_it_then_it_hurries(
    database_url: str, pool: Pool
) -> None:
    install(database_url, order_list())
    await placed(database_url, 40)
    with owner_engine(database_url).begin() as connection:
        begin_build(connection, order_list(), WHO["actor"], WHO["reason"], throttle=2)
    async with asyncio.timeout(5):
        assert await Builder(order_list(), pool, database_url).up_to(await Feed(pool).head(), hurried=True) == 120


async def test_given_a_throttled_build_when_few_events_take_long_then_it_catches_up_once_more_before_it_is_swapped(
    database_url: str, pool: Pool
) -> None:
    raised = wider(2)
    install(database_url, order_list())
    await placed(database_url, 4)
    with owner_engine(database_url).begin() as connection:
        begin_build(connection, raised, WHO["actor"], WHO["reason"], throttle=6)
    # when
    builders = [Builder(raised, pool, database_url)]
    catching_up = asyncio.create_task(caught_up_build(pool, raised, builders, beyond=True))

    async def begun() -> bool:
        built = "select events > 0 from amends.checkpoints where role = 'building'"
        return await fetch(database_url, built) == [(True,)]

    await until(begun)
    await placed(database_url, 4, prefix="later")
    # then
    assert await catching_up == 24


async def test_given_an_upcaster_when_rebuilt_then_old_events_are_read_through_it(
    database_url: str, pool: Pool
) -> None:
    history = Projection("renamed", version=1)
    table = history.table(
        "renamed",
        Column("who", Text, primary_key=True, comment="Who."),
        Column("times", Integer, nullable=False, default=0, comment="How often."),
        comment="One row each.",
    )

    @history.on(Renamed, key="who")
    def renamed(event: Renamed, fact: Recorded, rows: Rows) -> None:
        rows(table, event.who).add(times=event.times)

    install(database_url, history)
    async with connect(database_url) as connection:
        await append(connection, "r", 0, Renamed(who="ann", times=1))
        await connection.execute("alter table amends.events disable trigger user")
        await connection.execute('update amends.events set schema_version = 1, data = \'{"name": "ann"}\'')
        await append(connection, "r", 1, Renamed(who="ann", times=5))
    assert (await rebuild(history, database_url, asked(history, accept=True))).outcome == "swapped"
    await caught_up(database_url, pool, history)
    assert await fetch(database_url, "select * from views.renamed") == [("ann", 6)]


async def test_given_events_no_code_can_read_when_checked_then_listed(database_url: str, pool: Pool) -> None:
    await placed(database_url, 3, each=1)
    async with connect(database_url) as connection:
        await append(connection, "r", 0, Renamed(who="ann", times=1))
        await connection.execute("alter table amends.events disable trigger user")
        await connection.execute("update amends.events set name = 'readside.unheard' where stream = 'order-o0'")
        await connection.execute(
            "update amends.events set schema_version = 9 where stream <> 'order-o0' and name = 'readside.placed'"
        )
    read: list[int] = []
    found = await check_log(pool, read.append)
    assert sum(read) == 4
    assert [(each.name, each.schema_version, each.count, each.error.split(":")[0]) for each in found] == [
        ("readside.unheard", 1, 1, "UnknownMessage"),
        ("readside.placed", 9, 2, "MessageFromTheFuture"),
    ]


async def test_given_a_new_version_in_one_of_two_workers_when_it_starts_then_it_builds_and_takes_over(
    settings: Settings, run_worker: RunWorker, database_url: str
) -> None:
    install(database_url, order_list())
    await placed(database_url, 10)
    old, new = App(projections=[order_list()]), App(projections=[wider(2)])
    async with run_worker(old):
        await until(lambda: passed(database_url, 30))
        async with run_worker(new):

            async def swapped() -> bool:
                shown = await fetch(database_url, BUILDS)
                return shown == [(1, 1, False, "kept"), (2, 1, True, "live")]

            await until(swapped, 60)
        # and: later events reach the new one as soon as a worker that has it follows it
    async with run_worker(new):
        await placed(database_url, 1, prefix="later")
        await until(lambda: passed(database_url, 33), 60)
    assert len(await fetch(database_url, ROWS)) == 11


async def test_given_a_durable_rebuild_when_its_worker_goes_then_another_ends_it_and_a_cancelled_one_leaves_nothing(
    settings: Settings, run_worker: RunWorker, database_url: str
) -> None:
    install(database_url, order_list())
    await placed(database_url, 60)
    app, client = App(projections=[order_list()]), await connect_temporal(settings)
    built = "select coalesce(sum(events), 0)::int from amends.checkpoints where role = 'building'"

    async def begun() -> bool:
        [(events,)] = await fetch(database_url, built)
        return bool(events > 20)

    async with run_worker(app):
        await until(lambda: passed(database_url, 180), 30)
        handle = await start_rebuild(client, asked(order_list(), throttle=40), settings.task_queue)
        await until(begun)
    [(events,)] = await fetch(database_url, built)
    assert 20 < events < 180, "stopped on the way"
    async with run_worker(app):
        # when: started again, it is the same one
        again = await start_rebuild(client, asked(order_list()), settings.task_queue)
        assert again.id == handle.id
        async with open_operator(database_url) as operator:
            await operator.throttle("readside_orders", None, "Grace", "in a hurry")
        done = await handle.result()
        assert (done.outcome, done.generation) == ("swapped", 2)
        assert done.events < 180 - events + 40
        # when: another one is cancelled
        other = await start_rebuild(client, asked(order_list(), throttle=40), settings.task_queue)
        await until(begun)
        await other.signal(RebuildProjection.cancel, Who(actor="Grace", reason="changed my mind"))
        assert (await other.result()).outcome == "cancelled"
    assert await fetch(database_url, TABLES) == [("readside_order_v1",), ("readside_order_v1_g2",)]
    assert await fetch(database_url, BUILDS) == [(1, 1, False, "kept"), (1, 2, True, "live")]
