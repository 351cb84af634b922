"""Stock as people ask about it: what is there, what of it is promised, what has gone out."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel
from sqlalchemy import BigInteger, Column, Text, select

from amends import Recorded
from amends.changes import Rows
from amends.projection import Projection
from amends.query import Query, many
from domain.stock import StockCommitted, StockReceived, StockReleased, StockReserved

__all__ = ["LevelRow", "inventory", "levels"]

inventory = Projection("inventory_levels", version=1)

stock = inventory.table(
    "inventory_levels",
    Column("sku", Text, primary_key=True, comment="The product."),
    Column("received", BigInteger, nullable=False, default=0, comment="Pieces that ever came in."),
    Column("on_hand", BigInteger, nullable=False, default=0, comment="Pieces on the shelf, reserved ones included."),
    Column("reserved", BigInteger, nullable=False, default=0, comment="Pieces promised to open reservations."),
    Column("committed", BigInteger, nullable=False, default=0, comment="Pieces that have left for completed orders."),
    comment="One row a product: pieces received, on hand, reserved, committed, available.",
    computed={"available": ("on_hand - reserved", "Pieces that can still be reserved.")},
)


@inventory.on(StockReceived)
def received(event: StockReceived, fact: Recorded, rows: Rows) -> None:
    """Goods came in."""
    rows(stock, event.sku).add(received=event.quantity, on_hand=event.quantity)


@inventory.on(StockReserved)
def reserved(event: StockReserved, fact: Recorded, rows: Rows) -> None:
    """Goods were promised."""
    rows(stock, event.sku).add(reserved=event.quantity)


@inventory.on(StockReleased)
def released(event: StockReleased, fact: Recorded, rows: Rows) -> None:
    """A promise was taken back."""
    rows(stock, event.sku).add(reserved=-event.quantity)


@inventory.on(StockCommitted)
def committed(event: StockCommitted, fact: Recorded, rows: Rows) -> None:
    """Promised goods left."""
    rows(stock, event.sku).add(reserved=-event.quantity, on_hand=-event.quantity, committed=event.quantity)


class LevelRow(BaseModel):
    """A product's stock as `views.inventory_levels` shows it, in pieces."""

    sku: str
    received: int
    on_hand: int
    reserved: int
    committed: int
    available: int


_levels = inventory.view("inventory_levels")


def levels(skus: Sequence[str] | None = None) -> Query[list[LevelRow]]:
    """Stock by product; of all products unless some are named."""
    chosen = select(_levels) if skus is None else select(_levels).where(_levels.c.sku.in_(skus))
    return many(chosen.order_by(_levels.c.sku), LevelRow)
