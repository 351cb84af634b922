"""What was sold and what came back, order by order: what revenue by day and sales by product are added up from.

An order's price is told when it is placed, and whether it counts when it is completed; so both are kept here by order,
and the sums are views.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, Date, Index, Text
from sqlalchemy.dialects.postgresql import JSONB

from amends import Recorded
from amends.changes import Rows
from amends.projection import Projection
from domain.order import GoodsReturned, OrderCompleted, OrderImported, OrderPlaced, ReturnCompleted
from domain.payment import PaymentRefunded
from domain.values import PricedLine
from read_models.days import MADE_WITH, day_of

__all__ = ["sales"]

IMPORTED = "imported"
"""Names the return of an order of which another system says that all of it came back."""

sales = Projection("sales", version=1, made_with=MADE_WITH)

orders = sales.table(
    "sales",
    Column("order_id", Text, primary_key=True, comment="The order."),
    Column("currency", Text, comment="ISO 4217 currency of the order."),
    Column("total", BigInteger, nullable=False, default=0, comment="Price of all lines, in minor units."),
    Column("sold_on", Date, comment="Day on which it was completed, in the shop's time zone; null until it is."),
    Column(
        "lines", JSONB, comment="What it is about, as JSON: sku, units and amount, in minor units, of each product."
    ),
    Index("sales_by_day", "sold_on", "currency", postgresql_include=["total"]),
    comment="One row an order: what it is worth, and the day on which that became revenue.",
)

refunds = sales.table(
    "sales_refunds",
    Column("position", BigInteger, primary_key=True, comment="Number of the refund's event in the log."),
    Column("order_id", Text, nullable=False, comment="The order."),
    Column("currency", Text, nullable=False, comment="ISO 4217 currency of the amount."),
    Column("amount", BigInteger, nullable=False, default=0, comment="Money given back, in minor units."),
    Column("refunded_on", Date, comment="Day on which it went back, in the shop's time zone."),
    Index("sales_refunds_by_day", "refunded_on", "currency"),
    comment="One row a refund; those of orders that were not completed never were revenue.",
)

returns = sales.table(
    "sales_returns",
    Column("order_id", Text, primary_key=True, comment="The order."),
    Column("return_id", Text, primary_key=True, comment="The return."),
    Column("currency", Text, comment="ISO 4217 currency of the order."),
    Column("returned_on", Date, comment="Day on which it was completed, in the shop's time zone; null until it is."),
    Column("lines", JSONB, comment="What came back, as JSON: sku, units and amount, in minor units, of each product."),
    Index("sales_returns_by_day", "returned_on"),
    comment="One row a return of goods, open and withdrawn ones among them: those have no day.",
)


@sales.on(OrderPlaced, key="order_id")
def placed(event: OrderPlaced, fact: Recorded, rows: Rows) -> None:
    """It is known what will be sold, if all goes well."""
    total, lines = event.total, _lines(event.lines)
    rows(orders, event.order_id).set(currency=total.currency, total=total.amount, lines=lines)


@sales.on(OrderCompleted, key="order_id")
def completed(event: OrderCompleted, fact: Recorded, rows: Rows) -> None:
    """It is sold, however long ago it was placed."""
    rows(orders, event.order_id).set(sold_on=day_of(fact.recorded_at))


@sales.on(PaymentRefunded, key="order_id")
def refunded(event: PaymentRefunded, fact: Recorded, rows: Rows) -> None:
    """Money went back."""
    rows(refunds, fact.position.number).set(
        order_id=event.order_id,
        currency=event.amount.currency,
        amount=event.amount.amount,
        refunded_on=day_of(fact.recorded_at),
    )


@sales.on(GoodsReturned, key="order_id")
def returned(event: GoodsReturned, fact: Recorded, rows: Rows) -> None:
    """Goods came back; a return that is withdrawn never gets a day."""
    currency, lines = event.amount.currency, _lines(event.lines)
    rows(returns, event.order_id, event.return_id).set(currency=currency, lines=lines)


@sales.on(ReturnCompleted, key="order_id")
def return_completed(event: ReturnCompleted, fact: Recorded, rows: Rows) -> None:
    """Their money has gone back."""
    rows(returns, event.order_id, event.return_id).set(returned_on=day_of(fact.recorded_at))


@sales.on(OrderImported, key="order_id")
def imported(event: OrderImported, fact: Recorded, rows: Rows) -> None:
    """Another system had sold it, or not; which pieces came back is known only where all of them did."""
    placed, day = event.total, day_of(event.ended_at)
    order = rows(orders, event.order_id).set(currency=placed.currency, total=placed.amount, lines=_lines(event.lines))
    if event.status == "cancelled":
        return
    order.set(sold_on=day)
    if event.refunded.amount:
        given_back = {"currency": event.refunded.currency, "amount": event.refunded.amount}
        rows(refunds, fact.position.number).set(order_id=event.order_id, refunded_on=day, **given_back)
    if event.status == "refunded":
        came_back = {"currency": placed.currency, "lines": _lines(event.lines), "returned_on": day}
        rows(returns, event.order_id, IMPORTED).set(**came_back)


def _lines(lines: Sequence[PricedLine]) -> list[dict[str, Any]]:
    return [
        {"sku": line.sku, "units": line.quantity, "amount": (line.unit_price * line.quantity).amount} for line in lines
    ]
