"""Pages of long views: each row once, and the last page comes from an index and costs what the first one costs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy.dialects.postgresql.base import PGDialect

from amends.paging import Page
from amends.query import Query
from amends.reader import Reader
from domain.replenishment import ReplenishmentOpened
from domain.stock import StockReceived, StockReserved
from read_models.customer_orders import orders_of_customer
from read_models.customer_profile import profile_page
from read_models.daily_registrations import daily_registrations
from read_models.inventory_levels import level_page, replenishment_page
from read_models.inventory_movements import inventory_days, inventory_movements
from read_models.inventory_report import report
from read_models.order_history import order_page, timeline_page
from read_models.payments_ledger import ledger_page
from read_models.product_catalog import product_page
from tests.read_models.past import NOON, Past, added, asked, eur, given_back, line, paid, registered, sold
from tests.sagas.shopping import new_database

MANY = 2500

DAY = timedelta(days=1)
BEGAN = NOON.replace(year=2000)

Ask = Callable[..., Query[Page[Any]]]

PAGES: dict[str, Ask] = {
    "orders": order_page,
    "orders of a customer": partial(order_page, customer_id="ada"),
    "orders in a state": partial(order_page, status="completed"),
    "orders of a time": partial(order_page, since=NOON, until=NOON.replace(month=6)),
    "timeline": partial(timeline_page, "hot"),
    "customer_orders": partial(orders_of_customer, "ada"),
    "levels": level_page,
    "replenishments": replenishment_page,
    "replenishments of a product": partial(replenishment_page, sku="HOT"),
    "movements": inventory_movements,
    "movements of a product": partial(inventory_movements, sku="HOT"),
    "movements of a reservation": partial(inventory_movements, reservation_id="hot"),
    "days of a product": partial(inventory_days, "HOT"),
    "report": report,
    "catalogue": product_page,
    "profiles": profile_page,
    "registrations": daily_registrations,
    "ledger": ledger_page,
    "ledger of an order": partial(ledger_page, order_id="paid"),
    "ledger of a payment": partial(ledger_page, payment_id="paid"),
}


@pytest.fixture(scope="module")
async def long_past(postgres_url: str, template: str) -> AsyncIterator[Past]:
    """Much has happened, of everything."""
    url = new_database(postgres_url, template)
    async with Reader(url, 2) as reader:
        past = Past(url, reader)
        tea, numbers = line("TEA", 1, eur(450)), range(MANY)
        past.happened(NOON, [event for n in numbers for event in sold(f"o{n}", tea)])
        past.happened(NOON, [event for n in range(100) for event in sold(f"x{n}", tea, customer=f"c{n}")])
        past.happened(BEGAN, [registered(f"c{n}") for n in numbers], apart=DAY)
        past.happened(NOON, [added(f"p{n}", f"Product {n}", eur(1)) for n in numbers])
        past.happened(NOON, [StockReceived(sku=f"p{n}", quantity=9) for n in numbers])
        hot = [StockReserved(sku="HOT", reservation_id="hot", quantity=1) for _ in numbers]
        past.happened(BEGAN, hot, apart=DAY)
        past.happened(NOON, [ReplenishmentOpened(replenishment_id=f"r{n}", sku="HOT", quantity=1) for n in numbers])
        past.happened(NOON, asked("paid", eur(MANY)), paid("paid", eur(MANY)))
        past.happened(NOON, [given_back("paid", eur(1)) for _ in numbers])
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute("vacuum analyze")  # as autovacuum does by and by
        yield past


@pytest.mark.parametrize("ask", PAGES.values(), ids=PAGES.keys())
async def test_given_a_long_view_when_its_last_page_is_read_then_an_index_begins_there_and_it_costs_what_the_first_does(
    long_past: Past, ask: Ask
) -> None:
    # when: all of it is walked
    rows, cursors = 0, []
    page = await long_past.ask(ask(limit=500))
    while page.next is not None:
        rows += len(page.items)
        cursors.append(page.next)
        page = await long_past.ask(ask(limit=500, after=page.next))
    rows += len(page.items)
    # then
    assert rows >= MANY
    first, last = [await explained(long_past, ask(limit=10, after=after)) for after in (None, cursors[-1])]
    assert read(last) <= 1.5 * read(first) + 20
    for plan in (first, last):
        assert not [node["Node Type"] for node in nodes(plan) if "Sort" in node["Node Type"]]
        assert not [node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"]
        assert max(node["Actual Rows"] for node in nodes(plan)) <= 30


async def explained(past: Past, query: Query[Any]) -> dict[str, Any]:
    dialect = PGDialect()  # type: ignore[no-untyped-call]
    compiled = query.statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    [(told,)] = await past.sql(f"explain (analyze, buffers, format json) {compiled}")
    plan: dict[str, Any] = told[0]["Plan"]
    return plan


def read(plan: dict[str, Any]) -> int:
    """Blocks that were looked at."""
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]
