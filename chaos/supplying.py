"""The supplier: sends what the shop orders by itself when goods run low, and the shop's people count what comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from psycopg import Error
from psycopg_pool import PoolTimeout

from activities.sandbox_supplier import SandboxSupplier
from amends.database import open_pool
from amends.errors import StartupError
from chaos.client_book import ClientBook, RestockEntry
from chaos.orders import RUNS_LOW
from client import Shop

__all__ = ["supply"]

PAUSE = 1.0


async def supply(
    shop: Shop, database_url: str, book: ClientBook, insist: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
) -> None:
    """Deliver every open order of the supplier's books, and tell the shop, until cancelled.

    Args:
        shop: is told what has come.
        database_url: where the supplier keeps its books.
        book: the count of what came in.
        insist: repeats a call until it is answered.
    """
    told: dict[str, RestockEntry] = {}
    while True:
        with suppress(Error, PoolTimeout, StartupError, OSError):
            async with open_pool(database_url, "writer", 1) as pool:
                supplier = SandboxSupplier(pool)
                while True:
                    for order in await supplier.orders_of(RUNS_LOW):
                        if order.status == "open":
                            await supplier.deliver(order.order_id)
                        elif order.status == "delivered" and order.order_id not in told:
                            entry = told[order.order_id] = RestockEntry(order.sku, order.delivered)
                            book.restocks.append(entry)
                            await insist(lambda o=order: shop.delivery_arrived(o.order_id, o.delivered))  # type: ignore[misc]
                            entry.told = True
                    await asyncio.sleep(PAUSE)
        await asyncio.sleep(PAUSE)
