"""The shop's database after a past that a test makes up: events that were recorded when it says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import psycopg

from amends import Event, Money
from amends.batch import fold
from amends.query import Query
from amends.reader import Reader
from amends.testing.logged import logged
from app import app
from domain.customer import CustomerRegistered
from domain.order import GoodsReturned, OrderCancelled, OrderCompleted, OrderPlaced, ReturnCompleted, ReturnWithdrawn
from domain.payment import PaymentProcessed, PaymentRefunded, PaymentRequested
from domain.product import ProductAdded
from domain.values import PricedLine, total_of

T = TypeVar("T")

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def eur(cents: int) -> Money:
    return Money(amount=cents, currency="EUR")


def usd(cents: int) -> Money:
    return Money(amount=cents, currency="USD")


def line(sku: str, quantity: int, price: Money) -> PricedLine:
    return PricedLine(sku=sku, quantity=quantity, unit_price=price)


def added(sku: str, name: str, price: Money) -> ProductAdded:
    return ProductAdded(sku=sku, name=name, price=price)


def registered(customer_id: str, name: str = "Ada Lovelace", email: str = "ada@example.org") -> CustomerRegistered:
    return CustomerRegistered(customer_id=customer_id, name=name, email=email)


def placed(order_id: str, *lines: PricedLine, customer: str = "ada") -> OrderPlaced:
    return OrderPlaced(order_id=order_id, customer_id=customer, lines=lines, total=total_of(lines))


def asked(order_id: str, amount: Money, method: str = "card", customer: str = "ada") -> PaymentRequested:
    return PaymentRequested(payment_id=order_id, order_id=order_id, customer_id=customer, amount=amount, method=method)


def paid(order_id: str, amount: Money) -> PaymentProcessed:
    return PaymentProcessed(payment_id=order_id, order_id=order_id, amount=amount, provider_ref=f"ch_{order_id}")


def given_back(order_id: str, amount: Money) -> PaymentRefunded:
    return PaymentRefunded(payment_id=order_id, order_id=order_id, amount=amount)


def completed(order_id: str) -> OrderCompleted:
    return OrderCompleted(order_id=order_id)


def cancelled(order_id: str, reason: str = "OutOfStock") -> OrderCancelled:
    return OrderCancelled(order_id=order_id, reason=reason)


def returned(order_id: str, return_id: str, *lines: PricedLine) -> GoodsReturned:
    return GoodsReturned(order_id=order_id, return_id=return_id, lines=lines, amount=total_of(lines))


def withdrawn(order_id: str, return_id: str) -> ReturnWithdrawn:
    return ReturnWithdrawn(order_id=order_id, return_id=return_id, reason="kept after all")


def return_completed(order_id: str, return_id: str, amount: Money, *, everything: bool = False) -> ReturnCompleted:
    return ReturnCompleted(order_id=order_id, return_id=return_id, amount=amount, everything=everything)


def sold(order_id: str, *lines: PricedLine, customer: str = "ada") -> list[Event]:
    """An order that goes well, from the customer's click to its end."""
    order = placed(order_id, *lines, customer=customer)
    money = [asked(order_id, order.total, customer=customer), paid(order_id, order.total)]
    return [order, *money, completed(order_id)]


@dataclass
class Past:
    """What has happened in a shop, as all of its read models tell it.

    Args:
        url: the shop's database.
        reader: answers queries.
    """

    url: str
    reader: Reader
    seen: int = field(default=0)

    def happened(self, at: datetime, *events: Event | Sequence[Event], apart: timedelta = timedelta(seconds=1)) -> None:
        """Events, one after another, are seen by all projections."""
        flat = [each for event in events for each in ([event] if isinstance(event, Event) else event)]
        rows = [
            logged(event, self.seen + number, {"recorded_at": at + (number - 1) * apart})
            for number, event in enumerate(flat, 1)
        ]
        self.seen += len(flat)
        with psycopg.connect(self.url) as connection:
            for projection in app.projections:
                for table, payload in fold(projection, rows).rows.statements():
                    connection.execute(table.generation(1).merge, (payload.decode(),))

    async def ask(self, query: Query[T]) -> T:
        return await self.reader.query(query)

    async def sql(self, query: str) -> list[tuple[Any, ...]]:
        """Ask as somebody with psql."""
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            return await (await connection.execute(query.encode())).fetchall()
