"""Checks that the books balance: what must be true after every run, whatever was killed meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import BaseModel
from sqlalchemy import text

from activities.sandbox_gateway import SandboxGateway, Totals
from amends.database import open_pool
from amends.query import many
from client import Shop
from examples.demo.load import Result
from read_models import inventory_levels, order_history

__all__ = ["Books", "check", "read_books"]

PATIENCE = 60.0
"""Seconds for the views to catch up before the books are checked."""

SOLD = text(
    """
    select line ->> 'sku' as sku, sum((line ->> 'quantity')::bigint)::bigint as pieces
    from views.order_history, jsonb_array_elements(lines) as line
    where status = 'completed' group by 1
    """
).columns()
"""Pieces of each product in completed orders, counted apart from the stock."""

ENDINGS = text("select order_id, status, endings from views.order_history").columns()
"""Every order's status, and how many final states it has had."""


class _Pieces(BaseModel):
    sku: str
    pieces: int


class _Ending(BaseModel):
    order_id: str
    status: str
    endings: int


class Books(BaseModel):
    """What the views and the provider's own ledger say after a run."""

    levels: list[inventory_levels.LevelRow]
    money: list[order_history.MoneyRow]
    sold: dict[str, int]
    endings: dict[str, tuple[str, int]]
    ledger: dict[str, tuple[int, int]]


async def read_books(shop: Shop, database_url: str) -> Books:
    """Read views and ledger.

    Args:
        shop: asks the views, as fresh as the orders it has seen ending.
        database_url: where the sandbox provider keeps its ledger.
    """
    await shop.require(shop.client.seen, PATIENCE)
    money = await shop.query(order_history.money())
    pieces = await shop.query(many(SOLD, _Pieces))
    endings = await shop.query(many(ENDINGS, _Ending))
    ledger = await _ledger(database_url, money)
    return Books(
        levels=await shop.query(inventory_levels.levels()),
        money=money,
        sold={row.sku: row.pieces for row in pieces},
        endings={row.order_id: (row.status, row.endings) for row in endings},
        ledger={currency: (totals.taken.amount, totals.refunded.amount) for currency, totals in ledger.items()},
    )


async def _ledger(database_url: str, money: Sequence[order_history.MoneyRow]) -> Mapping[str, Totals]:
    async with open_pool(database_url, "writer", 1) as pool:
        gateway = SandboxGateway(pool)
        return {row.currency: await gateway.totals(row.currency) for row in money}


def check(books: Books, results: Sequence[Result]) -> dict[str, bool]:
    """The invariants, by name.

    Args:
        books: as read after the last order's end.
        results: what the callers were told.
    """
    told = Counter((result.outcome.order_id, result.outcome.status) for result in results)
    recorded = {order_id: status for order_id, (status, _) in books.endings.items()}
    return {
        "every order ended in exactly one final state": all(n == 1 for _, n in books.endings.values())
        and all(recorded.get(order_id) == status for order_id, status in told),
        "money taken - refunded = total of completed orders": all(
            row.taken - row.refunded == row.completed for row in books.money
        ),
        "the payment provider's ledger agrees": all(
            books.ledger[row.currency] == (row.taken, row.refunded) for row in books.money
        ),
        "on hand, reserved and committed balance for each SKU": all(
            row.received == row.on_hand + row.committed and row.reserved == 0 for row in books.levels
        ),
        "committed units = units of completed orders": all(
            row.committed == books.sold.get(row.sku, 0) for row in books.levels
        ),
    }
