"""A projection is built beside itself and swapped, and whoever reads never notices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from amends.database import Pool, open_pool
from amends.feed import Feed
from amends.projection import Projection
from amends.projector import Projector
from amends.rebuild_request import RebuildRequest
from amends.rebuilding import rebuild
from tests.engine.readside_shop import Placed, append, connect, fetch, install, order_list

ROWS = "select * from views.readside_order order by order_id"
BUILDS = "select version, generation, served, state from views.projection_status where projection = 'readside_orders' order by 1, 2"
TABLES = "select tablename from pg_tables where tablename like 'readside_order_v%' order by 1"
WHO = {"actor": "Grace", "reason": "to see"}


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
