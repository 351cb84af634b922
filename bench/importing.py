"""How fast records of another system are taken over: `python -m bench.importing [--records 100000] [--json]`.

A real PostgreSQL in a temporary folder and a file of customers, products, stock and past orders, imported twice: all of
it is new first, and nothing of it then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from amends.app import install
from amends.embedded import EmbeddedPostgres, free_port
from amends.importing.importer import Importer
from amends.importing.reading import candidates, read_jsonl
from amends.importing.report import Entry, Summary
from amends.importing.session import importing
from app import app
from bench.memory import peak

__all__ = ["main", "records"]


def records(count: int) -> Iterator[dict[str, Any]]:
    """So many records: of ten, three customers, one product, one stock and five past orders.

    Args:
        count: how many.
    """
    for block in range(-(-count // 10)):
        number, price = block * 10, {"amount": 450 + block % 100, "currency": "EUR"}
        made: list[dict[str, Any]] = [
            {
                "kind": "customer",
                "id": number + n,
                "name": f"Customer {number + n}",
                "email": f"c{number + n}@example.org",
                "member_since": "2019-05-01T10:00:00Z",
            }
            for n in range(3)
        ]
        made.append({"kind": "product", "id": f"SKU-{block}", "name": f"Product {block}", "price": price})
        made.append({"kind": "stock", "id": f"SKU-{block}", "quantity": 1 + block % 500})
        made += [
            {
                "kind": "order",
                "id": f"O-{number + n}",
                "customer_id": number + n % 3,
                "lines": [{"sku": f"SKU-{block}", "quantity": 1 + n, "unit_price": price}],
                "status": "cancelled" if n == 4 else "completed",
                "placed_at": "2020-01-01T10:00:00Z",
                "ended_at": "2020-01-02T10:00:00Z",
            }
            for n in range(5)
        ]
        yield from made[: count - number]


async def measure(count: int) -> dict[str, Any]:
    """Import a file twice.

    Args:
        count: records in it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "legacy.jsonl"
        with path.open("w") as file:
            file.writelines(json.dumps(record) + "\n" for record in records(count))
        server = EmbeddedPostgres(Path(folder) / "postgres", free_port())
        try:
            server.start()
            server.wait_ready()
            install(app, server.url)
            return {
                "records": count,
                "megabytes": round(path.stat().st_size / 1e6, 1),
                "first": _figures(await _import(server.url, path)),
                "again": _figures(await _import(server.url, path)),
                "peak_memory_mb": round(peak()),
            }
        finally:
            server.stop()


async def _import(url: str, path: Path) -> Summary:
    rejected: list[Entry] = []
    async with importing(url, app.aggregates, "bench") as (connection, bulk):
        importer = Importer(bulk, "bench", "bench", rejected.append)
        return await importer.run(connection, candidates(read_jsonl(path), app.imports), asyncio.Event())


def _figures(summary: Summary) -> dict[str, Any]:
    return {
        "imported": summary.imported,
        "already": summary.already,
        "rejected": summary.rejected,
        "seconds": round(summary.seconds, 2),
        "records_per_second": round(summary.rate),
    }


def main() -> int:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--records", type=int, default=100_000)
    arguments.add_argument("--json", action="store_true")
    chosen = arguments.parse_args()
    figures = asyncio.run(measure(chosen.records))
    if chosen.json:
        sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    else:
        Console().print(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
