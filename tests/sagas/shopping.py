"""A shop under test: filled shelves, a registered customer, and books that have to agree in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from activities.sandbox_gateway import SandboxGateway
from amends import Money
from amends.database import open_pool
from client import PlacedOrder, Shop
from domain.customer import RegisterCustomer
from domain.product import AddProduct
from domain.stock import ReceiveStock
from domain.values import Line
from read_models import inventory_levels, order_history
from tests.sagas.given import Handle, rows
from workflows.payment import PaymentMethod

CURRENCY = "EUR"
ON_THE_SHELF = 10

CHARGED = "select count(*)::int from gateway.charges where payment_id = %s"
ASKED = "select count(*)::int from gateway.requests where key = %s"
DUE = "select count(*)::int from gateway.charges where payment_id = %s and settles_at <= clock_timestamp()"
STORED = """
select (select count(*) from amends.commands)::int, (select count(*) from amends.events)::int,
       (select count(*) from gateway.requests)::int
"""


def new_database(postgres_url: str, template: str) -> str:
    """A copy of the shop's empty database."""
    database = f"test_{uuid4().hex}"
    copy = sql.SQL("create database {} template {}").format(sql.Identifier(database), sql.Identifier(template))
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(copy)
    return make_conninfo(postgres_url, dbname=database)


def name(kind: str) -> str:
    return f"{kind}-{uuid4().hex[:12]}"


def card(token: str = "tok_ok", mode: Literal["charge", "authorise"] = "charge") -> PaymentMethod:
    return PaymentMethod(kind="card", token=token, mode=mode)


def transfer(token: str = "tok_transfer") -> PaymentMethod:
    return PaymentMethod(kind="transfer", token=token)


@dataclass
class Market:
    """The shop, and what a test looks at besides."""

    shop: Shop
    url: str

    async def customer(self) -> str:
        customer_id = name("customer")
        await self.shop.execute(
            RegisterCustomer(customer_id=customer_id, name="Ada", email=f"{customer_id}@example.org")
        )
        return customer_id

    async def product(self, price: int = 250, currency: str = CURRENCY, stock: int = ON_THE_SHELF) -> str:
        sku = name("sku")
        await self.shop.execute(AddProduct(sku=sku, name=sku, price=Money(amount=price, currency=currency)))
        if stock:
            await self.shop.execute(ReceiveStock(sku=sku, quantity=stock))
        return sku

    async def lines(self, *quantities: int) -> list[Line]:
        """Lines of new products, each with ten on the shelf."""
        return [Line(sku=await self.product(), quantity=quantity) for quantity in quantities]

    async def place(
        self, payment: PaymentMethod, lines: Sequence[Line] | None = None, order_id: str | None = None
    ) -> PlacedOrder:
        """Order two pieces of one thing and three of another, or what is said."""
        lines = await self.lines(2, 3) if lines is None else lines
        return await self.shop.place_order(await self.customer(), lines, payment, request_id=order_id)

    def saga(self, order_id: str) -> Handle:
        return self.shop.client.temporal.get_workflow_handle(f"order-{order_id}")

    async def charging(self, order_id: str) -> bool:
        """Whether the provider has been asked for money."""
        [(asked,)] = await rows(self.url, ASKED, f"order-{order_id}/payment/payment.charge")
        return bool(asked)

    async def due(self, order_id: str) -> bool:
        """Whether a transfer has settled at the provider."""
        [(due,)] = await rows(self.url, DUE, order_id)
        return bool(due)

    async def charges(self, order_id: str) -> int:
        [(charges,)] = await rows(self.url, CHARGED, order_id)
        return int(charges)

    async def stored(self) -> tuple[int, ...]:
        """How much there is of everything."""
        [counts] = await rows(self.url, STORED)
        return counts

    async def timeline(self, order_id: str) -> list[str]:
        return [row.event for row in await self.shop.query(order_history.timeline_of(order_id))]

    async def balances(self) -> None:
        """Assert that the provider's books, the read models and the shelves agree; nothing may be under way."""
        head = await self.shop.client.reader.head()
        freshness = await self.shop.at_least(head, 15)
        assert freshness.fresh, freshness
        async with open_pool(self.url, "writer", 1) as pool:
            totals = {each.currency: each for each in await self.shop.query(order_history.money())}
            for currency in totals.keys() | {CURRENCY}:
                taken, refunded = await SandboxGateway(pool).totals(currency)
                row = totals.get(currency)
                seen = (row.taken, row.refunded, row.completed - row.returned) if row else (0, 0, 0)
                assert (taken.amount, refunded.amount) == seen[:2]
                assert taken.amount - refunded.amount == seen[2]
        for level in await self.shop.query(inventory_levels.levels()):
            assert level.received == level.on_hand + level.committed, level
            assert level.reserved == 0, level
            assert level.available == level.on_hand >= 0, level
