"""Shows how a run went: tables for people, one JSON object for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import quantiles
from typing import Any

from rich.console import Console
from rich.table import Table

from amends import Money
from examples.demo.books import Books
from examples.demo.load import Result
from read_models.inventory_levels import LevelRow

__all__ = ["as_json", "show"]


def as_json(
    results: Sequence[Result],
    seconds: float,
    books: Books,
    invariants: Mapping[str, bool],
    web_ui: str | None,
    database_url: str,
) -> dict[str, Any]:
    """The run in figures; money in minor units by currency, times in milliseconds.

    Args:
        results: how each order of the run ended, as its caller was told.
        seconds: how long all of them took together.
        books: what views and ledger say; orders are those of the run, money that of all ended orders of this database.
        invariants: name → whether it holds.
        web_ui: where the sagas can be seen.
        database_url: where the views can be queried.
    """
    run = {result.outcome.order_id for result in results}
    mine = [order for order in books.orders if order.order_id in run]
    statuses = Counter(order.status for order in mine)
    return {
        "orders": {
            "placed": len(mine),
            "completed": statuses["completed"],
            "cancelled": statuses["cancelled"],
            "by_reason": dict(Counter(order.reason for order in mine if order.reason).most_common()),
        },
        "sagas_per_second": round(len(results) / seconds, 1),
        "latency_ms": _percentiles([result.seconds * 1000 for result in results]),
        "money": {
            row.currency: {"taken": row.taken, "refunded": row.refunded, "of_completed_orders": row.completed}
            for row in books.money
        },
        "invariants": dict(invariants),
        "web_ui": web_ui,
        "database_url": database_url,
    }


def show(figures: Mapping[str, Any], before: Sequence[LevelRow], after: Sequence[LevelRow], console: Console) -> None:
    """Print the tables.

    Args:
        figures: from `as_json`.
        before: stock before the orders.
        after: stock after them.
        console: where to.
    """
    orders = figures["orders"]
    table = Table("Orders", "", title="Orders by status", title_justify="left")
    table.add_row("completed", str(orders["completed"]))
    for reason, count in orders["by_reason"].items():
        table.add_row(f"cancelled: {reason}", str(count))
    table.add_row("placed", str(orders["placed"]), style="bold")
    console.print(table)
    console.print(_stock(before, after))
    console.print(_money(figures["money"]))
    latency = figures["latency_ms"]
    console.print(
        f"[bold]{figures['sagas_per_second']}[/bold] sagas/s, latency p50 {latency['p50']} ms, "
        f"p95 {latency['p95']} ms, p99 {latency['p99']} ms (transfers wait for their confirmation)"
    )
    for name, holds in figures["invariants"].items():
        console.print(f"[green]✔[/green] {name}" if holds else f"[red]✘ {name}[/red]")


def _stock(before: Sequence[LevelRow], after: Sequence[LevelRow]) -> Table:
    table = Table("SKU", title="Inventory before → after", title_justify="left")
    for column in ("on hand", "reserved", "committed", "available"):
        table.add_column(column, justify="right")
    was = {row.sku: row for row in before}
    for row in after:
        old = was.get(row.sku, row)
        table.add_row(
            row.sku,
            f"{old.on_hand} → {row.on_hand}",
            f"{old.reserved} → {row.reserved}",
            f"{old.committed} → {row.committed}",
            f"{old.available} → {row.available}",
        )
    return table


def _money(money: Mapping[str, Mapping[str, int]]) -> Table:
    table = Table("Money", title="Money by currency", title_justify="left")
    for column in ("taken", "refunded", "of completed orders"):
        table.add_column(column, justify="right")
    for currency, sums in money.items():
        table.add_row(currency, *(str(Money(amount=amount, currency=currency)) for amount in sums.values()))
    return table


def _percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    if len(milliseconds) < 2:
        return dict.fromkeys(("p50", "p95", "p99"), round(sum(milliseconds), 1))
    cuts = quantiles(milliseconds, n=100, method="inclusive")
    return {f"p{cut}": round(cuts[cut - 1], 1) for cut in (50, 95, 99)}
