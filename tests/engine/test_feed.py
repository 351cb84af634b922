import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg import errors as pg

from amends.database import Pool, open_pool
from amends.errors import UnknownMessage
from amends.feed import Feed, Row
from amends.handler import CommandHandler
from amends.listen import Listener
from amends.notify import EVENTS, Notifier
from amends.records import START, Position
from amends.store import EventStore
from tests.engine.readside_shop import Noise, Order, Place, append, connect, context, fetch, until

WRITERS, COMMANDS, SLOW = 16, 25, 12

NAIVE = "select position from amends.events where position > %s order by position"
"""How one would read at first thought: by number alone."""


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, "writer", 20) as pool:
        yield pool


@pytest.fixture
async def feed(database_url: str) -> AsyncIterator[Feed]:
    async with open_pool(database_url, "projector", 2) as pool:
        yield Feed(pool)


async def read_all(feed: Feed, limit: int, head: Position) -> list[Row]:
    """Everything up to the head, which may have to wait for a transaction elsewhere in the cluster."""
    rows: list[Row] = []

    async def done() -> bool:
        rows.extend(await feed.read(rows[-1].position if rows else START, limit))
        return bool(rows) and rows[-1].position >= head

    await until(done)
    return rows


async def test_given_open_rolled_back_and_concurrent_writers_when_read_then_each_event_once_in_one_order(
    database_url: str, pool: Pool, feed: Feed
) -> None:
    # given: a transaction A that took its number first and stays open while B commits a higher one
    naive: list[int] = []
    async with connect(database_url, autocommit=False) as early:
        early_at = await append(early, "early", 0, Noise())
        async with connect(database_url) as late:
            late_at = await append(late, "late", 0, Noise())
        assert late_at > early_at
        naive += [row[0] for row in await fetch(database_url, NAIVE, 0)]
        assert await feed.read(START, 100) == [], "an event was shown that another could still come before"
        await early.commit()

    # when: writers by command handler, and among them slow ones of whom each third gives up, while a reader tails
    writing_done = asyncio.Event()
    tailed: list[Row] = []
    tailing = asyncio.create_task(tail(feed, tailed, writing_done))
    handler = CommandHandler(EventStore(pool), [Order])
    slow = [Slow() for _ in range(SLOW)]
    await asyncio.gather(
        *(slow_writer(database_url, number, each) for number, each in enumerate(slow)),
        *(write(handler, writer, slow) for writer in range(WRITERS)),
    )
    naive += [row[0] for row in await fetch(database_url, NAIVE, naive[-1])]
    head = await feed.head()
    writing_done.set()
    await tailing

    # then
    committed = {row[0] for row in await fetch(database_url, "select position from amends.events")}
    expected = 2 + WRITERS * COMMANDS + 2 * len([n for n in range(SLOW) if n % 3])
    assert len(committed) == expected
    assert {row.number for row in tailed} == committed
    assert len(tailed) == expected, "an event was read twice"
    assert tailed[-1].position == head
    assert [row.position for row in tailed] == sorted(row.position for row in tailed)
    for limit in (1, 7, 1000):
        assert await read_all(feed, limit, head) == tailed
    versions: dict[str, list[int]] = defaultdict(list)
    for row in tailed:
        versions[row.stream].append(row.version)
    assert all(found == list(range(1, len(found) + 1)) for found in versions.values())
    skipped = committed - set(naive)
    assert early_at.number in skipped, "the naive reader was to skip"


async def tail(feed: Feed, into: list[Row], writing_done: asyncio.Event) -> None:
    batch = itertools.cycle((3, 50, 11))

    async def done() -> bool:
        was_done = writing_done.is_set()
        found = await feed.read(into[-1].position if into else START, next(batch))
        into.extend(found)
        return was_done and not found and into[-1].position >= await feed.head()

    await until(done, 60)


class Slow:
    """When a slow writer begins and ends, so that others have committed in between."""

    def __init__(self) -> None:
        self.begin, self.begun, self.end = asyncio.Event(), asyncio.Event(), asyncio.Event()


async def write(handler: CommandHandler, writer: int, slow: list[Slow]) -> None:
    """Commands on a stream of its own and on one that all share; some while a slow transaction is open."""
    for n in range(COMMANDS):
        if writer < SLOW and n == writer:
            slow[writer].begin.set()
            await slow[writer].begun.wait()
        stream = "shared" if n % 5 == 0 else f"own-{writer}"
        await handler.handle(Place(order_id=stream, total=n), context(f"{writer}:{n}"))
        if writer < SLOW and n == writer + 3:
            slow[writer].end.set()


async def slow_writer(url: str, number: int, slow: Slow) -> None:
    """Appends early and ends late; each third rolls back."""
    await slow.begin.wait()
    async with connect(url, autocommit=False) as connection:
        await append(connection, f"slow-{number}", 0, Noise(), Noise())
        slow.begun.set()
        await slow.end.wait()
        await (connection.commit() if number % 3 else connection.rollback())


async def test_given_a_head_with_a_later_transaction_when_appending_then_refused_to_be_repeated(
    database_url: str,
) -> None:
    async with connect(database_url, autocommit=False) as older, connect(database_url) as newer:
        await older.execute("select pg_current_xact_id()")
        await append(newer, "one", 0, Noise())
        with pytest.raises(pg.SerializationFailure) as refused:
            await append(older, "one", 1, Noise())
        assert refused.value.sqlstate == "40001"
        await older.rollback()
        await append(older, "one", 1, Noise())


async def test_given_text_order_differs_when_read_then_sorted_by_transaction_number(
    database_url: str, feed: Feed
) -> None:
    """9 comes before 10, though "10" comes before "9"."""
    async with connect(database_url) as connection:
        await connection.execute("alter table amends.events disable trigger user")
        for n, xid in enumerate(("9", "10", "100")):
            await append(connection, f"s{n}", 0, Noise())
            await connection.execute("update amends.events set xid = %s::xid8 where stream = %s", (xid, f"s{n}"))
    assert [row.xid for row in await feed.read(START, 10)] == [9, 10, 100]


async def test_given_events_when_read_then_raw_until_recorded_is_wanted(database_url: str, feed: Feed) -> None:
    async with connect(database_url) as connection:
        at = await append(connection, "one", 0, Noise())
        await append(connection, "two", 0, Noise())
        await connection.execute("alter table amends.events disable trigger user")
        await connection.execute("update amends.events set name = 'readside.unheard_of' where stream = 'two'")
    known, unknown = await read_all(feed, 10, await feed.head())
    fact = known.recorded()
    assert (fact.event, fact.position, fact.stream, fact.version) == (Noise(), at, "one", 1)
    assert (fact.actor, fact.command_id, fact.trace) == ("test", "one:0", None)
    assert fact.recorded_at.tzinfo is not None
    assert unknown.name == "readside.unheard_of"
    with pytest.raises(UnknownMessage):
        unknown.recorded()


async def test_given_nothing_when_asked_for_the_head_then_start(feed: Feed) -> None:
    assert await feed.head() == START
    assert await feed.read(START, 10) == []


async def test_given_pokes_when_notified_then_the_highest_arrives_coalesced(database_url: str, pool: Pool) -> None:
    async with Listener(database_url, "reader", EVENTS) as listener, Notifier(pool) as notifier:
        for n in range(1, 501):
            notifier.poke(Position(7, n))
        notifier.poke(Position(6, 900))
        heard = await listener.take(10)
        assert heard == ["7:500"]
        notifier.poke(Position(7, 500))
        notifier.poke(Position(8, 1))
        assert await listener.wait(10) == "8:1"


async def test_given_a_poke_when_the_notifier_ends_then_it_has_gone_out(database_url: str, pool: Pool) -> None:
    async with Listener(database_url, "reader", EVENTS) as listener:
        async with Notifier(pool) as notifier:
            notifier.poke(Position(7, 1))
        assert await listener.wait(10) == "7:1"


async def test_given_broken_connections_when_waited_then_both_ends_recover(database_url: str, pool: Pool) -> None:
    async with Listener(database_url, "reader", EVENTS) as listener, Notifier(pool) as notifier:
        kill_all(database_url)
        assert await listener.wait(10) == "", "the caller is told to look for itself"
        notifier.poke(Position(9, 1))
        assert await listener.wait(10) == "9:1"


async def test_given_silence_when_waited_then_none_and_cancellation_is_prompt(database_url: str) -> None:
    async with Listener(database_url, "reader", EVENTS) as listener:
        assert await listener.wait(0.01) is None
        waiting = asyncio.create_task(listener.wait(600))
        await asyncio.sleep(0)
        waiting.cancel()
        async with asyncio.timeout(5):
            await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled()


def kill_all(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'"
        )
