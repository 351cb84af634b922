import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from psycopg import Error as PgError
from psycopg import errors as pg
from sqlalchemy import BigInteger, Column, Integer, Text

from amends.database import Pool, conninfo, open_pool
from amends.errors import InvalidInput, ProjectionError, Superseded
from amends.feed import Feed, Row
from amends.notify import Notifier
from amends.projection import Projection
from amends.projector import Projector
from amends.records import Position
from amends.schema import owner_engine
from tests.engine.readside_shop import Dropped, Noise, Placed, append, connect, fetch, install, order_list, running

VIEW = "select order_id, status, total, placed, net from views.readside_order order by order_id"
CHECKPOINT = "select xid::text::bigint, position, events from amends.checkpoints where projection = 'readside_orders'"

BREAK = """
create function break_off() returns trigger language plpgsql as $$ begin perform {what}; return new; end $$;
create trigger break_off before insert on read_models.readside_order_v1 for each row execute function break_off();
"""
"""Ends a projector's transaction after the checkpoint was moved and before the rows are there."""


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, "projector", 4) as pool:
        yield pool


async def place(url: str, *totals: int, order: str = "o1", version: int = 0) -> Position:
    async with connect(url) as connection:
        events = [Placed(order_id=order, total=total) for total in totals]
        return await append(connection, f"order-{order}", version, *events)


async def test_given_events_when_projected_then_rows_view_and_checkpoint_agree(database_url: str, pool: Pool) -> None:
    history = order_list()
    install(database_url, history)
    await place(database_url, 12, 7)
    await place(database_url, 5, order="gone")
    async with connect(database_url) as connection:
        await append(connection, "noise", 0, Noise())
        at = await append(connection, "order-gone", 1, Dropped(order_id="gone"))
    assert await Projector(history, pool, database_url, batch=2).catch_up(at) == at
    assert await fetch(database_url, VIEW) == [("o1", "placed", 19, 2, 10)]
    assert await fetch(database_url, "select totals, at is not null from views.readside_order") == [([12, 7], True)]
    assert await fetch(database_url, CHECKPOINT) == [(at.xid, at.number, 5)]


@pytest.mark.parametrize("what", ["pg_terminate_backend(pg_backend_pid())", "* from nowhere"])
async def test_given_a_break_before_the_commit_when_run_again_then_nothing_is_lost_or_doubled(
    database_url: str, pool: Pool, what: str
) -> None:
    history = order_list()
    install(database_url, history)
    at = await place(database_url, 12)
    async with connect(database_url) as connection:
        await connection.execute(BREAK.format(what=what).encode())
        with pytest.raises(PgError):
            await Projector(history, pool, database_url).catch_up(at)
        assert await fetch(database_url, CHECKPOINT) == [(0, 0, 0)]
        assert await fetch(database_url, VIEW) == []
        await connection.execute("drop function break_off cascade")
    await Projector(history, pool, database_url).catch_up(at)
    assert await fetch(database_url, VIEW) == [("o1", "placed", 12, 1, 10)]
    assert await fetch(database_url, CHECKPOINT) == [(at.xid, at.number, 1)]


class Gate(Feed):
    """A feed that says when it was read, and hands over when it may."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.reads, self.read_once, self.may = 0, asyncio.Event(), asyncio.Event()
        self.may.set()

    async def read(self, after: Position, limit: int) -> list[Row]:
        found = await super().read(after, limit)
        self.reads += 1
        self.read_once.set()
        await self.may.wait()
        return found


async def test_given_two_projectors_on_one_projection_when_both_have_read_then_the_second_is_superseded(
    database_url: str, pool: Pool
) -> None:
    history = order_list()
    install(database_url, history)
    at = await place(database_url, 12)
    gate = Gate(pool)
    gate.may.clear()
    second = asyncio.create_task(Projector(history, pool, database_url, feed=gate).run(asyncio.Event(), lambda _: None))
    await gate.read_once.wait()
    await Projector(history, pool, database_url).catch_up(at)
    gate.may.set()
    with pytest.raises(Superseded, match="'readside_orders' version 1 is no longer at 0:0: another holder"):
        await asyncio.wait_for(second, 60)
    assert await fetch(database_url, VIEW) == [("o1", "placed", 12, 1, 10)]


async def test_given_many_projectors_at_once_when_events_come_then_each_is_applied_once(
    database_url: str, pool: Pool
) -> None:
    history = order_list()
    install(database_url, history)
    at = [await place(database_url, 1, order=f"o{n}") for n in range(60)][-1]
    runs = [Projector(history, pool, database_url, batch=7).catch_up(at) for _ in range(4)]
    ends = await asyncio.gather(*runs, return_exceptions=True)
    assert all(end == at or isinstance(end, Superseded) for end in ends)
    await Projector(history, pool, database_url).catch_up(at)
    assert await fetch(database_url, "select count(*), sum(total) from views.readside_order") == [(60, 60)]


async def test_given_no_installation_when_run_then_told_so(database_url: str, pool: Pool) -> None:
    with pytest.raises(ProjectionError, match="has no checkpoint; install it first"):
        await Projector(order_list(), pool, database_url).run(asyncio.Event(), lambda _: None)


async def test_given_a_notification_when_the_poll_is_far_off_then_visible_at_once(
    database_url: str, pool: Pool
) -> None:
    history = order_list()
    install(database_url, history)
    began = time.monotonic()
    async with (
        open_pool(database_url, "writer", 1) as writers,
        Notifier(writers) as notifier,
        running(Projector(history, pool, database_url, poll=600)) as beats,
    ):
        for version in range(3):
            at = await place(database_url, 1, version=version)
            notifier.poke(at)
            await beats.until(lambda b, at=at: b.positions[-1] == at)  # type: ignore[misc]
    assert await fetch(database_url, VIEW) == [("o1", "placed", 3, 3, 0)]
    assert time.monotonic() - began < 200


async def test_given_an_older_transaction_open_at_the_wake_up_when_it_ends_then_visible_without_the_poll(
    database_url: str, pool: Pool
) -> None:
    history = order_list()
    install(database_url, history)
    gate = Gate(pool)
    projector = Projector(history, pool, database_url, poll=600, feed=gate)
    async with (
        open_pool(database_url, "writer", 1) as writers,
        connect(database_url, autocommit=False) as older,
        Notifier(writers) as notifier,
        running(projector) as beats,
    ):
        await older.execute("select pg_current_xact_id()")
        at = await place(database_url, 1)
        looked = gate.reads
        notifier.poke(at)
        await beats.until(lambda _: gate.reads >= looked + 4)
        assert await fetch(database_url, VIEW) == []
        await older.rollback()
        await beats.until(lambda b: b.positions[-1] == at)


async def test_given_no_notification_when_polling_then_visible_all_the_same(database_url: str, pool: Pool) -> None:
    history = order_list()
    install(database_url, history)
    async with running(Projector(history, pool, database_url, poll=0.02)) as beats:
        at = await place(database_url, 1)
        await beats.until(lambda b: b.positions[-1] == at)


async def test_given_nothing_to_do_when_idle_then_beats_and_a_stop_is_prompt(database_url: str, pool: Pool) -> None:
    history = order_list()
    install(database_url, history)
    gate = Gate(pool)
    async with running(Projector(history, pool, database_url, poll=600, feed=gate)) as beats:
        await beats.until(lambda b: len(b.positions) >= 3)
        assert gate.reads == 1
        began = time.monotonic()
    assert time.monotonic() - began < 60


async def test_given_an_installation_when_looked_at_in_sql_then_every_view_column_is_documented(
    database_url: str,
) -> None:
    install(database_url, order_list())
    comments = await fetch(
        database_url,
        "select attname, col_description(attrelid, attnum) from pg_attribute "
        "where attrelid = 'views.readside_order'::regclass and attnum > 0 order by attnum",
    )
    assert [name for name, _ in comments] == ["order_id", "status", "total", "placed", "at", "totals", "net"]
    assert dict(comments)["status"] == "How far it's come; 100% or not."
    assert all(comment for _, comment in comments)
    told = "select obj_description('views.readside_order'::regclass), reloptions from pg_class where relname = %s"
    assert await fetch(database_url, told, "readside_order_v1") == [("One row an order.", ["fillfactor=50"])]


async def test_given_the_reader_role_when_it_tries_then_the_view_is_all_it_has(database_url: str) -> None:
    install(database_url, order_list())
    async with connect(conninfo(database_url, "reader")) as reader:
        await reader.execute("select * from views.readside_order")
        for forbidden in (
            "select * from read_models.readside_order_v1",
            "insert into views.readside_order (order_id) values ('x')",
            "delete from views.readside_order",
            "select * from amends.events",
        ):
            with pytest.raises(pg.InsufficientPrivilege):
                await reader.execute(forbidden.encode())


async def test_given_several_processes_when_installing_at_once_and_again_then_all_is_well(database_url: str) -> None:
    await asyncio.gather(*(asyncio.to_thread(locked_install, database_url) for _ in range(4)))
    assert len(await fetch(database_url, CHECKPOINT)) == 1


def locked_install(url: str) -> None:
    from amends.schema import migrate

    with owner_engine(url).begin() as owner:
        migrate(owner)
        order_list().install(owner)


async def test_given_a_reader_in_a_long_transaction_when_installed_again_then_it_does_not_wait(
    database_url: str,
) -> None:
    install(database_url, order_list())
    async with connect(database_url, autocommit=False) as reader:
        await reader.execute("select * from views.readside_order")
        async with asyncio.timeout(10):
            await asyncio.to_thread(install, database_url, order_list())


def declare(version: int, *columns: str) -> Projection:
    projection = Projection("p", version=version)
    key = Column("k", Text, primary_key=True, comment="Key.")
    projection.table("t", key, *(Column(c, Integer, comment="Some.") for c in columns), comment="A row a key.")
    return projection


async def test_given_a_table_that_changes_without_its_version_when_installed_then_told_to_raise_it(
    database_url: str,
) -> None:
    install(database_url, declare(1, "a"))
    with pytest.raises(ProjectionError, match=r"t_v1.*without column b of type INTEGER: raise the projection's"):
        install(database_url, declare(1, "a", "b"))


def test_given_a_faulty_declaration_when_imported_then_told_what_is_wrong() -> None:
    projection = Projection("p", version=1)
    key = Column("k", Text, primary_key=True, comment="Key.")
    with pytest.raises(TypeError, match="comment=, in table 't' of projection 'p': a, more"):
        projection.table("t", key, Column("a", Text), comment="A row a key.", computed={"more": ("1", "")})
    with pytest.raises(TypeError, match=r"comment=.*the table itself"):
        projection.table("t", key, comment="")
    with pytest.raises(TypeError, match="no primary_key"):
        projection.table("t", Column("a", Text, comment="A."), comment="A row a key.")
    with pytest.raises(TypeError, match="lower-case"):
        projection.table('t"', Column("a", Text, comment="A.", primary_key=True), comment="A row a key.")
    with pytest.raises(TypeError, match=r"handles 'readside.placed' already"):
        order_list().on(Placed)(lambda event, fact, rows: None)
    with pytest.raises(TypeError, match="no view 'nothing', only readside_order"):
        order_list().view("nothing")


def test_given_a_faulty_change_when_made_then_projection_table_and_column_are_named() -> None:
    projection = Projection("p", version=1)
    table = projection.table(
        "t",
        Column("k", Text, primary_key=True, comment="Key."),
        Column("n", BigInteger, comment="Number."),
        Column("s", Text, comment="Text."),
        comment="A row a key.",
    )
    other = next(iter(order_list().tables))
    rows = projection.rows()
    with pytest.raises(InvalidInput, match=r"p\.t\.x: no such column; there are k, n, s"):
        rows(table, "a").set(x=1)
    with pytest.raises(InvalidInput, match=r"p\.t\.s: takes set, append, not add"):
        rows(table, "a").add(s=1)
    with pytest.raises(InvalidInput, match=r"p\.t\.n: wants an int, not str"):
        rows(table, "a").set(n="1")
    with pytest.raises(InvalidInput, match=r"p\.t\.k: is the key"):
        rows(table, "a").set(k="b")
    with pytest.raises(InvalidInput, match=r"p\.t: its key is \(k\), not 2 values"):
        rows(table, "a", "b")
    with pytest.raises(InvalidInput, match=r"p\.readside_order_v1: is not a table of this projection"):
        rows(other, "a")
