"""PostgreSQL is away for a while, or more comes than can be done: nobody spins, nobody piles up, all of it goes on."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from amends.errors import Unavailable
from amends.listen import LAST_RETRY, scattered
from amends.saga import Saga
from amends.settings import Settings
from chaos.links import Link
from client import Shop
from domain.values import Line
from read_models import order_history
from tests.cli.typing_in import amends
from tests.conftest import RunWorker
from tests.sagas.given import rows, until
from tests.sagas.shopping import Market, card, name
from tests.sagas.travels import book, travelling

SAGAS = 300
"""Begun at once, for one worker."""

WINDOW = 5.0
"""Seconds in which attempts are counted."""

POOL = 4
"""Connections that the worker's commands may have."""

OPEN = """
select count(*) filter (where application_name = 'amends-writer')::int,
       count(*) filter (where application_name = 'amends-writer' and state = 'active')::int,
       count(*) filter (where application_name = 'amends-projector')::int
from pg_stat_activity where datname = current_database()
"""


class Door(Link):
    """A way to PostgreSQL at which those are counted who knock."""

    knocks = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.knocks += 1
        await super()._serve(reader, writer)


@asynccontextmanager
async def door(settings: Settings) -> AsyncIterator[tuple[Door, Settings]]:
    """A door, and the settings of somebody who goes through it."""
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    door = Door("postgres", int(str(conninfo_to_dict(url)["port"])))
    await door.open()
    through = make_conninfo(url, port=door.port, sslmode="disable", gssencmode="disable")
    try:
        yield door, settings.model_copy(update={"database_url": SecretStr(through)})
    finally:
        await door.close()


def test_pauses_are_scattered_and_never_longer_than_meant() -> None:
    pauses = {scattered(LAST_RETRY) for _ in range(100)}
    assert len(pauses) > 50
    assert LAST_RETRY / 2 <= min(pauses) < max(pauses) <= LAST_RETRY


async def test_given_postgres_away_when_orders_are_under_way_then_few_knock_clients_are_told_and_all_of_it_goes_on(
    settings: Settings, run_worker: RunWorker
) -> None:
    assert settings.database_url is not None
    async with (
        door(settings) as (way, through),
        run_worker(settings=through),
        await Shop.connect(settings) as shop,
        await Shop.connect(through) as cut_off,
    ):
        market = Market(shop, settings.database_url.get_secret_value())
        customer, sku = await market.customer(), await market.product(stock=30)
        client = shop.client.temporal
        # when: it goes away, and orders are placed all the same
        way.refuse()
        before = way.knocks
        ids = [name("order") for _ in range(10)]
        placing = [
            asyncio.create_task(shop.place_order(customer, [Line(sku=sku, quantity=1)], card(), request_id=id))
            for id in ids
        ]
        with pytest.raises(Unavailable, match=r"PostgreSQL at .* does not answer"):
            await cut_off.client.query(order_history.order(ids[0]))

        async def attempts() -> int:
            handle = client.get_workflow_handle(f"projection-order_history@{settings.task_queue}")
            described = await handle.describe()
            return max((each.attempt for each in described.raw_description.pending_activities), default=0)

        begun = time.monotonic()

        async def watched() -> bool:
            return time.monotonic() >= begun + WINDOW and await attempts() >= 3

        await until("it has been away for a while, and has been tried again", watched)
        # then: a handful for each of those that need it, where a loop without pauses knocks by the thousand
        knocks = way.knocks - before
        assert 10 < knocks < 200, knocks
        # and: of a follower, attempts grow by the doubling of its pauses, however slow or quick this machine is
        assert await attempts() <= 3 + math.log2(1 + time.monotonic() - begun)
        # and: once it is back, every order comes to its end
        way.restore()
        placed = await asyncio.gather(*placing)
        assert {(await order.result()).status for order in placed} == {"completed"}
        await market.balances()


async def test_given_temporal_away_when_the_shop_is_asked_then_reads_go_on_and_the_doctor_says_so(
    settings: Settings, run_worker: RunWorker
) -> None:
    assert settings.temporal_address is not None
    way = Link("temporal", int(settings.temporal_address.rpartition(":")[2]))
    await way.open()
    through = settings.model_copy(update={"temporal_address": f"127.0.0.1:{way.port}"})
    async with run_worker(), await Shop.connect(through) as shop:
        market = Market(shop, "")
        order = await market.place(card())
        await order.result()
        # when
        way.refuse()
        # then
        assert (await shop.status(order.order_id)).status == "completed"
        assert (await shop.at_least(order.position, 15)).fresh
        with pytest.raises(Unavailable, match=r"Temporal at .* does not answer"):
            await shop.cancel(order.order_id)
        found = await amends("doctor", "--json", settings=through)
        [temporal] = [each for each in json.loads(found.stdout) if each["what"] == "Temporal"]
        assert (found.exit_code, temporal["health"]) == (1, "wrong")
        assert str(way.port) in temporal["told"]
    await way.close()


async def test_given_hundreds_of_sagas_at_once_when_one_worker_does_them_then_connections_and_memory_stay_bounded(
    settings: Settings, run_worker: RunWorker
) -> None:
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    narrow = settings.model_copy(update={"pool_size": POOL})

    most = (0, 0, 0)
    async with travelling(narrow, run_worker) as trips:
        ended = asyncio.Event()

        async def watch() -> None:
            nonlocal most
            while not ended.is_set():
                [now] = await rows(url, OPEN)
                most = (max(most[0], now[0]), max(most[1], now[1]), max(most[2], now[2]))

        watching = asyncio.create_task(watch())
        # when
        handles = await asyncio.gather(*(trips.start(book("hotel"), book("car")) for _ in range(SAGAS)))
        await asyncio.gather(*(handle.result() for handle in handles))
        ended.set()
        await watching
        del trips.started[10:]  # those that are replayed in the end
        # then: all of it was done, by few at a time, and what has ended is not kept
        done = "select count(*)::int from amends.events where name = 'trip_test.booked'"
        assert await rows(url, done) == [(2 * SAGAS,)]
        assert 0 < most[0] <= POOL, most
        assert most[1] <= POOL, most
        assert most[2] <= 4, most

        async def let_go() -> bool:
            gc.collect()
            return sum(isinstance(each, Saga) for each in gc.get_objects()) < SAGAS / 10

        await until("what has ended is let go of", let_go)
