"""Watching: what happens to a thing is pushed, each row once, in the feed's order, whatever breaks meanwhile."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import BigInteger, Column, Text
from sqlalchemy.exc import ProgrammingError

from amends.changes import Rows
from amends.database import Connection, Pool, open_pool
from amends.errors import InvalidInput
from amends.projection import Projection
from amends.projector import Projector
from amends.reader import Reader
from amends.records import START, Position, Recorded
from amends.sources import Sources
from amends.watching import Change, Changes
from tests.engine.readside_shop import Placed, append, connect, fetch, install, running, until

story = Projection("watched_story", version=1)
told = story.table(
    "watched",
    Column("order_id", Text, primary_key=True, comment="Which order."),
    Column("position", BigInteger, primary_key=True, comment="Number of the event."),
    Column("total", BigInteger, nullable=False, comment="In cents."),
    Column("xid", BigInteger, nullable=False, comment="Transaction of the event."),
    comment="What happened.",
)


@story.on(Placed)
def placed(event: Placed, fact: Recorded, rows: Rows) -> None:
    rows(told, event.order_id, fact.position.number).set(total=event.total, xid=fact.position.xid)


class Told(Change):
    order_id: str
    total: int


CHANGES = Changes(story.view("watched"), "order_id", Told)

CONNECTIONS = """
select count(*) filter (where query = 'listen "amends_checkpoints"'), count(*) from pg_stat_activity
where datname = current_database() and application_name = 'amends-reader'
"""

KILL = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and application_name = 'amends-reader'
"""

KILL_LISTENER = KILL + """ and query = 'listen "amends_checkpoints"'"""


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    install(database_url, story)
    async with open_pool(database_url, "projector", 4) as pool:
        yield pool


@pytest.fixture
async def reader(database_url: str, pool: Pool) -> AsyncIterator[Reader]:
    async with Reader(database_url, 4, Sources([story])) as reader:
        yield reader


class Orders:
    """Writes events of orders."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._versions: dict[str, int] = {}

    async def place(self, order: str, total: int) -> Position:
        version = self._versions.get(order, 0)
        self._versions[order] = version + 1
        async with connect(self.url) as connection:
            return await append(connection, f"order-{order}", version, Placed(order_id=order, total=total))


@pytest.fixture
def orders(database_url: str) -> Orders:
    return Orders(database_url)


async def watched(reader: Reader, order: str, after: Position = START) -> AsyncIterator[Told]:
    while True:
        for change in await reader.changes(CHANGES, order, after, 60):
            after = change.position
            yield change


async def take(count: int, changes: AsyncIterator[Told]) -> list[Told]:
    async with asyncio.timeout(60):
        return [change async for _, change in _zip(range(count), changes)]


async def _zip(numbers: range, changes: AsyncIterator[Told]) -> AsyncIterator[tuple[int, Told]]:
    for number in numbers:
        yield number, await anext(changes)


async def test_given_a_watcher_when_things_happen_then_they_are_pushed_in_order_with_their_positions(
    database_url: str, pool: Pool, reader: Reader, orders: Orders
) -> None:
    first = await orders.place("o1", 1)
    async with running(Projector(story, pool, database_url, poll=0.01)):
        changes = watched(reader, "o1")
        assert [(each.total, each.position) for each in await take(1, changes)] == [(1, first)]
        await orders.place("o2", 100)
        later = [await orders.place("o1", total) for total in (2, 3)]
        assert [(each.total, each.position) for each in await take(2, changes)] == [(2, later[0]), (3, later[1])]
        # and: who begins after a position gets what came after it
        assert [each.total for each in await take(1, watched(reader, "o1", later[0]))] == [3]


async def test_given_nothing_happening_when_the_time_is_over_then_nothing_is_given(reader: Reader) -> None:
    assert await reader.changes(CHANGES, "o1", START, 0.05) == []


async def test_given_a_later_row_with_a_smaller_number_when_watched_and_resumed_then_none_is_skipped(
    database_url: str, pool: Pool, reader: Reader
) -> None:
    """Numbers are given at insertion, transactions when they begin: feed order is not the order of the numbers."""
    async with connect(database_url, autocommit=False) as early, connect(database_url, autocommit=False) as late:
        await early.execute("select pg_current_xact_id()")
        await late.execute("select pg_current_xact_id()")
        small = await append(late, "order-b", 0, Placed(order_id="o1", total=2))
        large = await append(early, "order-a", 0, Placed(order_id="o1", total=1))
        assert large < small
        assert large.number > small.number
        await early.commit()
        await late.commit()
    async with running(Projector(story, pool, database_url, poll=0.01)):
        assert [each.position for each in await take(2, watched(reader, "o1"))] == [large, small]
        assert [each.total for each in await take(1, watched(reader, "o1", large))] == [2]


async def test_given_connections_killed_again_and_again_when_watched_then_each_thing_comes_once(
    database_url: str, pool: Pool, reader: Reader, orders: Orders
) -> None:
    count = 60
    async with running(Projector(story, pool, database_url, poll=0.01)):
        watching = [asyncio.create_task(take(count, watched(reader, "o1"))) for _ in range(3)]
        for total in range(count):
            await orders.place("o1", total)
            if total % 10 == 5:
                # the listening one alone, or those that ask as well
                await fetch(database_url, KILL_LISTENER if total % 20 == 5 else KILL)
        for changes in await asyncio.gather(*watching):
            assert [each.total for each in changes] == list(range(count))


async def test_given_no_notes_at_all_when_watched_then_polling_finds_what_has_happened(
    database_url: str, pool: Pool, reader: Reader, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amends.checkpoints.CHECKPOINTS", "nobody_sends_here")
    watching = asyncio.create_task(take(1, watched(reader, "o1")))

    async def asked() -> bool:
        return await fetch(database_url, CONNECTIONS) == [(0, 2)]

    await until(asked)
    at = await orders.place("o1", 1)
    await Projector(story, pool, database_url).catch_up(at)
    assert [each.total for each in await watching] == [1]


async def test_given_a_projector_that_dies_before_it_says_that_it_has_moved_when_watched_then_it_is_pushed_all_the_same(
    database_url: str, pool: Pool, reader: Reader, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amends.watching.POLL", 1000.0)
    watching = asyncio.create_task(take(1, watched(reader, "o1")))

    async def listening() -> bool:
        return await fetch(database_url, CONNECTIONS) == [(1, 2)]

    await until(listening)
    at = await orders.place("o1", 1)
    with pytest.raises(SystemError):
        await Dying(story, pool, database_url).catch_up(at)
    assert not watching.done()
    async with running(Projector(story, pool, database_url)):
        assert [each.total for each in await watching] == [1]


class Dying(Projector):
    """Its process ends after a commit, before it has said so."""

    async def _announce(self, connection: Connection) -> None:
        if self._counted:
            raise SystemError


async def test_given_a_restart_in_the_middle_when_resumed_from_the_last_position_then_none_is_skipped_or_doubled(
    database_url: str, pool: Pool, orders: Orders
) -> None:
    count, seen = 40, list[int]()
    async with running(Projector(story, pool, database_url, poll=0.01)):

        async def write() -> None:
            for total in range(count):
                await orders.place("o1", total)

        writing = asyncio.create_task(write())
        after = "0:0"
        for part in itertools.cycle((1, 7, 3)):
            if len(seen) == count:
                break
            # a process that ends, and another that has nothing but the last position as text
            async with Reader(database_url, 2) as reader:
                for change in await take(min(part, count - len(seen)), watched(reader, "o1", Position.parse(after))):
                    seen.append(change.total)
                    after = str(change.position)
        await writing
    assert seen == list(range(count))


async def test_given_many_watchers_when_they_wait_then_they_share_one_connection_for_notes_and_one_for_questions(
    database_url: str, pool: Pool, reader: Reader, orders: Orders
) -> None:
    names = [f"o{number}" for number in range(100)]
    watching = [asyncio.create_task(take(1, watched(reader, name))) for name in names for _ in range(2)]

    async def connected() -> bool:
        return await fetch(database_url, CONNECTIONS) == [(1, 2)]

    await until(connected)
    positions = {name: await orders.place(name, number) for number, name in enumerate(names)}
    await Projector(story, pool, database_url).catch_up(max(positions.values()))
    for name, [change] in zip([name for name in names for _ in range(2)], await asyncio.gather(*watching), strict=True):
        assert (change.order_id, change.position) == (name, positions[name])
    assert await connected()


async def test_given_a_backlog_larger_than_one_answer_when_watched_then_all_of_it_comes_in_order(
    database_url: str, pool: Pool, reader: Reader, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amends.watching.MOST", 3)
    monkeypatch.setattr("amends.watching.POLL", 1000.0)
    last = START
    for total in range(10):
        last = await orders.place("o1" if total % 2 else "o2", total)
    await Projector(story, pool, database_url).catch_up(last)
    one, two = await asyncio.gather(take(5, watched(reader, "o1")), take(5, watched(reader, "o2")))
    assert [[each.total for each in changes] for changes in (one, two)] == [[1, 3, 5, 7, 9], [0, 2, 4, 6, 8]]
    # and: who comes late in one answer need not wait until those before ask again
    for total in range(10, 13):
        last = await orders.place("o3", total)
    await Projector(story, pool, database_url).catch_up(await orders.place("o4", 13))
    asked = (reader.changes(CHANGES, order, START, 60) for order in ("o3", "o4"))
    assert [[each.total for each in changes] for changes in await asyncio.gather(*asked)] == [[10, 11, 12], [13]]


async def test_given_two_who_have_seen_more_and_less_when_they_ask_at_once_then_each_gets_what_is_new_to_it(
    database_url: str, pool: Pool, reader: Reader, orders: Orders
) -> None:
    positions = [await orders.place("o1", total) for total in (1, 2, 3)]
    await Projector(story, pool, database_url).catch_up(positions[-1])
    asked = (reader.changes(CHANGES, "o1", after, 60) for after in (START, positions[0], positions[1]))
    totals = [[each.total for each in changes] for changes in await asyncio.gather(*asked)]
    assert totals == [[1, 2, 3], [2, 3], [3]]


async def test_given_a_slow_watcher_when_much_happens_then_it_gets_all_and_holds_up_nobody(
    database_url: str, pool: Pool, reader: Reader, orders: Orders
) -> None:
    async with running(Projector(story, pool, database_url, poll=0.01)):
        slow = watched(reader, "o1")
        await orders.place("o1", 0)
        assert [each.total for each in await take(1, slow)] == [0]
        for total in (1, 2, 3):
            await orders.place("o1", total)
        assert [each.total for each in await take(4, watched(reader, "o1"))] == [0, 1, 2, 3]
        assert [each.total for each in await take(3, slow)] == [1, 2, 3]


async def test_given_a_view_that_is_not_there_when_watched_then_the_error_reaches_the_watcher(
    database_url: str, reader: Reader
) -> None:
    async with connect(database_url) as connection:
        await connection.execute("drop view views.watched")
    with pytest.raises(ProgrammingError, match="watched"):
        await reader.changes(CHANGES, "o1", START, 60)


@pytest.mark.parametrize("cursor", ["", "nonsense", "1042:7", "log:1:x", ":1:1", "log:1:1", "a\x00:1:1", "é" * 1000])
async def test_given_a_cursor_that_is_none_of_this_log_when_resumed_then_the_error_names_it(
    database_url: str, pool: Pool, reader: Reader, orders: Orders, cursor: str
) -> None:
    for order in ("the first", "the second"):
        with pytest.raises(InvalidInput, match="after: "):
            await reader.resume(cursor)
        await orders.place(order, 1)


async def test_given_a_position_beyond_the_end_when_resumed_then_refused_and_not_waited_for(
    reader: Reader, orders: Orders
) -> None:
    at = await orders.place("o1", 1)
    assert await reader.resume(at) == at
    with pytest.raises(InvalidInput, match=r"after: .* is a place in another log"):
        await reader.resume(Position(at.xid + 1, 1))
