"""Orders as people ask about them: one row an order, and its timeline."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, Text, func, select
from sqlalchemy.dialects.postgresql import JSONB

from amends import Recorded
from amends.asking import PAGE, Limit, checked
from amends.changes import Rows
from amends.paging import Page, between, paged
from amends.projection import Projection
from amends.query import Query, first, many
from domain.order import (
    GoodsReturned,
    OrderCancelled,
    OrderCompleted,
    OrderImported,
    OrderPlaced,
    ReturnCompleted,
    ReturnWithdrawn,
)
from domain.payment import PaymentAuthorised, PaymentFailed, PaymentProcessed, PaymentRefunded, PaymentRequested
from domain.stock import StockCommitted, StockConfirmed, StockLapsed, StockReleased, StockReserved

__all__ = [
    "MoneyRow",
    "OrderRow",
    "OrderStatus",
    "TimelineRow",
    "history",
    "money",
    "order",
    "order_page",
    "orders_of",
    "timeline_of",
    "timeline_page",
]

OrderStatus = Literal["placed", "completed", "cancelled", "refunded"]

history = Projection("order_history", version=4)

orders = history.table(
    "order_history",
    Column("order_id", Text, primary_key=True, comment="The order."),
    Column("customer_id", Text, comment="Who ordered."),
    Column("status", Text, comment="placed, then completed or cancelled; refunded once all has come back."),
    Column("reason", Text, comment="Why it was cancelled: a refusal's name, or who cancelled it."),
    Column("lines", JSONB, comment="What was ordered, as JSON: sku, quantity and unit price of each line."),
    Column("currency", Text, comment="ISO 4217 currency of all amounts."),
    Column("total", BigInteger, nullable=False, default=0, comment="Price of all lines, in minor units."),
    Column("paid", BigInteger, nullable=False, default=0, comment="Taken from the customer, in minor units."),
    Column("refunded", BigInteger, nullable=False, default=0, comment="Given back, in minor units."),
    Column("returned", BigInteger, nullable=False, default=0, comment="Price of goods that came back, in minor units."),
    Column("open_returns", Integer, nullable=False, default=0, comment="Returns whose money is still to go back."),
    Column("endings", Integer, nullable=False, default=0, comment="How many final states it has had: 0 or 1."),
    Column("placed_at", DateTime(timezone=True), comment="When it was placed."),
    Column("paid_at", DateTime(timezone=True), comment="When the money was taken."),
    Column("ended_at", DateTime(timezone=True), comment="When it was completed or cancelled."),
    Index("order_history_by_time", "placed_at", "order_id"),
    Index("order_history_by_status", "status", "placed_at", "order_id"),
    Index("order_history_by_customer", "customer_id", "placed_at", "order_id"),
    comment="One row an order: where it stands, why, how much, when.",
    computed={"seconds": ("extract(epoch from ended_at - placed_at)::float8", "From placed to ended, in seconds.")},
)

timeline = history.table(
    "order_timeline",
    Column("order_id", Text, primary_key=True, comment="The order."),
    Column("position", BigInteger, primary_key=True, comment="Number of the event in the log."),
    Column("at", DateTime(timezone=True), nullable=False, comment="When it was recorded."),
    Column("event", Text, nullable=False, comment="What happened: the event's name."),
    Column("detail", Text, comment="The fact that matters, in words."),
    Column("actor", Text, nullable=False, comment="On whose behalf."),
    Column(
        "xid", BigInteger, nullable=False, comment="Transaction of the event: things happened by xid, then position."
    ),
    Index("order_timeline_by_feed", "order_id", "xid", "position"),
    comment="One row for each thing that happened to an order.",
)


@history.on(OrderPlaced, key="order_id")
def placed(event: OrderPlaced, fact: Recorded, rows: Rows) -> None:
    """A new order."""
    rows(orders, event.order_id).set(
        customer_id=event.customer_id,
        status="placed",
        lines=[line.model_dump(mode="json") for line in event.lines],
        currency=event.total.currency,
        total=event.total.amount,
        placed_at=fact.recorded_at,
    )
    _note(rows, event.order_id, fact, str(event.total))


@history.on(OrderImported, key="order_id")
def imported(event: OrderImported, fact: Recorded, rows: Rows) -> None:
    """Another system has brought it to its end, at times of its own."""
    back = 0 if event.status == "cancelled" else event.refunded.amount
    rows(orders, event.order_id).set(
        customer_id=event.customer_id,
        status=event.status,
        reason=event.reason,
        lines=[line.model_dump(mode="json") for line in event.lines],
        currency=event.total.currency,
        total=event.total.amount,
        paid=event.paid.amount,
        refunded=event.refunded.amount,
        returned=back,
        placed_at=event.placed_at,
        ended_at=event.ended_at,
    ).add(endings=1)
    _note(rows, event.order_id, fact, f"{event.status}, {event.total}")


@history.on(OrderCompleted, key="order_id")
def completed(event: OrderCompleted, fact: Recorded, rows: Rows) -> None:
    """It ended well."""
    rows(orders, event.order_id).set(status="completed", ended_at=fact.recorded_at).add(endings=1)
    _note(rows, event.order_id, fact, None)


@history.on(OrderCancelled, key="order_id")
def cancelled(event: OrderCancelled, fact: Recorded, rows: Rows) -> None:
    """It was called off."""
    rows(orders, event.order_id).set(status="cancelled", reason=event.reason, ended_at=fact.recorded_at).add(endings=1)
    _note(rows, event.order_id, fact, event.reason)


@history.on(PaymentRequested, key="order_id")
def payment_requested(event: PaymentRequested, fact: Recorded, rows: Rows) -> None:
    """The customer was asked for money."""
    _note(rows, event.order_id, fact, f"{event.amount} by {event.method}")


@history.on(GoodsReturned, key="order_id")
def goods_returned(event: GoodsReturned, fact: Recorded, rows: Rows) -> None:
    """Goods came back."""
    rows(orders, event.order_id).add(open_returns=1)
    _note(rows, event.order_id, fact, str(event.amount))


@history.on(ReturnWithdrawn, key="order_id")
def return_withdrawn(event: ReturnWithdrawn, fact: Recorded, rows: Rows) -> None:
    """They did not, after all."""
    rows(orders, event.order_id).add(open_returns=-1)
    _note(rows, event.order_id, fact, event.reason)


@history.on(ReturnCompleted, key="order_id")
def return_completed(event: ReturnCompleted, fact: Recorded, rows: Rows) -> None:
    """Their money has gone back."""
    row = rows(orders, event.order_id).add(returned=event.amount.amount, open_returns=-1)
    if event.everything:
        row.set(status="refunded")
    _note(rows, event.order_id, fact, str(event.amount))


@history.on(PaymentAuthorised, key="order_id")
def payment_authorised(event: PaymentAuthorised, fact: Recorded, rows: Rows) -> None:
    """The customer's money is held."""
    _note(rows, event.order_id, fact, str(event.amount))


@history.on(PaymentProcessed, key="order_id")
def paid(event: PaymentProcessed, fact: Recorded, rows: Rows) -> None:
    """The money was taken."""
    rows(orders, event.order_id).add(paid=event.amount.amount).set(paid_at=fact.recorded_at)
    _note(rows, event.order_id, fact, str(event.amount))


@history.on(PaymentFailed, key="order_id")
def payment_failed(event: PaymentFailed, fact: Recorded, rows: Rows) -> None:
    """No money was taken."""
    _note(rows, event.order_id, fact, event.reason)


@history.on(PaymentRefunded, key="order_id")
def refunded(event: PaymentRefunded, fact: Recorded, rows: Rows) -> None:
    """The money went back."""
    rows(orders, event.order_id).add(refunded=event.amount.amount)
    _note(rows, event.order_id, fact, str(event.amount))


@history.on(StockReserved, key="reservation_id")
def reserved(event: StockReserved, fact: Recorded, rows: Rows) -> None:
    """Goods were set aside for it; a reservation bears the order's id."""
    _note(rows, event.reservation_id, fact, f"{event.quantity} × {event.sku}")


@history.on(StockReleased, key="reservation_id")
def released(event: StockReleased, fact: Recorded, rows: Rows) -> None:
    """Goods set aside went back."""
    _note(rows, event.reservation_id, fact, f"{event.quantity} × {event.sku}")


@history.on(StockConfirmed, key="reservation_id")
def confirmed(event: StockConfirmed, fact: Recorded, rows: Rows) -> None:
    """Goods set aside for a time are kept for good."""
    _note(rows, event.reservation_id, fact, f"{event.quantity} × {event.sku}")


@history.on(StockLapsed, key="reservation_id")
def lapsed(event: StockLapsed, fact: Recorded, rows: Rows) -> None:
    """Goods set aside went back, for nobody confirmed them in time."""
    _note(rows, event.reservation_id, fact, f"{event.quantity} × {event.sku}")


@history.on(StockCommitted, key="reservation_id")
def committed(event: StockCommitted, fact: Recorded, rows: Rows) -> None:
    """Goods left the shelf for it."""
    _note(rows, event.reservation_id, fact, f"{event.quantity} × {event.sku}")


def _note(rows: Rows, order_id: str, fact: Recorded, detail: str | None) -> None:
    rows(timeline, order_id, fact.position.number).set(
        at=fact.recorded_at, event=fact.event.message_name, detail=detail, actor=fact.actor, xid=fact.position.xid
    )


class OrderRow(BaseModel):
    """An order as `views.order_history` shows it; amounts in minor units, times in UTC."""

    order_id: str
    customer_id: str
    status: str
    reason: str | None
    lines: list[dict[str, Any]]
    currency: str
    total: int
    paid: int
    refunded: int
    returned: int
    placed_at: datetime
    paid_at: datetime | None
    ended_at: datetime | None
    seconds: float | None


class TimelineRow(BaseModel):
    """Something that happened to an order, as `views.order_timeline` shows it."""

    position: int
    at: datetime
    event: str
    detail: str | None
    actor: str


class MoneyRow(BaseModel):
    """Money by currency, in minor units: taken, given back, total of completed orders, price of what came back."""

    currency: str
    taken: int
    refunded: int
    completed: int
    returned: int


_orders = history.view("order_history")
_timeline = history.view("order_timeline")
_placed = _orders.c.placed_at.is_not(None)  # a payment that was taken for no order of ours has left a row, but is none


@checked
def order(order_id: str) -> Query[OrderRow | None]:
    """One order."""
    return first(select(_orders).where(_orders.c.order_id == order_id, _placed), OrderRow)


@checked
def orders_of(customer_id: str, limit: Limit = PAGE) -> Query[list[OrderRow]]:
    """A customer's latest orders, newest first."""
    mine = select(_orders).where(_orders.c.customer_id == customer_id)
    return many(mine.order_by(_orders.c.placed_at.desc(), _orders.c.order_id).limit(limit), OrderRow)


@checked
def order_page(
    *,
    customer_id: str | None = None,
    status: OrderStatus | None = None,
    currency: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: Limit = PAGE,
    after: str | None = None,
) -> Query[Page[OrderRow]]:
    """Orders by when they were placed, newest first, page by page.

    Args:
        customer_id: whose.
        status: in which state.
        currency: in which currency.
        since: placed then or later.
        until: placed before.
        limit: most orders.
        after: a page's `next`.

    Raises:
        InvalidInput: a limit, cursor or time that can't be one; names it.
    """
    wanted = {"customer_id": customer_id, "status": status, "currency": currency}
    found = select(_orders).where(_placed, *between(_orders.c.placed_at, since, until))
    found = found.where(*(_orders.c[name] == value for name, value in wanted.items() if value is not None))
    by = (_orders.c.placed_at, _orders.c.order_id)
    return paged(found, OrderRow, by=by, descending=True, limit=limit, after=after)


@checked
def timeline_page(
    order_id: str, *, event: str | None = None, limit: Limit = PAGE, after: str | None = None
) -> Query[Page[TimelineRow]]:
    """What happened to an order, oldest first, page by page; what happens meanwhile comes after what is seen already.

    Args:
        order_id: which order.
        event: only events of this name.
        limit: most events.
        after: a page's `next`.

    Raises:
        InvalidInput: a limit or cursor that can't be one; names it.
    """
    found = select(_timeline).where(_timeline.c.order_id == order_id)
    if event is not None:
        found = found.where(_timeline.c.event == event)
    return paged(found, TimelineRow, by=(_timeline.c.xid, _timeline.c.position), limit=limit, after=after)


@checked
def timeline_of(order_id: str) -> Query[list[TimelineRow]]:
    """What happened to an order, oldest first."""
    mine = select(_timeline).where(_timeline.c.order_id == order_id)
    return many(mine.order_by(_timeline.c.xid, _timeline.c.position), TimelineRow)


@checked
def money(*, ended: bool = False) -> Query[list[MoneyRow]]:
    """Money by currency.

    Args:
        ended: leave out orders that are under way, and those of which something is being returned: their money may be
            taken and not yet be earned, or given back and not yet be on record as such.
    """
    sold = _orders.c.status.in_(["completed", "refunded"])
    completed_total = func.coalesce(func.sum(_orders.c.total).filter(sold), 0)
    sums = select(
        _orders.c.currency,
        func.sum(_orders.c.paid).label("taken"),
        func.sum(_orders.c.refunded).label("refunded"),
        completed_total.label("completed"),
        func.sum(_orders.c.returned).label("returned"),
    ).where(_placed)
    if ended:
        sums = sums.where(_orders.c.ended_at.is_not(None), _orders.c.open_returns == 0)
    return many(sums.group_by(_orders.c.currency).order_by(_orders.c.currency), MoneyRow)
