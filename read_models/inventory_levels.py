"""Stock as people ask about it: what is there, what of it is promised, what has gone out, what is on its way."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel
from sqlalchemy import BigInteger, Boolean, Column, DateTime, Index, Text, select, type_coerce

from amends import Recorded
from amends.asking import PAGE, Limit, checked
from amends.changes import Rows
from amends.paging import Page, between, paged
from amends.projection import Projection
from amends.query import Query, many
from domain.replenishment import ReplenishmentCancelled, ReplenishmentDelivered, ReplenishmentOpened
from domain.stock import ReorderPointSet, StockCommitted, StockLapsed, StockReceived, StockReleased, StockReserved

__all__ = [
    "LevelRow",
    "ReplenishmentRow",
    "ReplenishmentStatus",
    "inventory",
    "level_page",
    "levels",
    "replenishment_page",
    "replenishments",
]

ReplenishmentStatus = Literal["open", "delivered", "cancelled"]

inventory = Projection("inventory_levels", version=3)

stock = inventory.table(
    "inventory_levels",
    Column("sku", Text, primary_key=True, comment="The product."),
    Column("received", BigInteger, nullable=False, default=0, comment="Pieces that ever came in."),
    Column("on_hand", BigInteger, nullable=False, default=0, comment="Pieces on the shelf, reserved ones included."),
    Column("reserved", BigInteger, nullable=False, default=0, comment="Pieces promised to open reservations."),
    Column("committed", BigInteger, nullable=False, default=0, comment="Pieces that have left for completed orders."),
    Column("on_order", BigInteger, nullable=False, default=0, comment="Pieces that a supplier is to deliver."),
    Column("reorder_at", BigInteger, nullable=False, default=0, comment="Fewest available pieces that are enough."),
    comment="One row a product: pieces received, on hand, reserved, committed, available, on order.",
    computed={
        "available": ("on_hand - reserved", "Pieces that can still be reserved."),
        "low": ("on_hand - reserved < reorder_at", "Whether too few are available."),
    },
)

supplies = inventory.table(
    "replenishments",
    Column("replenishment_id", Text, primary_key=True, comment="The replenishment; the delivery note bears it."),
    Column("sku", Text, comment="The product."),
    Column("status", Text, comment="open, then one of delivered and cancelled."),
    Column("reason", Text, comment="Why it was cancelled: a refusal's name, or who cancelled it."),
    Column("ordered", BigInteger, nullable=False, default=0, comment="Pieces ordered from the supplier."),
    Column("delivered", BigInteger, nullable=False, default=0, comment="Pieces that came."),
    Column("opened_at", DateTime(timezone=True), comment="When it was ordered."),
    Column("ended_at", DateTime(timezone=True), comment="When it was delivered or cancelled."),
    Index("replenishments_by_time", "opened_at", "replenishment_id"),
    Index("replenishments_by_sku", "sku", "opened_at", "replenishment_id"),
    comment="One row a replenishment: what was ordered from the supplier, and what became of it.",
)


@inventory.on(StockReceived, key="sku")
def received(event: StockReceived, fact: Recorded, rows: Rows) -> None:
    """Goods came in."""
    rows(stock, event.sku).add(received=event.quantity, on_hand=event.quantity)


@inventory.on(StockReserved, key="sku")
def reserved(event: StockReserved, fact: Recorded, rows: Rows) -> None:
    """Goods were promised."""
    rows(stock, event.sku).add(reserved=event.quantity)


@inventory.on(StockReleased, key="sku")
def released(event: StockReleased, fact: Recorded, rows: Rows) -> None:
    """A promise was taken back."""
    rows(stock, event.sku).add(reserved=-event.quantity)


@inventory.on(StockLapsed, key="sku")
def lapsed(event: StockLapsed, fact: Recorded, rows: Rows) -> None:
    """A promise was forgotten about."""
    rows(stock, event.sku).add(reserved=-event.quantity)


@inventory.on(StockCommitted, key="sku")
def committed(event: StockCommitted, fact: Recorded, rows: Rows) -> None:
    """Promised goods left."""
    rows(stock, event.sku).add(reserved=-event.quantity, on_hand=-event.quantity, committed=event.quantity)


@inventory.on(ReorderPointSet, key="sku")
def reorder_point_set(event: ReorderPointSet, fact: Recorded, rows: Rows) -> None:
    """It was said how much is enough."""
    rows(stock, event.sku).set(reorder_at=event.at)


@inventory.on(ReplenishmentOpened, key="sku")
def replenishment_opened(event: ReplenishmentOpened, fact: Recorded, rows: Rows) -> None:
    """More was ordered."""
    rows(stock, event.sku).add(on_order=event.quantity)
    rows(supplies, event.replenishment_id).set(
        sku=event.sku, status="open", ordered=event.quantity, opened_at=fact.recorded_at
    )


@inventory.on(ReplenishmentDelivered, key="sku")
def replenishment_delivered(event: ReplenishmentDelivered, fact: Recorded, rows: Rows) -> None:
    """It came, and is counted as received by itself."""
    rows(stock, event.sku).add(on_order=-event.ordered)
    rows(supplies, event.replenishment_id).set(status="delivered", delivered=event.quantity, ended_at=fact.recorded_at)


@inventory.on(ReplenishmentCancelled, key="sku")
def replenishment_cancelled(event: ReplenishmentCancelled, fact: Recorded, rows: Rows) -> None:
    """It will not come."""
    rows(stock, event.sku).add(on_order=-event.ordered)
    rows(supplies, event.replenishment_id).set(status="cancelled", reason=event.reason, ended_at=fact.recorded_at)


class LevelRow(BaseModel):
    """A product's stock as `views.inventory_levels` shows it, in pieces."""

    sku: str
    received: int
    on_hand: int
    reserved: int
    committed: int
    available: int
    on_order: int = 0
    reorder_at: int = 0
    low: bool = False


class ReplenishmentRow(BaseModel):
    """A replenishment as `views.replenishments` shows it, in pieces."""

    replenishment_id: str
    sku: str
    status: str
    reason: str | None
    ordered: int
    delivered: int
    opened_at: datetime
    ended_at: datetime | None


_levels = inventory.view("inventory_levels")
_replenishments = inventory.view("replenishments")


@checked
def levels(skus: Sequence[str] | None = None) -> Query[list[LevelRow]]:
    """Stock by product; of all products unless some are named."""
    chosen = select(_levels) if skus is None else select(_levels).where(_levels.c.sku.in_(skus))
    return many(chosen.order_by(_levels.c.sku), LevelRow)


@checked
def level_page(*, low: bool | None = None, limit: Limit = PAGE, after: str | None = None) -> Query[Page[LevelRow]]:
    """Stock by product, page by page.

    Args:
        low: only products of which too few are available, or only the others.
        limit: most products.
        after: a page's `next`.

    Raises:
        InvalidInput: a limit or cursor that can't be one; names it.
    """
    found = select(_levels)
    if low is not None:
        found = found.where(type_coerce(_levels.c.low, Boolean).is_(low))
    return paged(found, LevelRow, by=[_levels.c.sku], limit=limit, after=after)


@checked
def replenishment_page(
    *,
    sku: str | None = None,
    status: ReplenishmentStatus | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: Limit = PAGE,
    after: str | None = None,
) -> Query[Page[ReplenishmentRow]]:
    """What was ordered from suppliers, oldest first, page by page.

    Args:
        sku: of which product.
        status: in which state.
        since: ordered then or later.
        until: ordered before.
        limit: most replenishments.
        after: a page's `next`.

    Raises:
        InvalidInput: a limit, cursor or time that can't be one; names it.
    """
    wanted = {"sku": sku, "status": status}
    found = select(_replenishments).where(*between(_replenishments.c.opened_at, since, until))
    found = found.where(*(_replenishments.c[name] == value for name, value in wanted.items() if value is not None))
    by = (_replenishments.c.opened_at, _replenishments.c.replenishment_id)
    return paged(found, ReplenishmentRow, by=by, limit=limit, after=after)


@checked
def replenishments(sku: str | None = None) -> Query[list[ReplenishmentRow]]:
    """What was ordered from suppliers, oldest first; of all products unless one is named."""
    chosen = select(_replenishments) if sku is None else select(_replenishments).where(_replenishments.c.sku == sku)
    return many(chosen.order_by(_replenishments.c.opened_at, _replenishments.c.replenishment_id), ReplenishmentRow)
