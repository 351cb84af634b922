"""Checks that the books balance: what must be true after every run, whatever was killed meanwhile.

Orders of others may be under way on the same servers; what is theirs is left to them, and nothing else is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel
from sqlalchemy import text

from activities.sandbox_gateway import SandboxGateway
from amends.database import open_pool
from amends.query import many
from client import Shop
from examples.demo.load import Result
from read_models import inventory_levels, order_history

__all__ = ["Books", "check", "read_books"]

PATIENCE = 60.0
"""Seconds for the views to catch up before the books are checked."""

ORDERS = text(
    "select order_id, status, reason, endings, open_returns, currency from views.order_history"
    " where placed_at is not null"
).columns()
"""Every order's status with the reason, how many final states it has had, and how many returns are under way."""

PIECES = text(
    """
    select line ->> 'sku' as sku,
           coalesce(sum(pieces) filter (where status in ('completed', 'refunded')), 0)::bigint as completed,
           coalesce(sum(pieces) filter (where status = 'placed'), 0)::bigint as open
    from views.order_history, jsonb_array_elements(lines) as line, cast(line ->> 'quantity' as bigint) as pieces
    group by 1
    """
).columns()
"""Pieces of each product in orders, counted apart from the stock."""


class Order(BaseModel):
    """An order's status with the reason, how many final states it has had, open returns, its currency."""

    order_id: str
    status: str
    reason: str | None = None
    endings: int
    open_returns: int = 0
    currency: str


class Pieces(BaseModel):
    """Pieces of a product in completed orders and in those under way."""

    sku: str
    completed: int = 0
    open: int = 0


class Books(BaseModel):
    """What the views and the provider's own ledger say after a run; the ledger: taken and refunded by currency."""

    orders: list[Order]
    money: list[order_history.MoneyRow]
    levels: list[inventory_levels.LevelRow]
    pieces: list[Pieces]
    ledger: dict[str, tuple[int, int]]


async def read_books(shop: Shop, database_url: str) -> Books:
    """Read views and ledger.

    Args:
        shop: asks the views, as fresh as the orders it has seen ending.
        database_url: where the sandbox provider keeps its ledger.
    """
    await shop.require(shop.client.seen, PATIENCE)
    orders = await shop.query(many(ORDERS, Order))
    ended = [order for order in orders if order.status != "placed" and not order.open_returns]
    return Books(
        orders=orders,
        money=await shop.query(order_history.money(ended=True)),
        levels=await shop.query(inventory_levels.levels()),
        pieces=await shop.query(many(PIECES, Pieces)),
        ledger=await _ledger(database_url, ended),
    )


async def _ledger(database_url: str, orders: Sequence[Order]) -> dict[str, tuple[int, int]]:
    """What the provider has taken and given back for these orders, whose payments bear their ids."""
    ledger = {}
    async with open_pool(database_url, "writer", 1) as pool:
        for currency in sorted({order.currency for order in orders}):
            ids = [order.order_id for order in orders if order.currency == currency]
            totals = await SandboxGateway(pool).totals(currency, ids)
            ledger[currency] = (totals.taken.amount, totals.refunded.amount)
    return ledger


def check(books: Books, results: Sequence[Result]) -> dict[str, bool]:
    """The invariants, by name.

    Args:
        books: as read after the last order's end.
        results: what the callers were told.
    """
    orders = {order.order_id: order for order in books.orders}
    pieces = {row.sku: row for row in books.pieces}
    return {
        "every order ended in exactly one final state": all(order.endings <= 1 for order in books.orders)
        and all(_ended(orders, result) for result in results),
        "money taken - refunded = total of completed orders - returned": all(
            row.taken - row.refunded == row.completed - row.returned for row in books.money
        ),
        "the payment provider's ledger agrees": all(
            books.ledger.get(row.currency) == (row.taken, row.refunded) for row in books.money
        ),
        "on hand, reserved and committed balance for each SKU": all(
            row.received == row.on_hand + row.committed and 0 <= row.reserved <= _promised(pieces, row)
            for row in books.levels
        ),
        "committed units = units of completed orders": all(
            row.committed <= pieces.get(row.sku, Pieces(sku=row.sku)).completed <= row.committed + row.reserved
            for row in books.levels
        ),
    }


def _ended(orders: Mapping[str, Order], result: Result) -> bool:
    """Whether the views say of an order what its caller was told."""
    recorded = orders.get(result.outcome.order_id)
    return recorded is not None and recorded.endings == 1 and recorded.status == result.outcome.status


def _promised(pieces: Mapping[str, Pieces], row: inventory_levels.LevelRow) -> int:
    """Pieces that may be reserved: for orders under way, and for completed ones whose goods are still to leave."""
    known = pieces.get(row.sku, Pieces(sku=row.sku))
    return known.open + known.completed - row.committed
