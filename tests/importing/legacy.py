"""Another system's records, as files of the test, and what has become of them here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection, sql

from amends.database import conninfo, open_pool
from amends.feed import Feed
from amends.projector import Projector
from app import app

__all__ = ["customer", "euros", "order", "product", "projected", "rows", "said", "stock", "write"]


def euros(cents: int) -> dict[str, Any]:
    return {"amount": cents, "currency": "EUR"}


def customer(id: str | int, **fields: Any) -> dict[str, Any]:
    return {"kind": "customer", "id": id, "name": f"Customer {id}", "email": f"{id}@example.org"} | fields


def product(id: str | int, cents: int = 450, **fields: Any) -> dict[str, Any]:
    return {"kind": "product", "id": id, "name": f"Product {id}", "price": euros(cents)} | fields


def stock(id: str | int, quantity: int) -> dict[str, Any]:
    return {"kind": "stock", "id": id, "quantity": quantity}


def order(id: str | int, customer_id: str | int, **fields: Any) -> dict[str, Any]:
    return {
        "kind": "order",
        "id": id,
        "customer_id": customer_id,
        "lines": [{"sku": "TEA", "quantity": 2, "unit_price": euros(450)}],
        "status": "completed",
        "placed_at": "2019-03-01T10:00:00Z",
        "ended_at": "2019-03-03T12:00:00+01:00",
    } | fields


def write(path: Path, records: Iterable[dict[str, Any] | bytes]) -> Path:
    """A file with one record a line; bytes stand there as they are."""
    lines = (each if isinstance(each, bytes) else json.dumps(each).encode() for each in records)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def said(path: Path) -> list[dict[str, Any]]:
    """What a report says; nothing where there is none."""
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


async def rows(url: str, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    async with await AsyncConnection.connect(conninfo(url, "owner"), autocommit=True) as connection:
        return await (await connection.execute(sql.SQL(query), parameters or None)).fetchall()


async def projected(url: str) -> None:
    """Bring every read model up to the end of the log."""
    async with open_pool(url, "projector", 2) as pool:
        head = await Feed(pool).head()
        for projection in app.projections:
            await Projector(projection, pool, url).catch_up(head)
