"""A shop with a long log: its customers and orders, and what people ask its views."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import psycopg

from amends.database import open_pool
from amends.feed import Feed
from amends.projector import Projector
from amends.query import Query
from amends.reader import Reader
from amends.schema import owner_engine
from amends.sources import Sources
from bench.projection import DAYS, SKUS, UNIT_PRICE, orders
from bench.projection_sql import FILL
from read_models.contents import PROJECTIONS, VIEWS
from read_models.customer_orders import orders_of_customer
from read_models.customer_profile import search_page
from read_models.customers import customers
from read_models.order_history import history, order_page

__all__ = ["Reads", "fill"]

ORDERS_OF_A_CUSTOMER = 50
"""As the log has it."""

ASKED = 40
"""Times that each question is asked in a round, of one customer after the other."""

JOIN = """
insert into amends.events (stream, version, name, schema_version, data, correlation_id, causation_id, command_id, actor,
                           recorded_at)
select 'customer-c' || n, 1, 'customer.registered', 2,
       jsonb_build_object('customer_id', 'c' || n, 'name', 'Given' || n %% 200 || ' Family' || n,
                          'email', 'c' || n || '@example.org', 'member_since', null),
       'c' || n, 'c' || n, 'join-' || n, 'bench', timestamptz '2025-12-31 12:00+00'
from generate_series(1, %(customers)s) as n
"""
"""The customers whose orders are in the log."""


def fill(url: str, count: int) -> int:
    """Fill the log with orders and their customers, and build what is asked.

    Args:
        url: of a database with the shop's schema.
        count: how many orders.

    Returns:
        how many customers.
    """
    joined = -(-count // ORDERS_OF_A_CUSTOMER)
    with owner_engine(url).begin() as connection:
        orders.install(connection)
    with psycopg.connect(url) as filling:
        filling.execute(JOIN, {"customers": joined})
        filling.execute(FILL, {"orders": count, "skus": SKUS, "days": DAYS, "price": UNIT_PRICE})
    asyncio.run(_build(url))
    with psycopg.connect(url, autocommit=True) as settling:
        settling.execute("vacuum analyze")
    return joined


async def _build(url: str) -> None:
    async with open_pool(url, "projector", 2) as pool:
        for projection in (customers, history):
            await Projector(projection, pool, url).catch_up(await Feed(pool).head())


class Reads:
    """The questions, as a client asks them.

    Args:
        url: of the database.
        customers: how many there are.
    """

    def __init__(self, url: str, customers: int) -> None:
        self._reader = Reader(url, 2, Sources(PROJECTIONS, VIEWS))
        self._customers = customers

    async def take(self) -> dict[str, float]:
        """Milliseconds that a search for a customer, a page of orders and a page of somebody's orders take."""
        return {
            "search": await self._timed(lambda n: search_page(f"given{n % 200} family{n}")),
            "order page": await self._timed(lambda _: order_page()),
            "customer page": await self._timed(lambda n: orders_of_customer(f"c{n}")),
        }

    async def _timed(self, question: Callable[[int], Query[Any]]) -> float:
        took = []
        for number in range(ASKED):
            somebody = 1 + number * self._customers // ASKED
            begun = perf_counter()
            page = await self._reader.query(question(somebody))
            took.append(1000 * (perf_counter() - begun))
            assert page.items, f"nothing is found of customer {somebody}"
        return median(took)

    async def close(self) -> None:
        """Close the connections."""
        await self._reader.close()
