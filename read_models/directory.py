"""What can be ordered and who can order: what an order is checked against before its saga starts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlalchemy import BigInteger, Boolean, Column, DateTime, Text, select

from amends import Recorded
from amends.changes import Rows
from amends.money import MAX_AMOUNT
from amends.projection import Projection
from amends.query import Query, first, many
from domain.customer import CustomerRegistered
from domain.product import PriceChanged, ProductAdded, ProductDiscontinued
from domain.values import Line

__all__ = ["CustomerRow", "ProductRow", "customer", "directory", "problems_of_order", "products"]

directory = Projection("directory", version=1)

catalogue = directory.table(
    "product_catalog",
    Column("sku", Text, primary_key=True, comment="The product."),
    Column("name", Text, comment="What customers read."),
    Column("price", BigInteger, comment="For one piece, in minor units."),
    Column("currency", Text, comment="ISO 4217 currency of the price."),
    Column("discontinued", Boolean, nullable=False, default=False, comment="No longer sold."),
    comment="One row a product: name, price, whether it is sold.",
)

members = directory.table(
    "customers",
    Column("customer_id", Text, primary_key=True, comment="The customer; names and addresses are kept elsewhere."),
    Column("registered_at", DateTime(timezone=True), comment="Customer since."),
    comment="One row a registered customer, without personal data.",
)


@directory.on(ProductAdded)
def added(event: ProductAdded, fact: Recorded, rows: Rows) -> None:
    """A product is on sale."""
    rows(catalogue, event.sku).set(name=event.name, price=event.price.amount, currency=event.price.currency)


@directory.on(PriceChanged)
def repriced(event: PriceChanged, fact: Recorded, rows: Rows) -> None:
    """A product has another price."""
    rows(catalogue, event.sku).set(price=event.price.amount, currency=event.price.currency)


@directory.on(ProductDiscontinued)
def discontinued(event: ProductDiscontinued, fact: Recorded, rows: Rows) -> None:
    """A product is no longer sold."""
    rows(catalogue, event.sku).set(discontinued=True)


@directory.on(CustomerRegistered)
def registered(event: CustomerRegistered, fact: Recorded, rows: Rows) -> None:
    """Somebody has become a customer."""
    rows(members, event.customer_id).set(registered_at=fact.recorded_at)


class ProductRow(BaseModel):
    """A product as `views.product_catalog` shows it; the price in minor units."""

    sku: str
    name: str
    price: int
    currency: str
    discontinued: bool


class CustomerRow(BaseModel):
    """A customer as `views.customers` shows them."""

    customer_id: str
    registered_at: datetime


_catalogue = directory.view("product_catalog")
_members = directory.view("customers")


def products(skus: Sequence[str]) -> Query[list[ProductRow]]:
    """The products with these SKUs, as far as there are any."""
    return many(select(_catalogue).where(_catalogue.c.sku.in_(skus)).order_by(_catalogue.c.sku), ProductRow)


def customer(customer_id: str) -> Query[CustomerRow | None]:
    """One customer."""
    return first(select(_members).where(_members.c.customer_id == customer_id), CustomerRow)


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
