"""Reads what the oracles judge: the provider's ledger, the views as people see them, and the same projected anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pydantic import BaseModel

from amends.app import App, install
from amends.database import open_pool
from amends.feed import Feed
from amends.projector import Projector

__all__ = [
    "Charge",
    "HistoryRow",
    "LevelRow",
    "Tables",
    "read_history",
    "read_ledger",
    "read_levels",
    "read_runs",
    "replayed",
    "served",
]

LEDGER = """
select payment_id, currency, amount, refunded,
       case when status in ('pending', 'authorised') and settles_at <= clock_timestamp() then settles_as else status end
from gateway.charges order by payment_id, created_at
"""
"""All that the provider was asked to take; what has come to its time counts as settled."""

HISTORY = "select order_id, status, reason, endings, open_returns, paid, refunded, total from views.order_history"
"""Orders as people see them."""

LEVELS = "select sku, on_hand, reserved, committed from views.inventory_levels order by sku"
"""Stock as people see it."""

RUNS = "select workflow_id, status from views.saga_runs"
"""Sagas as people see them."""

ROWS = "select to_jsonb(t) from {} t"
"""A whole table."""

Tables = Mapping[str, Sequence[Mapping[str, Any]]]
"""Rows of each table, in any order."""


class Charge(NamedTuple):
    """A line of the provider's ledger; amounts in minor units."""

    payment_id: str
    currency: str
    amount: int
    refunded: int
    status: str


class HistoryRow(BaseModel):
    """An order as `views.order_history` shows it; amounts in minor units."""

    order_id: str
    status: str | None
    reason: str | None
    endings: int
    open_returns: int
    paid: int
    refunded: int
    total: int


class LevelRow(BaseModel):
    """A product as `views.inventory_levels` shows it, in pieces."""

    sku: str
    on_hand: int
    reserved: int
    committed: int


async def read_ledger(url: str) -> list[Charge]:
    """The provider's books, from its own tables."""
    return [Charge(*row) for row in await _rows(url, LEDGER)]


async def read_history(url: str) -> list[HistoryRow]:
    """The orders' view."""
    return [HistoryRow(**dict(zip(HistoryRow.model_fields, row, strict=True))) for row in await _rows(url, HISTORY)]


async def read_levels(url: str) -> list[LevelRow]:
    """The stock's view."""
    return [LevelRow(**dict(zip(LevelRow.model_fields, row, strict=True))) for row in await _rows(url, LEVELS)]


async def read_runs(url: str) -> dict[str, str]:
    """The status of each saga in the sagas' view, by its workflow."""
    return {row[0]: row[1] for row in await _rows(url, RUNS)}


async def served(url: str, app: App) -> Tables:
    """All tables of the projections, as they are."""
    return {
        table.name: [row for (row,) in await _rows(url, ROWS.format(table))]
        for projection in app.projections
        for table in projection.metadata.sorted_tables
    }


async def replayed(url: str, app: App) -> Tables:
    """The same, projected anew from the first event on, into a database that is made for it and dropped."""
    async with _another_database(url) as fresh:
        await _install(app, fresh)
        async with open_pool(url, "projector", 2) as old, open_pool(fresh, "projector", 2) as new:
            feed = Feed(old)
            head = await feed.head()
            for projection in app.projections:
                await Projector(projection, new, fresh, feed=feed).catch_up(head)
        return await served(fresh, app)


async def _install(app: App, url: str) -> None:
    await asyncio.to_thread(install, app, url)


@asynccontextmanager
async def _another_database(url: str) -> AsyncIterator[str]:
    name = sql.Identifier("chaos_replay")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(sql.SQL("drop database if exists {} with (force)").format(name))
        await connection.execute(sql.SQL("create database {}").format(name))
        try:
            yield make_conninfo(url, dbname="chaos_replay")
        finally:
            await connection.execute(sql.SQL("drop database if exists {} with (force)").format(name))


async def _rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        return await (await connection.execute(statement.encode())).fetchall()
