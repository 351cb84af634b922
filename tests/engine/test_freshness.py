import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from sqlalchemy import Column, MetaData, Table, Text, exists, func, select, text

from amends.database import Pool, open_pool
from amends.errors import InvalidInput
from amends.freshness import Standing
from amends.projector import Projector
from amends.query import first, many
from amends.reader import Reader
from amends.records import START, Position
from amends.sources import Sources, views_in
from amends.standings import Standings
from tests.engine.readside_shop import OrderRow, Placed, append, connect, fetch, install, order_list, running, until
from tests.engine.standing import Parked, Stands, standing

NAMES = ["readside_orders"]

LISTENING = """
select count(*) from pg_stat_activity where datname = current_database() and query = 'listen "amends_checkpoints"'
"""

KILL_LISTENERS = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and query = 'listen "amends_checkpoints"'
"""


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, "projector", 4) as pool:
        yield pool


@pytest.fixture
async def reader(database_url: str) -> AsyncIterator[Reader]:
    install(database_url, order_list())
    async with Reader(database_url, 4) as reader:
        yield reader


async def place(url: str, order: str, total: int = 15, version: int = 0) -> Position:
    async with connect(url) as connection:
        return await append(connection, f"order-{order}", version, Placed(order_id=order, total=total))


async def test_given_a_projection_that_has_come_so_far_when_asked_then_fresh(
    database_url: str, pool: Pool, reader: Reader
) -> None:
    at = await place(database_url, "o1")
    await Projector(order_list(), pool, database_url).catch_up(at)
    answer = await reader.at_least(at, NAMES, 0)
    assert (answer.fresh, answer.position, answer.projection, answer.reason) == (True, at, NAMES[0], None)


async def test_given_a_projection_at_rest_when_asked_then_behind_or_timed_out_but_never_an_error(
    database_url: str, reader: Reader
) -> None:
    at = await place(database_url, "o1")
    looked = await reader.at_least(at, NAMES, 0)
    assert (looked.fresh, looked.position, looked.projection, looked.reason) == (False, START, NAMES[0], "behind")
    waited = await reader.at_least(at, NAMES, 0.05)
    assert (waited.fresh, waited.position, waited.reason) == (False, START, "timed_out")


async def test_given_an_unknown_projection_when_asked_then_invalid_input_names_the_known(reader: Reader) -> None:
    with pytest.raises(InvalidInput, match=r"no projection is named nobody; there are .*readside_orders"):
        await reader.at_least(START, ["readside_orders", "nobody"], 0)
    with pytest.raises(InvalidInput, match="name at least one"):
        await reader.at_least(START, [], 0)


async def test_given_many_who_wait_when_the_projection_comes_then_all_are_fresh_over_one_connection(
    database_url: str, pool: Pool, reader: Reader
) -> None:
    install(database_url, order_list("second_orders"))
    both = [*NAMES, "second_orders"]
    at = await place(database_url, "o1")
    waiting = [asyncio.create_task(reader.at_least(at, both, 30)) for _ in range(50)]

    async def listening() -> bool:
        return await fetch(database_url, LISTENING) == [(1,)]

    await until(listening)
    await Projector(order_list(), pool, database_url).catch_up(at)
    assert not any(task.done() for task in waiting), "one of the two is still behind"
    await Projector(order_list("second_orders"), pool, database_url).catch_up(at)
    assert all(answer.fresh for answer in await asyncio.gather(*waiting))
    assert await listening()


async def test_given_a_broken_connection_when_waiting_then_fresh_all_the_same(
    database_url: str, pool: Pool, reader: Reader
) -> None:
    at = await place(database_url, "o1")
    waiting = asyncio.create_task(reader.at_least(at, NAMES, 30))

    async def killed() -> bool:
        return bool(await fetch(database_url, KILL_LISTENERS))

    await until(killed)
    await Projector(order_list(), pool, database_url).catch_up(at)
    assert (await waiting).fresh


async def test_given_a_write_when_waited_for_then_the_query_shows_it(
    database_url: str, pool: Pool, reader: Reader
) -> None:
    history = order_list()
    orders = history.view("readside_order")
    found = select(orders.c.order_id, orders.c.status, orders.c.total, orders.c.net).order_by(orders.c.order_id)
    async with running(Projector(history, pool, database_url, poll=0.01)):
        assert await reader.query(first(found, OrderRow)) is None
        await place(database_url, "o1", 15)
        at = await place(database_url, "o2", 27)
        assert (await reader.at_least(at, NAMES, 20)).fresh
    one, two = (
        OrderRow(order_id="o1", status="placed", total=15, net=10),
        OrderRow(order_id="o2", status="placed", total=27, net=20),
    )
    assert await reader.query(many(found, OrderRow)) == [one, two]
    assert await reader.query(first(found.where(orders.c.net > 10), OrderRow)) == two


AT, LATER = Position(100, 7), Position(200, 9)


@pytest.mark.parametrize(
    ("stands", "reason"),
    [
        (Stands("p", AT, lag=12), "timed_out"),
        (Stands("p", AT, "rebuilding", lag=12), "rebuilding"),
        (Stands("p", AT, "stopped", lag=12), "stopped"),  # nobody runs it: a worker may be starting
    ],
)
async def test_given_a_projection_that_may_yet_come_when_waited_for_then_the_time_is_waited_and_the_reason_told(
    database_url: str, reader: Reader, stands: Stands, reason: str
) -> None:
    await standing(database_url, stands)
    begun = time.monotonic()
    answer = await reader.at_least(LATER, "p", 0.3)
    assert time.monotonic() - begun >= 0.3
    assert (answer.fresh, answer.reason, answer.position, answer.events) == (False, reason, AT, 12)
    assert "with 12 events to read" in str(answer)


@pytest.mark.parametrize(
    ("stands", "reason", "problem"),
    [
        (Stands("p", AT, "paused", problem="paused by ann: stocktaking"), "paused", "paused by ann: stocktaking"),
        (Stands("p", AT, "stopped", error="column sku does not exist"), "stopped", "column sku does not exist"),
    ],
)
async def test_given_a_projection_that_takes_a_person_when_waited_for_then_the_answer_comes_at_once_and_says_why(
    database_url: str, reader: Reader, stands: Stands, reason: str, problem: str
) -> None:
    await standing(database_url, stands)
    async with asyncio.timeout(20):
        answer = await reader.at_least(LATER, "p", 1000)
    assert (answer.fresh, answer.reason, answer.problem) == (False, reason, problem)
    assert (await reader.at_least(AT, "p", 0)).fresh, "it shows what it has come to, moving or not"


async def test_given_one_who_waits_when_the_projection_is_paused_then_the_waiting_ends(
    database_url: str, reader: Reader
) -> None:
    await standing(database_url, Stands("p", AT))
    waiting = asyncio.create_task(reader.at_least(LATER, "p", 1000))

    async def listening() -> bool:
        return await fetch(database_url, LISTENING) == [(1,)]

    await until(listening)
    await standing(database_url, Stands("p", AT, "paused"))
    async with asyncio.timeout(20):
        assert (await waiting).reason == "paused"


async def test_given_dead_letters_when_asked_for_a_key_then_that_key_is_stale_and_other_keys_are_fresh(
    database_url: str, reader: Reader
) -> None:
    parked = [Parked("p", "4711"), Parked("p", "4712", "retrying"), Parked("p", "4713", "skipped"), Parked("q", "4714")]
    await standing(database_url, Stands("p", LATER), Stands("q", AT), *parked)
    async with asyncio.timeout(20):
        stuck = await reader.at_least(AT, "p", 1000, "4711")
    assert (stuck.fresh, stuck.reason, stuck.projection, stuck.position) == (False, "parked", "p", LATER)
    reasons = {key: (await reader.at_least(AT, "p", 0, key)).reason for key in ("4712", "4713", "4714", "4715")}
    assert reasons == {"4712": "parked", "4713": None, "4714": None, "4715": None}
    assert (await reader.at_least(AT, ["p", "q"], 0, "4714")).projection == "q"
    assert (await reader.at_least(AT, "p", 0)).fresh, "without a key, nobody's events in particular are waited for"


async def test_given_the_very_event_is_parked_when_asked_without_a_key_then_stale(
    database_url: str, reader: Reader
) -> None:
    letters = [Parked("p", "4711", at=AT), Parked("q", "4711", "skipped", at=AT)]
    await standing(database_url, Stands("p", LATER, parked=1), Stands("q", LATER, parked=1), *letters)
    for _ in range(2):  # asked, and answered from what is known
        async with asyncio.timeout(20):
            stuck = await reader.at_least(AT, "p", 1000)
        assert (stuck.fresh, stuck.reason, stuck.projection) == (False, "parked", "p")
    assert (await reader.at_least(AT, "q", 0)).fresh
    assert (await reader.at_least(LATER, "p", 0)).fresh, "another event is parked"


async def test_given_a_build_beside_when_asked_then_what_the_views_show_counts(
    database_url: str, reader: Reader
) -> None:
    shown, beside = Stands("p", AT), Stands("p", LATER, "rebuilding", generation=2, served=False)
    letters = [Parked("p", "4711", generation=2)]
    await standing(database_url, shown, beside, *letters)
    assert (await reader.at_least(LATER, "p", 0)).reason == "behind"
    assert (await reader.at_least(AT, "p", 0, "4711")).fresh, "parked in the build that nobody sees"
    await standing(database_url, Stands("p", AT, "stopped", error="gone"), beside)
    assert (await reader.at_least(LATER, "p", 0.05)).reason == "rebuilding", "it goes on by the build beside"


async def test_given_a_note_about_a_build_beside_when_waiting_then_not_taken_for_what_the_views_show(
    database_url: str, reader: Reader
) -> None:
    await standing(database_url, Stands("p", AT), Stands("p", LATER, "rebuilding", generation=2, served=False))
    waiting = asyncio.create_task(reader.at_least(LATER, "p", 0.6))

    async def noted() -> bool:
        await fetch(database_url, "select pg_notify('amends_checkpoints', 'p:200:9')")
        return waiting.done()

    await until(noted)
    assert not (await waiting).fresh


# What notes tell


async def listens(url: str, reader: Reader, names: list[str]) -> None:
    """Have a reader know where a projection stands, and hear what becomes of it."""
    assert not (await reader.at_least(Position(10**12, 1), names, 0.1)).fresh

    async def so() -> bool:
        return await fetch(url, LISTENING) == [(1,)]

    await until(so)
    at = await place(url, "first")
    assert (await reader.at_least(at, names, 60)).fresh


async def test_given_a_reader_that_listens_when_waited_for_many_writes_then_notes_tell_and_the_database_is_not_asked(
    database_url: str, pool: Pool, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, read = [], Standings.read

    async def counting(self: Standings) -> dict[str, Standing]:
        asked.append(1)
        return await read(self)

    monkeypatch.setattr(Standings, "read", counting)
    async with running(Projector(order_list(), pool, database_url, poll=0.01)):
        await listens(database_url, reader, NAMES)
        for each in ("POLL", "LOOK"):  # a machine that is busy takes longer for these writes
            monkeypatch.setattr(f"amends.checkpoints.{each}", 1000)
        await asyncio.wait_for(reader.at_least(await place(database_url, "second"), NAMES, 60), 60)
        before = len(asked)
        for number in range(20):
            at = await place(database_url, f"o{number}")
            assert (await reader.at_least(at, NAMES, 60)).position == at
    assert len(asked) == before


async def test_given_a_reader_that_listens_when_the_event_waited_for_is_parked_then_told(
    database_url: str, pool: Pool, reader: Reader
) -> None:
    async with running(Projector(order_list(), pool, database_url, poll=0.01)):
        await listens(database_url, reader, NAMES)
        at = await place(database_url, "o1", total=10**19)
        async with asyncio.timeout(20):
            answer = await reader.at_least(at, NAMES, 1000)
    assert (answer.fresh, answer.reason) == (False, "parked")


async def test_given_notes_of_another_projection_without_a_pause_when_the_one_waited_for_is_paused_then_told(
    database_url: str, reader: Reader
) -> None:
    await standing(database_url, Stands("p", AT), Stands("q", AT))
    waiting = asyncio.create_task(reader.at_least(LATER, "p", 1000))

    async def listening() -> bool:
        return await fetch(database_url, LISTENING) == [(1,)]

    await until(listening)
    await standing(database_url, Stands("p", AT, "paused"), Stands("q", AT))

    async def told() -> bool:
        await fetch(database_url, "select pg_notify('amends_checkpoints', 'q:100:8:clear')")
        return waiting.done()

    await until(told)
    assert (await waiting).reason == "paused"


async def hears(url: str, reader: Reader, *notes: str) -> None:
    """Have a reader hear notes."""
    heard: list[str | None] = []
    reader._checkpoints.observe(heard.append)
    for note in notes:
        await fetch(url, "select pg_notify('amends_checkpoints', %s)", note)

    async def so() -> bool:
        return len(heard) >= len(notes)

    await until(so)


async def knows(url: str, reader: Reader, *stands: Stands | Parked) -> None:
    """Have a reader know where projections stand, and hear nothing from the clock any more."""
    await standing(url, *stands)
    assert not (await reader.at_least(Position(10**12, 1), "p", 0.1)).fresh

    async def listening() -> bool:
        return reader._checkpoints.listening

    await until(listening)


@pytest.mark.parametrize(("note", "fresh"), [("p:200:9:clear:1.1", True), ("p:200:9:clear:1.2", False)])
async def test_given_a_note_of_another_build_that_nothing_is_parked_when_waited_for_then_not_believed(
    database_url: str, reader: Reader, monkeypatch: pytest.MonkeyPatch, note: str, fresh: bool
) -> None:
    """A build that is shown no longer may send its last word late."""
    monkeypatch.setattr("amends.checkpoints.LOOK", 1000)
    await knows(database_url, reader, Stands("p", AT))
    await hears(database_url, reader, note)
    assert (await reader.at_least(LATER, "p", 0.05)).fresh is fresh


async def test_given_a_note_that_does_not_say_what_is_parked_when_it_came_before_the_question_then_asked_at_once(
    database_url: str, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await knows(database_url, reader, Stands("p", AT))
    monkeypatch.setattr("amends.checkpoints.POLL", 1000)
    await standing(database_url, Stands("p", LATER))
    await hears(database_url, reader, "p:200:9")
    async with asyncio.timeout(20):
        assert (await reader.at_least(LATER, "p", 1000)).fresh


async def test_given_one_who_waits_when_the_projection_is_dropped_then_told_and_others_go_on(
    database_url: str, reader: Reader
) -> None:
    await knows(database_url, reader, Stands("p", AT), Stands("q", AT))
    gone, stays = (asyncio.create_task(reader.at_least(LATER, name, 1000)) for name in ("p", "q"))
    await standing(database_url, Stands("q", LATER))
    async with asyncio.timeout(20):
        with pytest.raises(InvalidInput, match="there is no p any more"):
            await gone
        assert (await stays).fresh


def kept() -> Sources:
    composed = SimpleNamespace(
        name="composed_view", sql="select * from views.readside_order join views.other using (x)"
    )
    return Sources([order_list()], [composed])


async def test_given_views_when_asked_by_name_then_the_projections_that_keep_them_count(database_url: str) -> None:
    await standing(database_url, Stands("readside_orders", AT), Stands("p", LATER), Stands("readside_order", LATER))
    async with Reader(database_url, 2, kept()) as reader:
        assert (await reader.at_least(LATER, "readside_order", 0)).projection == "readside_orders"
        assert (await reader.at_least(LATER, ["p", "readside_order"], 0)).projection == "readside_orders"
        assert (await reader.at_least(LATER, ["p"], 0)).fresh
        everything = await reader.at_least(LATER, (), 0)
        assert (everything.fresh, everything.projection) == (False, "readside_orders"), "all that the application keeps"
        with pytest.raises(InvalidInput, match="no projection is named composed_view"):
            await reader.at_least(AT, "composed_view", 0)  # one of the views below it is nobody's


def test_a_statement_tells_which_views_it_reads_wherever_they_stand() -> None:
    one, two = order_list().view("readside_order"), Table("b", MetaData(), Column("x", Text), schema="views")
    nested = select(one.c.order_id).where(exists(select(two.c.x).where(two.c.x == one.c.order_id)))
    assert views_in(nested) == {"readside_order", "b"}
    assert views_in(select(nested.cte("n"))) == {"readside_order", "b"}
    assert views_in(select(one.alias("a").c.total, select(two.c.x).scalar_subquery())) == {"readside_order", "b"}
    assert views_in(select(one.c.order_id).union_all(select(two.c.x))) == {"readside_order", "b"}
    assert views_in(text('select 1 from views.a, "views"."b" join VIEWS.C on true').columns()) == {"a", "b", "c"}
    assert views_in(select(one).where(text("exists (select from views.k)"))) == {"readside_order", "k"}
    assert views_in(select(func.views.search("x"))) == {"search"}
    assert views_in(select(func.count())) == set()
    assert kept().of(views_in(nested)) is None
    assert kept().of({"readside_order"}) == frozenset({"readside_orders"})
