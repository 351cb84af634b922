"""Figures of a month cost what the month holds, however long the shop has been selling: an index finds its days."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import psycopg
import pytest

from amends.query import Query
from read_models.daily_revenue import revenue_by_day
from read_models.sales import orders, refunds, returns, sales
from read_models.sales_by_product import best_sellers, sales_of_products
from tests.read_models.past import Past
from tests.read_models.test_pages import explained, nodes

SOLD, A_DAY = 30_000, 40

TABLES = {
    name: f"read_models.{sales.tables[table].generation(1).name}"
    for name, table in {"orders": orders, "refunds": refunds, "returns": returns}.items()
}

LINES = """'[{"sku": "TEA", "units": 1, "amount": 450}]'"""

FILL = f"""
insert into {TABLES["orders"]} (order_id, currency, total, sold_on, lines)
select 'o' || n, 'EUR', 450, date '2024-01-01' + n / {A_DAY}, {LINES} from generate_series(1, {SOLD}) n;
insert into {TABLES["refunds"]} (position, order_id, currency, amount, refunded_on)
select n, 'o' || n, 'EUR', 10, date '2024-01-01' + n / {A_DAY} from generate_series(20, {SOLD}, 20) n;
insert into {TABLES["returns"]} (order_id, return_id, currency, returned_on, lines)
select 'o' || n, 'r', 'EUR', date '2024-01-01' + n / {A_DAY}, {LINES} from generate_series(20, {SOLD}, 20) n;
analyze {TABLES["orders"]}, {TABLES["refunds"]}, {TABLES["returns"]};
"""

MONTH = {"first": date(2025, 3, 1), "last": date(2025, 3, 31)}

ASKED: dict[str, Callable[..., Query[Any]]] = {
    "revenue": revenue_by_day,
    "sales": sales_of_products,
    "sales of a product": lambda **days: sales_of_products(sku="TEA", **days),
    "best sellers": lambda **days: best_sellers("EUR", **days),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED.keys())
async def test_given_years_of_sales_when_a_month_is_asked_for_then_an_index_finds_it_and_nothing_else_is_read(
    past: Past, ask: Callable[..., Query[Any]]
) -> None:
    async with await psycopg.AsyncConnection.connect(past.url, autocommit=True) as connection:
        await connection.execute(FILL.encode())
    plan = await explained(past, ask(**MONTH))
    read = [node for node in nodes(plan) if node["Node Type"].endswith("Scan") and "Relation Name" in node]
    assert {node["Relation Name"].partition("_v")[0] for node in read} >= {"sales"}
    assert "Seq Scan" not in {node["Node Type"] for node in nodes(plan)}
    for node in read:
        assert node["Actual Rows"] * node["Actual Loops"] <= 31 * A_DAY
