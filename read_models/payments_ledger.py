"""Payments: where each stands, and a ledger of every movement of money."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel
from sqlalchemy import BigInteger, Column, DateTime, Index, Text, select

from amends import Recorded
from amends.asking import PAGE, Limit, checked
from amends.changes import Change, Rows
from amends.derived_views import DerivedView
from amends.paging import Page, between, paged
from amends.projection import Projection
from amends.query import Query, first
from domain.payment import PaymentAuthorised, PaymentFailed, PaymentProcessed, PaymentRefunded, PaymentRequested

__all__ = ["LedgerRow", "MovementKind", "PaymentRow", "ledger", "ledger_page", "payment", "payments"]

MovementKind = Literal["authorised", "processed", "refunded", "failed"]

payments = Projection("payments", version=2)

asked = payments.table(
    "payments",
    Column("payment_id", Text, primary_key=True, comment="The payment."),
    Column("order_id", Text, comment="What it pays for."),
    Column("customer_id", Text, comment="Who pays."),
    Column("method", Text, comment="card or transfer."),
    Column("currency", Text, comment="ISO 4217 currency of all amounts."),
    Column("asked", BigInteger, nullable=False, default=0, comment="What the customer was asked for, in minor units."),
    Column("taken", BigInteger, nullable=False, default=0, comment="Taken from the customer, in minor units."),
    Column("refunded", BigInteger, nullable=False, default=0, comment="Given back, in minor units."),
    Column("requested_at", DateTime(timezone=True), comment="When the customer was asked."),
    Column("authorised_at", DateTime(timezone=True), comment="When the provider held the money; null if it never did."),
    Column("taken_at", DateTime(timezone=True), comment="When the money was taken; null if it never was."),
    Column("failed_at", DateTime(timezone=True), comment="When it failed; null if it has not."),
    Index("payments_by_order", "order_id"),
    comment="One row a payment: what was asked for, taken, given back.",
    computed={
        "status": (
            "case when failed_at is not null then 'failed'"
            " when taken_at is not null then case when refunded >= taken then 'refunded' else 'processed' end"
            " when authorised_at is not null then 'authorised' else 'requested' end",
            "requested, authorised (the money is held), processed (it is taken), refunded (all of it), failed.",
        )
    },
)

moves = payments.table(
    "payment_movements",
    Column("position", BigInteger, primary_key=True, comment="Number of the event in the log."),
    Column("payment_id", Text, nullable=False, comment="The payment."),
    Column("order_id", Text, nullable=False, comment="What it pays for."),
    Column("at", DateTime(timezone=True), nullable=False, comment="When it was recorded."),
    Column("kind", Text, nullable=False, comment="authorised, processed, refunded or failed."),
    Column("amount", BigInteger, nullable=False, default=0, comment="Money that moved, in minor units, signed."),
    Column("held", BigInteger, nullable=False, default=0, comment="Money held for us from then on, in minor units."),
    Column("provider_ref", Text, comment="What the provider calls it; null where it was not told."),
    Column("reason", Text, comment="Why it failed; null where it did not."),
    Column(
        "xid", BigInteger, nullable=False, comment="Transaction of the event: things happened by xid, then position."
    ),
    Index("payment_movements_by_feed", "xid", "position"),
    Index("payment_movements_by_payment", "payment_id", "xid", "position"),
    Index("payment_movements_by_order", "order_id", "xid", "position"),
    comment="One row for each thing that the payment provider did; views.payments_ledger says of which payment.",
)

ledger = DerivedView(
    "payments_ledger",
    """
    select moved.position, moved.at, moved.payment_id, moved.order_id, payment.customer_id, payment.method, moved.kind,
           moved.amount, moved.held, payment.currency, moved.provider_ref, moved.reason, moved.xid
    from views.payment_movements as moved join views.payments as payment on payment.payment_id = moved.payment_id
    """,
    comment="One row a movement of money. The amounts of an order that was placed here add up to what it has paid less "
    "what it got back. One that was taken over from another system has no rows, for its money moved there; "
    "views.order_history has the sums of both.",
    columns={
        "position": "Number of the event in the log.",
        "at": "When it was recorded.",
        "payment_id": "The payment.",
        "order_id": "What it pays for.",
        "customer_id": "Who pays.",
        "method": "card or transfer.",
        "kind": "authorised (the provider holds the money), processed (it took it), refunded (it gave it back), "
        "failed (nothing was taken).",
        "amount": "Money that moved, in minor units: above zero taken from the customer, below zero given back, 0 "
        "where none moved.",
        "held": "Money that the provider holds for us from then on, in minor units; it is taken later, or let go.",
        "currency": "ISO 4217 currency of the amounts.",
        "provider_ref": "What the provider calls it; null where it was not told.",
        "reason": "Why it failed; null where it did not.",
        "xid": "Transaction of the event: things happened by xid, then position.",
    },
    types={
        "position": BigInteger(),
        "xid": BigInteger(),
        "at": DateTime(timezone=True),
        **dict.fromkeys(("payment_id", "order_id", "customer_id", "method", "kind", "currency"), Text()),
    },
)


@payments.on(PaymentRequested, key="payment_id")
def requested(event: PaymentRequested, fact: Recorded, rows: Rows) -> None:
    """A customer was asked for money."""
    rows(asked, event.payment_id).set(
        order_id=event.order_id,
        customer_id=event.customer_id,
        method=event.method,
        currency=event.amount.currency,
        asked=event.amount.amount,
        requested_at=fact.recorded_at,
    )


@payments.on(PaymentAuthorised, key="payment_id")
def authorised(event: PaymentAuthorised, fact: Recorded, rows: Rows) -> None:
    """The provider holds the money: nothing has moved yet."""
    rows(asked, event.payment_id).set(authorised_at=fact.recorded_at)
    _moved(rows, event, fact, "authorised").set(held=event.amount.amount, provider_ref=event.provider_ref)


@payments.on(PaymentProcessed, key="payment_id")
def processed(event: PaymentProcessed, fact: Recorded, rows: Rows) -> None:
    """The provider took the money, held before or not."""
    rows(asked, event.payment_id).add(taken=event.amount.amount).set(taken_at=fact.recorded_at)
    _moved(rows, event, fact, "processed").set(amount=event.amount.amount, provider_ref=event.provider_ref)


@payments.on(PaymentRefunded, key="payment_id")
def refunded(event: PaymentRefunded, fact: Recorded, rows: Rows) -> None:
    """The provider gave money back."""
    rows(asked, event.payment_id).add(refunded=event.amount.amount)
    _moved(rows, event, fact, "refunded").set(amount=-event.amount.amount)


@payments.on(PaymentFailed, key="payment_id")
def failed(event: PaymentFailed, fact: Recorded, rows: Rows) -> None:
    """Nothing was taken, and what was held is let go."""
    rows(asked, event.payment_id).set(failed_at=fact.recorded_at)
    _moved(rows, event, fact, "failed").set(reason=event.reason)


def _moved(
    rows: Rows,
    event: PaymentAuthorised | PaymentProcessed | PaymentRefunded | PaymentFailed,
    fact: Recorded,
    kind: MovementKind,
) -> Change:
    change = rows(moves, fact.position.number).set(at=fact.recorded_at, xid=fact.position.xid)
    return change.set(payment_id=event.payment_id, order_id=event.order_id, kind=kind)


class PaymentRow(BaseModel):
    """A payment as `views.payments` shows it; amounts in minor units."""

    payment_id: str
    order_id: str
    customer_id: str
    method: str
    currency: str
    asked: int
    taken: int
    refunded: int
    status: Literal["requested", "authorised", "processed", "refunded", "failed"]
    requested_at: datetime
    authorised_at: datetime | None
    taken_at: datetime | None
    failed_at: datetime | None


class LedgerRow(BaseModel):
    """A movement of money as `views.payments_ledger` shows it; amounts in minor units, signed."""

    position: int
    at: datetime
    payment_id: str
    order_id: str
    customer_id: str
    method: str
    kind: MovementKind
    amount: int
    held: int
    currency: str
    provider_ref: str | None
    reason: str | None


_payments = payments.view("payments")
_ledger = ledger.table


@checked
def payment(payment_id: str) -> Query[PaymentRow | None]:
    """One payment."""
    return first(select(_payments).where(_payments.c.payment_id == payment_id), PaymentRow)


@checked
def ledger_page(
    *,
    order_id: str | None = None,
    payment_id: str | None = None,
    customer_id: str | None = None,
    kind: MovementKind | None = None,
    method: Literal["card", "transfer"] | None = None,
    currency: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: Limit = PAGE,
    after: str | None = None,
) -> Query[Page[LedgerRow]]:
    """Movements of money in the order of the feed, page by page; what comes meanwhile comes after the pages seen.

    Args:
        order_id: of which order.
        payment_id: of which payment.
        customer_id: of whose payments.
        kind: which movements.
        method: of payments made in this way.
        currency: of payments in this currency.
        since: recorded then or later.
        until: recorded before.
        limit: most movements.
        after: a page's `next`.

    Raises:
        InvalidInput: a limit, cursor or time that can't be one; names it.
    """
    wanted = {
        "order_id": order_id,
        "payment_id": payment_id,
        "customer_id": customer_id,
        "kind": kind,
        "method": method,
        "currency": currency,
    }
    found = select(_ledger).where(*between(_ledger.c.at, since, until))
    found = found.where(*(_ledger.c[name] == value for name, value in wanted.items() if value is not None))
    return paged(found, LedgerRow, by=[_ledger.c.xid, _ledger.c.position], limit=limit, after=after)
