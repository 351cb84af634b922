"""Every movement of stock, what it changed, and how much of each product moves in a day."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel
from sqlalchemy import BigInteger, Column, Date, DateTime, Index, Text, select

from amends import Recorded
from amends.asking import PAGE, Limit, checked
from amends.changes import Rows
from amends.paging import Page, between, paged
from amends.projection import Projection
from amends.query import Query
from amends.read_tables import LATER
from domain.stock import StockCommitted, StockConfirmed, StockLapsed, StockReceived, StockReleased, StockReserved
from read_models.days import MADE_WITH, day_of

__all__ = ["DayRow", "MovementKind", "MovementRow", "inventory_days", "inventory_movements", "movements"]

MovementKind = Literal["received", "reserved", "confirmed", "released", "lapsed", "committed"]

movements = Projection("inventory_movements", version=2, made_with=MADE_WITH)

moves = movements.table(
    "inventory_movements",
    Column("position", BigInteger, primary_key=True, comment="Number of the event in the log."),
    Column("sku", Text, nullable=False, comment="The product."),
    Column("at", DateTime(timezone=True), nullable=False, comment="When it was recorded."),
    Column(
        "kind",
        Text,
        nullable=False,
        comment="received, reserved, confirmed (held for good), released, lapsed (not confirmed in time), committed "
        "(left for a completed order).",
    ),
    Column("quantity", BigInteger, nullable=False, comment="Pieces that it was about."),
    Column(
        "on_hand", BigInteger, nullable=False, default=0, comment="Change of the pieces on the shelf, with its sign."
    ),
    Column("reserved", BigInteger, nullable=False, default=0, comment="Change of the pieces promised, with its sign."),
    Column("reservation_id", Text, comment="For which reservation; an order's bears its id. Null when goods came in."),
    Column("actor", Text, nullable=False, comment="On whose behalf."),
    Column(
        "xid",
        BigInteger,
        nullable=False,
        comment="Transaction of the event: things happened by xid, then position.",
        info=LATER,
    ),
    Index("inventory_movements_by_feed", "xid", "position"),
    Index("inventory_movements_by_sku", "sku", "xid", "position"),
    Index("inventory_movements_by_reservation", "reservation_id", "xid", "position"),
    comment="One row a movement of stock. A product's changes up to a moment add up to its level at that moment.",
    computed={
        "available": ("on_hand - reserved", "Change of the pieces that can still be reserved, with its sign."),
    },
)

days = movements.table(
    "inventory_days",
    Column("sku", Text, primary_key=True, comment="The product."),
    Column("day", Date, primary_key=True, comment="The day, in the shop's time zone."),
    Column("received", BigInteger, nullable=False, default=0, comment="Pieces that came in."),
    Column("reserved", BigInteger, nullable=False, default=0, comment="Pieces that were promised."),
    Column("released", BigInteger, nullable=False, default=0, comment="Promised pieces that went back: given up."),
    Column("lapsed", BigInteger, nullable=False, default=0, comment="Promised pieces that went back: not confirmed."),
    Column("committed", BigInteger, nullable=False, default=0, comment="Pieces that left for completed orders."),
    comment="One row a product and day on which its stock moved: how many pieces, by what moved them.",
)


@movements.on(StockReceived, key="sku")
def received(event: StockReceived, fact: Recorded, rows: Rows) -> None:
    """Goods came in."""
    rows(days, event.sku, day_of(fact.recorded_at)).add(received=event.quantity)
    _move(rows, event, fact, "received", on_hand=event.quantity)


@movements.on(StockReserved, key="sku")
def reserved(event: StockReserved, fact: Recorded, rows: Rows) -> None:
    """Goods were promised."""
    rows(days, event.sku, day_of(fact.recorded_at)).add(reserved=event.quantity)
    _move(rows, event, fact, "reserved", reserved=event.quantity)


@movements.on(StockConfirmed, key="sku")
def confirmed(event: StockConfirmed, fact: Recorded, rows: Rows) -> None:
    """Goods promised for a time are promised for good: nothing moves."""
    _move(rows, event, fact, "confirmed")


@movements.on(StockReleased, key="sku")
def released(event: StockReleased, fact: Recorded, rows: Rows) -> None:
    """A promise was taken back."""
    rows(days, event.sku, day_of(fact.recorded_at)).add(released=event.quantity)
    _move(rows, event, fact, "released", reserved=-event.quantity)


@movements.on(StockLapsed, key="sku")
def lapsed(event: StockLapsed, fact: Recorded, rows: Rows) -> None:
    """A promise was forgotten about."""
    rows(days, event.sku, day_of(fact.recorded_at)).add(lapsed=event.quantity)
    _move(rows, event, fact, "lapsed", reserved=-event.quantity)


@movements.on(StockCommitted, key="sku")
def committed(event: StockCommitted, fact: Recorded, rows: Rows) -> None:
    """Promised goods left."""
    rows(days, event.sku, day_of(fact.recorded_at)).add(committed=event.quantity)
    _move(rows, event, fact, "committed", on_hand=-event.quantity, reserved=-event.quantity)


def _move(
    rows: Rows,
    event: StockReceived | StockReserved | StockConfirmed | StockReleased | StockLapsed | StockCommitted,
    fact: Recorded,
    kind: MovementKind,
    *,
    on_hand: int = 0,
    reserved: int = 0,
) -> None:
    rows(moves, fact.position.number).set(
        sku=event.sku,
        at=fact.recorded_at,
        kind=kind,
        quantity=event.quantity,
        on_hand=on_hand,
        reserved=reserved,
        reservation_id=None if isinstance(event, StockReceived) else event.reservation_id,
        actor=fact.actor,
        xid=fact.position.xid,
    )


class MovementRow(BaseModel):
    """A movement of stock as `views.inventory_movements` shows it; changes in pieces, with their signs."""

    position: int
    sku: str
    at: datetime
    kind: MovementKind
    quantity: int
    on_hand: int
    reserved: int
    available: int
    reservation_id: str | None
    actor: str


class DayRow(BaseModel):
    """A product's movements of a day as `views.inventory_days` shows them, in pieces."""

    sku: str
    day: date
    received: int
    reserved: int
    released: int
    lapsed: int
    committed: int


_moves = movements.view("inventory_movements")
_days = movements.view("inventory_days")


@checked
def inventory_movements(
    *,
    sku: str | None = None,
    reservation_id: str | None = None,
    kind: MovementKind | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: Limit = PAGE,
    after: str | None = None,
) -> Query[Page[MovementRow]]:
    """Movements of stock in the order of the feed, page by page; what comes meanwhile comes after the pages seen.

    Args:
        sku: of which product.
        reservation_id: of which reservation, or order.
        kind: which movements.
        since: recorded then or later.
        until: recorded before.
        limit: most movements.
        after: a page's `next`.

    Raises:
        InvalidInput: a limit, cursor or time that can't be one; names it.
    """
    wanted = {"sku": sku, "reservation_id": reservation_id, "kind": kind}
    found = select(_moves).where(*between(_moves.c.at, since, until))
    found = found.where(*(_moves.c[name] == value for name, value in wanted.items() if value is not None))
    return paged(found, MovementRow, by=[_moves.c.xid, _moves.c.position], limit=limit, after=after)


@checked
def inventory_days(
    sku: str,
    *,
    first: date | None = None,
    last: date | None = None,
    limit: Limit = PAGE,
    after: str | None = None,
) -> Query[Page[DayRow]]:
    """How much of a product moved in a day, day by day, page by page.

    Args:
        sku: which product.
        first: from this day on.
        last: up to this day.
        limit: most days.
        after: a page's `next`.

    Raises:
        InvalidInput: a limit, cursor or day that can't be one; names it.
    """
    found = select(_days).where(_days.c.sku == sku, *between(_days.c.day, first, last, names=("first", "last")))
    return paged(found, DayRow, by=[_days.c.day], limit=limit, after=after)
