"""Projecting: order events into order history, inventory and daily revenue, and the rows compared one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import psycopg
from sqlalchemy import BigInteger, Column, Text

from amends import Recorded
from amends.changes import Rows
from amends.database import open_pool
from amends.feed import Feed
from amends.projection import Projection
from amends.projector import Projector
from amends.schema import owner_engine
from bench.harness import Benchmark, Case, Contender, Sample
from bench.peers import optional
from bench.projection_sql import (
    APPLY,
    CHECKPOINT,
    CLEAR,
    FILL,
    INSERT_SELECT,
    NEXT,
    READ_BACK,
    RESET,
    UNFILL,
)
from bench.servers import Servers
from domain.order import OrderCompleted, OrderPlaced
from domain.payment import PaymentProcessed
from domain.stock import StockCommitted, StockReserved

__all__ = ["DAYS", "PER_ORDER", "PROJECTION", "SKUS", "UNIT_PRICE", "Orders", "Row", "orders", "total_of"]

Row = tuple[str, str, str, int, int]
"""Of which table, its key, its text, its numbers."""

PER_ORDER = 5
"""Events of each order: placed, reserved, paid, committed, completed."""

SKUS = 200
DAYS = 30
UNIT_PRICE = 1250

orders = Projection("bench_orders", version=1)
history = orders.table(
    "bench_history",
    Column("order_id", Text, primary_key=True, comment="The order."),
    Column("status", Text, comment="placed, then completed."),
    Column("total", BigInteger, nullable=False, default=0, comment="Price, in minor units."),
    Column("paid", BigInteger, nullable=False, default=0, comment="Taken, in minor units."),
    comment="One row an order.",
)
inventory = orders.table(
    "bench_inventory",
    Column("sku", Text, primary_key=True, comment="The product."),
    Column("reserved", BigInteger, nullable=False, default=0, comment="Pieces promised."),
    Column("committed", BigInteger, nullable=False, default=0, comment="Pieces that have left."),
    comment="One row a product.",
)
revenue = orders.table(
    "bench_revenue",
    Column("day", Text, primary_key=True, comment="The day, UTC."),
    Column("orders", BigInteger, nullable=False, default=0, comment="Payments."),
    Column("amount", BigInteger, nullable=False, default=0, comment="Taken, in minor units."),
    comment="One row a day.",
)


@orders.on(OrderPlaced)
def placed(event: OrderPlaced, fact: Recorded, rows: Rows) -> None:
    """A new order."""
    rows(history, event.order_id).set(status="placed", total=event.total.amount)


@orders.on(StockReserved)
def reserved(event: StockReserved, fact: Recorded, rows: Rows) -> None:
    """Goods set aside."""
    rows(inventory, event.sku).add(reserved=event.quantity)


@orders.on(PaymentProcessed)
def paid(event: PaymentProcessed, fact: Recorded, rows: Rows) -> None:
    """Money taken."""
    rows(history, event.order_id).add(paid=event.amount.amount)
    rows(revenue, fact.recorded_at.date().isoformat()).add(orders=1, amount=event.amount.amount)


@orders.on(StockCommitted)
def committed(event: StockCommitted, fact: Recorded, rows: Rows) -> None:
    """Goods left."""
    rows(inventory, event.sku).add(reserved=-event.quantity, committed=event.quantity)


@orders.on(OrderCompleted)
def completed(event: OrderCompleted, fact: Recorded, rows: Rows) -> None:
    """Ended well."""
    rows(history, event.order_id).set(status="completed")


@dataclass(frozen=True)
class Orders:
    """A log of completed orders, all of it to be projected.

    Args:
        run: names the round; the log is the same in each.
        count: how many orders.
    """

    run: str
    count: int

    @property
    def units(self) -> int:
        """Events."""
        return PER_ORDER * self.count

    def rows(self) -> list[Row]:
        """What must be there afterwards."""
        found: list[Row] = [
            ("history", f"o{number}", "completed", total_of(number), total_of(number)) for number in range(self.count)
        ]
        pieces: dict[str, int] = {}
        taken: dict[str, tuple[int, int]] = {}
        for number in range(self.count):
            sku, day = f"S{number % SKUS}", f"2026-01-{1 + number % DAYS:02d}"
            pieces[sku] = pieces.get(sku, 0) + 1 + number % 3
            count, amount = taken.get(day, (0, 0))
            taken[day] = count + 1, amount + total_of(number)
        found += [("inventory", sku, "", 0, out) for sku, out in pieces.items()]
        return found + [("revenue", day, "", count, amount) for day, (count, amount) in taken.items()]


def total_of(number: int) -> int:
    """What an order costs."""
    return (1 + number % 3) * UNIT_PRICE


class _OnTheLog(Contender[Orders]):
    """Reads the engine's log, which is filled once."""

    async def open(self, servers: Servers) -> None:
        """A database with the projection's tables."""
        self.url = servers.shop("projection")
        with owner_engine(self.url).begin() as connection:
            orders.install(connection)
        self._filled = 0

    def prepare(self, work: Orders) -> None:
        """Fill the log, unless it has these orders, and empty the tables."""
        with psycopg.connect(self.url) as connection:
            if self._filled != work.count:
                connection.execute(UNFILL)
                connection.execute(FILL, {"orders": work.count, "skus": SKUS, "days": DAYS, "price": UNIT_PRICE})
                self._filled = work.count
            connection.execute(CLEAR)
            connection.execute(RESET)
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("vacuum analyze")

    async def left(self, work: Orders) -> Sequence[Row]:
        """The rows of all three tables."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(READ_BACK).fetchall()


class Ours(_OnTheLog):
    """The projector."""

    name = "Amends"
    note = "Projector: batches of 2,000 folded in memory, one statement a table, rows and checkpoint together"

    async def work(self, work: Orders) -> Sample:
        """Catch up with the head of the log."""
        await asyncio.to_thread(self.prepare, work)
        begun = perf_counter()
        async with open_pool(self.url, "projector", 2) as pool:
            await Projector(orders, pool, self.url).catch_up(await Feed(pool).head())
            return Sample(work.units, perf_counter() - begun)


class RowByRow(_OnTheLog):
    """What one writes first."""

    name = "row by row"
    note = "one transaction an event: its statements and the checkpoint; psycopg"

    async def work(self, work: Orders) -> Sample:
        """Every event by itself."""
        return await asyncio.to_thread(self._run, work)

    def _run(self, work: Orders) -> Sample:
        self.prepare(work)
        begun, at = perf_counter(), ("0", 0)
        with psycopg.connect(self.url, autocommit=True) as connection:
            while found := connection.execute(NEXT, at).fetchall():
                for xid, position, name, data, day in found:
                    with connection.transaction():
                        for statement in APPLY[name]:
                            connection.execute(statement, {**_flat(data), "day": day})
                        connection.execute(CHECKPOINT, (xid, position))
                    at = xid, position
            return Sample(work.units, perf_counter() - begun)


class InsertSelect(_OnTheLog):
    """The limit."""

    name = "INSERT … SELECT"
    note = "one statement a table over the whole log, in the server: what no reader in Python can beat"

    async def work(self, work: Orders) -> Sample:
        """Three statements."""
        return await asyncio.to_thread(self._run, work)

    def _run(self, work: Orders) -> Sample:
        self.prepare(work)
        begun = perf_counter()
        with psycopg.connect(self.url) as connection:
            for statement in INSERT_SELECT:
                connection.execute(statement)
            connection.commit()
        return Sample(work.units, perf_counter() - begun)


def _flat(data: dict[str, Any]) -> dict[str, Any]:
    money = data.get("total") or data.get("amount") or {}
    return {**{key: data.get(key) for key in ("order_id", "sku", "quantity")}, "amount": money.get("amount")}


def cases(scale: float) -> Sequence[Case[Orders]]:
    """A log that everybody can project in a while, and a long one for those who are fast."""
    few, many = max(20, round(1_000 * scale)), max(100, round(20_000 * scale))
    slow = frozenset({RowByRow.name, "eventsourcing"})
    return [
        Case(f"{few * PER_ORDER:,} events", partial(Orders, count=few), Orders.rows),
        Case(f"{many * PER_ORDER:,} events", partial(Orders, count=many), Orders.rows, without=slow),
    ]


PROJECTION = Benchmark(
    "projection",
    "Projection: order events into order history, inventory and daily revenue",
    "events/s",
    [Ours, *optional("eventsourcing_projection", "Runner"), RowByRow, InsertSelect],
    cases,
)
