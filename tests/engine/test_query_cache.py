"""Answers that are kept: only while nobody has said, and this client has not seen, that they have changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import JSON, Column, MetaData, Table, Text, column, func, literal, select, text

from amends.database import Connection, Pool, open_pool
from amends.projector import Projector
from amends.query import Query, first, many
from amends.query_cache import QueryCache, identity
from amends.reader import Reader
from amends.records import Position
from amends.settings import Settings
from amends.sources import Sources
from tests.engine.readside_shop import Placed, append, connect, fetch, install, order_list, running, until

LISTENERS = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and query = 'listen "amends_checkpoints"'
"""

WAITING = """
select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
and query like '%%readside_order%%' and pid <> pg_backend_pid()
"""

orders = order_list()
VIEW = orders.view("readside_order")


class Total(BaseModel):
    order_id: str
    total: int
    totals: list[Any]


def total_of(order: str) -> Query[Total | None]:
    return first(select(VIEW.c.order_id, VIEW.c.total, VIEW.c.totals).where(VIEW.c.order_id == order), Total)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    install(database_url, orders)
    async with open_pool(database_url, "projector", 4) as pool:
        yield pool


@asynccontextmanager
async def caching(url: str, seconds: float = 1000, entries: int = 100) -> AsyncIterator[tuple[Reader, QueryCache]]:
    """A reader that keeps answers, and hears of changes already."""
    async with Reader(url, 4, Sources([orders]), cache_seconds=seconds, cache_entries=entries) as reader:
        assert reader.cache is not None
        await hearing(reader)
        yield reader, reader.cache


async def hearing(reader: Reader) -> None:
    """Wait until what is asked is kept."""

    async def kept() -> bool:
        assert reader.cache is not None
        await reader.query(many(select(VIEW.c.order_id), Name))
        return len(reader.cache) > 0

    await until(kept)


class Name(BaseModel):
    order_id: str


class Shop:
    """Places orders; their projection comes along when told to."""

    def __init__(self, url: str, pool: Pool) -> None:
        self.url, self.pool = url, pool

    async def place(self, order: str, total: int, version: int = 0) -> Position:
        async with connect(self.url) as connection:
            return await append(connection, f"order-{order}", version, Placed(order_id=order, total=total))

    async def project(self, until: Position) -> None:
        await Projector(orders, self.pool, self.url).catch_up(until)

    async def project_in_silence(self, order: str) -> None:
        """The rows change, and nobody says so."""
        await fetch(
            self.url, "update read_models.readside_order_v1 set total = -1 where order_id = %s returning 1", order
        )


@pytest.fixture
async def shop(database_url: str, pool: Pool) -> Shop:
    shop = Shop(database_url, pool)
    await shop.project(await shop.place("o1", 10))
    return shop


async def total(reader: Reader, order: str = "o1") -> int | None:
    row = await reader.query(total_of(order))
    return None if row is None else row.total


@pytest.fixture
def looks_never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients know only what they are told."""
    monkeypatch.setattr("amends.checkpoints.LOOK", 1000.0)


def test_given_no_setting_then_nothing_is_kept() -> None:
    assert Settings().cache_seconds == 0
    assert Reader("postgresql://nowhere", 1).cache is None


async def test_given_an_answer_when_asked_again_then_the_database_is_not_asked(shop: Shop) -> None:
    async with caching(shop.url) as (reader, cache):
        assert await total(reader) == 10
        await shop.project_in_silence("o1")
        hits, misses = cache.hits, cache.misses
        assert await total(reader) == 10
        assert (cache.hits, cache.misses) == (hits + 1, misses)
        assert await total(reader, "o2") is None, "another value is another question"
        assert (cache.hits, cache.misses) == (hits + 1, misses + 1)


@pytest.mark.usefixtures("looks_never")
async def test_given_an_answer_when_its_projection_says_that_it_has_moved_then_it_is_asked_anew(shop: Shop) -> None:
    async with caching(shop.url) as (reader, cache):
        assert await total(reader) == 10
        await shop.project(await shop.place("o1", 5, 1))

        async def changed() -> bool:
            return await total(reader) == 15

        await until(changed)
        await note(reader, shop.url, "another")  # what was sent before it is heard by then
        assert await total(reader) == 15
        await note(reader, shop.url, "yet_another")
        hits = cache.hits
        assert await total(reader) == 15
        assert cache.hits == hits + 1


async def note(reader: Reader, url: str, projection: str) -> None:
    """A projection says that it has moved, and the client has heard it."""
    heard = asyncio.Event()
    reader._checkpoints.observe(lambda name: heard.set() if name == projection else None)
    await fetch(url, "select pg_notify('amends_checkpoints', %s), pg_notify('elsewhere', '')", f"{projection}:1:1")
    await asyncio.wait_for(heard.wait(), 60)


class Dying(Projector):
    """Its process ends after a commit, before it has said so."""

    async def _announce(self, connection: Connection) -> None:
        if self._counted:
            raise SystemError


async def moved_by_one_who_dies(shop: Shop) -> Position:
    at = await shop.place("o1", 5, 1)
    with pytest.raises(SystemError):
        await Dying(orders, shop.pool, shop.url).catch_up(at)
    return at


@pytest.mark.usefixtures("looks_never")
async def test_given_a_projector_that_dies_before_it_says_that_it_has_moved_when_another_begins_then_it_says_so(
    shop: Shop,
) -> None:
    async with caching(shop.url) as (reader, _):
        assert await total(reader) == 10
        await moved_by_one_who_dies(shop)
        assert await total(reader) == 10, "nobody has told this client"
        async with running(Projector(orders, shop.pool, shop.url)):

            async def changed() -> bool:
                return await total(reader) == 15

            await until(changed)


async def test_given_a_projector_that_dies_before_it_says_that_it_has_moved_when_no_other_comes_then_clients_look(
    shop: Shop,
) -> None:
    async with caching(shop.url) as (reader, _):
        assert await total(reader) == 10
        await moved_by_one_who_dies(shop)

        async def changed() -> bool:
            return await total(reader) == 15

        await until(changed, 5)


@pytest.mark.usefixtures("looks_never")
async def test_given_a_kept_answer_when_the_client_sees_by_itself_that_it_is_behind_then_it_is_not_given(
    shop: Shop,
) -> None:
    """A checkpoint is read before the note of it comes: notes are sent after the commit, or never by who dies then."""
    async with caching(shop.url) as (reader, _):
        assert await total(reader) == 10
        at = await shop.place("o1", 5, 1)
        # given: rows and checkpoint moved, and no note is sent
        await shop.project_in_silence("o1")
        moved = "update amends.checkpoints set xid = %s::text::xid8, position = %s where projection = %s returning 1"
        await fetch(shop.url, moved, str(at.xid), at.number, orders.name)
        assert await total(reader) == 10, "nobody has told this client"
        # when: it is told
        assert (await reader.at_least(at, "readside_order", 20)).fresh
        # then
        assert await total(reader) == -1


class Slow:
    """A database whose answer takes its time to arrive."""

    def __init__(self) -> None:
        self.says = 1
        self.asked, self.arrives = asyncio.Event(), asyncio.Event()

    async def ask(self) -> list[dict[str, int]]:
        answer = self.says
        self.asked.set()
        await self.arrives.wait()
        return [{"x": answer}]


@pytest.mark.parametrize("change", ["announced", "unheard"])
async def test_given_an_answer_under_way_when_the_rows_change_then_it_is_not_kept(change: str) -> None:
    slow, listening = Slow(), [True]
    cache = QueryCache(1000, 10, lambda: listening[0])
    early = asyncio.create_task(cache.rows("q", frozenset({"p"}), slow.ask))
    await slow.asked.wait()
    # when: the rows change after the question was answered, before the answer arrives
    slow.says = 2
    if change == "announced":
        cache.forget("p")
    else:
        listening[0] = False
    slow.arrives.set()
    # then
    assert await early == [{"x": 1}]
    listening[0] = True
    assert [await cache.rows("q", frozenset({"p"}), slow.ask) for _ in range(2)] == [[{"x": 2}]] * 2
    assert (cache.misses, cache.hits) == (2, 1)
    cache.forget("other")
    assert len(cache) == 1


async def test_given_an_answer_under_way_when_a_change_is_announced_then_who_asks_later_does_not_share_it() -> None:
    slow = Slow()
    cache = QueryCache(1000, 10, lambda: True)
    early = asyncio.create_task(cache.rows("q", frozenset({"p"}), slow.ask))
    await slow.asked.wait()
    slow.says = 2
    cache.forget("p")
    late = asyncio.create_task(cache.rows("q", frozenset({"p"}), slow.ask))
    slow.arrives.set()
    assert (await early, await late) == ([{"x": 1}], [{"x": 2}])


async def test_given_the_listening_connection_lost_when_asked_then_nothing_kept_is_given_until_it_is_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amends.listen.FIRST_RETRY", 1000.0)  # it stays away, once it is lost
    async with caching(shop.url) as (reader, cache):
        assert await total(reader) == 10
        await shop.project_in_silence("o1")
        # when
        await fetch(shop.url, LISTENERS)

        # then
        async def told() -> bool:
            return await total(reader) == -1

        await until(told)
        hits = cache.hits
        assert [await total(reader) for _ in range(3)] == [-1] * 3
        assert cache.hits == hits


async def test_given_the_listening_connection_back_when_asked_then_answers_are_kept_again_and_old_ones_are_gone(
    shop: Shop,
) -> None:
    async with caching(shop.url) as (reader, cache):
        assert await total(reader) == 10
        await shop.project_in_silence("o1")
        await fetch(shop.url, LISTENERS)

        async def new_and_kept() -> bool:
            hits = cache.hits
            return [await total(reader) for _ in range(2)] == [-1, -1] and cache.hits > hits

        await until(new_and_kept)


async def test_given_many_who_ask_the_same_when_it_is_not_kept_then_the_database_is_asked_once(shop: Shop) -> None:
    async with caching(shop.url) as (reader, cache):
        misses, shared = cache.misses, cache.shared
        async with connect(shop.url, autocommit=False) as blocking:
            await blocking.execute("lock table read_models.readside_order_v1 in access exclusive mode")
            asking = [asyncio.create_task(total(reader)) for _ in range(50)]

            async def one_waits() -> bool:
                return await fetch(shop.url, WAITING) == [(1,)]

            await until(one_waits)
            # one who gives up does not take the others' answer away
            asking.pop(0).cancel()
            await blocking.rollback()
        assert await asyncio.gather(*asking) == [10] * 49
        assert (cache.misses - misses, cache.shared - shared) == (1, 49)


async def test_given_a_question_that_fails_when_asked_by_many_then_all_are_told_and_the_next_one_asks_again() -> None:
    async def broken() -> list[dict[str, int]]:
        raise OSError("gone")

    async def well() -> list[dict[str, int]]:
        return [{"x": 1}]

    cache = QueryCache(1000, 10, lambda: True)
    asking = [cache.rows("q", frozenset({"p"}), broken) for _ in range(3)]
    assert [str(each) for each in await asyncio.gather(*asking, return_exceptions=True)] == ["gone"] * 3
    assert await cache.rows("q", frozenset({"p"}), well) == [{"x": 1}]


async def test_given_more_questions_than_entries_when_asked_then_the_longest_unused_goes(shop: Shop) -> None:
    async with caching(shop.url, entries=2) as (reader, cache):
        for order in ("o1", "o2", "o1", "o3"):
            await total(reader, order)
        assert len(cache) == 2
        hits = cache.hits
        await total(reader, "o1")
        assert cache.hits == hits + 1
        await total(reader, "o2")
        assert cache.hits == hits + 1


async def test_given_an_answer_when_its_time_is_over_then_it_is_asked_anew(shop: Shop) -> None:
    async with caching(shop.url, seconds=0.2) as (reader, _):
        assert await total(reader) == 10
        await shop.project_in_silence("o1")

        async def anew() -> bool:
            return await total(reader) == -1

        await until(anew)


async def test_given_a_view_that_no_projection_keeps_when_asked_then_it_is_not_kept(shop: Shop) -> None:
    status = text("select projection as order_id from views.projection_status").columns(column("order_id", Text))
    both = select(VIEW.c.order_id).where(text("exists (select from views.projection_status)"))
    async with caching(shop.url) as (reader, cache):
        kept = len(cache)
        await reader.query(many(status, Name))
        await reader.query(many(both, Name))
        assert len(cache) == kept


async def test_given_a_kept_answer_when_a_caller_changes_theirs_then_the_next_one_gets_it_unchanged(shop: Shop) -> None:
    class Loose(BaseModel):
        totals: Any

    async with caching(shop.url) as (reader, cache):
        hits = cache.hits
        for _ in range(2):
            [row] = await reader.query(many(select(VIEW.c.totals), Loose))
            assert row.totals == [10]
            row.totals.append("mine")
        assert cache.hits == hits + 1


def test_questions_are_told_apart_by_sql_values_and_their_types() -> None:
    one, yes = select(VIEW).where(VIEW.c.total == 1), select(VIEW).where(VIEW.c.total == True)  # noqa: E712
    assert identity(one) == identity(select(VIEW).where(VIEW.c.total == 1))
    assert identity(one) != identity(yes)
    assert identity(select(literal(1))) != identity(select(literal(True)))
    assert identity(select(literal(1))) == identity(select(literal(1)))
    assert identity(one) != identity(select(VIEW).where(VIEW.c.total == 2))
    some = select(VIEW).where(VIEW.c.order_id.in_(["a", "b"]))
    assert identity(some) == identity(select(VIEW).where(VIEW.c.order_id.in_(["a", "b"])))
    assert identity(some) != identity(select(VIEW).where(VIEW.c.order_id.in_(["a", "c"])))
    anything = Table("t", MetaData(), Column("j", JSON))
    assert identity(select(func.f(anything.c.j)).where(anything.c.j == {1, 2})) is None
