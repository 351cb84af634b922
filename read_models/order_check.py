"""What an order is checked against before its saga starts: who is a customer, and what is sold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from amends.money import MAX_AMOUNT
from amends.query import Query
from domain.values import Line
from read_models.customers import customer, customers
from read_models.product_catalog import ProductRow, catalog, products

__all__ = ["READ_MODELS", "problems_of_order"]

READ_MODELS = (customers.name, catalog.name)
"""The projections that are asked."""


async def problems_of_order(
    ask: Callable[[Query[Any]], Awaitable[Any]], customer_id: str, lines: Sequence[Line]
) -> dict[str, str]:
    """What keeps an order from being placed, as field → complaint; nothing when it can be.

    Args:
        ask: answers queries.
        customer_id: who orders.
        lines: what.
    """
    problems = {}
    if await ask(customer(customer_id)) is None:
        problems["customer_id"] = f"{customer_id} is not registered"
    found: list[ProductRow] = await ask(products([line.sku for line in lines]))
    known = {product.sku: product for product in found}
    for number, line in enumerate(lines):
        if line.sku not in known:
            problems[f"lines.{number}.sku"] = f"there is no product {line.sku}"
        elif known[line.sku].discontinued:
            problems[f"lines.{number}.sku"] = f"{line.sku} is no longer sold"
    total = sum(line.quantity * known[line.sku].price for line in lines if line.sku in known)
    if total > MAX_AMOUNT:
        problems["lines"] = f"an order is at most {MAX_AMOUNT} minor units, not {total}"
    currencies = sorted({product.currency for product in found})
    if len(currencies) > 1:
        problems["lines"] = f"an order is in one currency, not in {' and '.join(currencies)}"
    return problems
