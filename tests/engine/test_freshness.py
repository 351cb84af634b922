import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select

from amends.database import Pool, open_pool
from amends.errors import InvalidInput
from amends.projector import Projector
from amends.query import first, many
from amends.reader import Reader
from amends.records import START, Position
from tests.engine.readside_shop import OrderRow, Placed, append, connect, fetch, install, order_list, running, until

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
