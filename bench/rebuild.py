"""Rebuilds every read model of the shop: `python -m bench.rebuild [--events 1000000] [--batch 200] [--json]`.

A real PostgreSQL in a temporary folder is filled with orders, each a copy of one real story. Every read model is first
made by a replay in small batches, then rebuilt, one after the other, while orders go on being written and read.
The rebuild compares its rows with those of the replay; a reader looks all the while whether rows go missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import resource
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import structlog
from psycopg import AsyncConnection, sql
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from amends import Money
from amends.app import install
from amends.database import Pool, conninfo, open_pool
from amends.embedded import EmbeddedPostgres, free_port
from amends.feed import Feed
from amends.messages import Event
from amends.projection import Projection
from amends.projector import Projector
from amends.rebuild_request import RebuildRequest
from amends.rebuilding import rebuild
from app import app
from domain.order import OrderCompleted, OrderPlaced
from domain.payment import PaymentAuthorised, PaymentProcessed, PaymentRequested
from domain.stock import StockCommitted, StockReserved
from domain.values import PricedLine

__all__ = ["Figures", "main"]

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

NUMBER, CUSTOMER, SKU = "NNN", "CCC", "SSS"
"""Stand in the story for the order's number, its customer's and its product's."""

CUSTOMERS, PRODUCTS = 5_000, 200
"""How many customers and products the orders are spread over."""

MIB = 1024 if sys.platform == "linux" else 2**20
"""What the operating system counts memory in, in a mebibyte."""

AT_ONCE = 5_000
"""Orders written in one transaction while the log is filled."""

PAUSE = 0.02
"""Seconds between two orders that are written while it rebuilds."""

FILL = """
insert into amends.events (stream, version, name, schema_version, data, correlation_id, causation_id, command_id,
                           actor)
select replace(t.stream, 'NNN', n::text), t.version, t.name, t.schema_version,
       replace(replace(replace(t.data, 'NNN', n::text), 'CCC', (n %% {customers})::text),
               'SSS', (n %% {products})::text)::jsonb,
       'order-' || n, 'bench', 'bench-' || n || '-' || t.number, 'bench'
from generate_series(%s::bigint, %s::bigint) n,
     jsonb_to_recordset(%s::jsonb) as t (number integer, stream text, version integer, name text,
                                         schema_version smallint, data text)
order by n, t.number
"""
"""Write the story of some orders."""


@dataclass(frozen=True)
class Figures:
    """What the rebuild of one read model took.

    Args:
        projection: its name.
        events: in the log when it began.
        replay_seconds: the replay in small batches.
        seconds: the rebuild, from start to swap.
        rate: events a second of the rebuild.
        rows: in all its tables.
        equal: whether they are those of the replay.
        peak_mib: most memory of this process so far.
    """

    projection: str
    events: int
    replay_seconds: float
    seconds: float
    rate: float
    rows: int
    equal: bool
    peak_mib: float


def _story() -> list[dict[str, Any]]:
    """What happens to an order that goes well; its stock events have streams of their own, for nobody decides here."""
    order, payment, sku = f"o-{NUMBER}", f"p-{NUMBER}", f"SKU-{SKU}"
    total = Money(amount=2500, currency="EUR")
    line = PricedLine(sku=sku, quantity=2, unit_price=Money(amount=1250, currency="EUR"))
    about = {"payment_id": payment, "order_id": order}
    customer = f"c-{CUSTOMER}"
    told: list[tuple[str, Event]] = [
        (f"order-{order}", OrderPlaced(order_id=order, customer_id=customer, lines=(line,), total=total)),
        (f"stock-{sku}-{NUMBER}", StockReserved(sku=sku, reservation_id=order, quantity=2)),
        (f"payment-{payment}", PaymentRequested(**about, customer_id=customer, amount=total, method="card")),
        (f"payment-{payment}", PaymentAuthorised(**about, amount=total, provider_ref=f"ref-{NUMBER}")),
        (f"payment-{payment}", PaymentProcessed(**about, amount=total, provider_ref=f"ref-{NUMBER}")),
        (f"stock-{sku}-{NUMBER}", StockCommitted(sku=sku, reservation_id=order, quantity=2)),
        (f"order-{order}", OrderCompleted(order_id=order)),
    ]
    versions: dict[str, int] = {}
    story = []
    for number, (stream, event) in enumerate(told):
        versions[stream] = versions.get(stream, 0) + 1
        story.append(
            {
                "number": number,
                "stream": stream,
                "version": versions[stream],
                "name": event.message_name,
                "schema_version": event.schema_version,
                "data": event.model_dump_json(),
            }
        )
    return story


class _Log:
    """Orders in the log, and more of them."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection, self._story = connection, _story()
        self._fill = FILL.format(customers=CUSTOMERS, products=PRODUCTS).encode()
        self.orders = 0

    @property
    def each(self) -> int:
        """Events of an order."""
        return len(self._story)

    async def write(self, orders: int) -> None:
        """Write so many more orders, in one transaction."""
        arguments = (self.orders + 1, self.orders + orders, json.dumps(self._story))
        await self._connection.execute(self._fill, arguments)
        self.orders += orders


@asynccontextmanager
async def _traffic(url: str, pool: Pool, log: _Log, projections: Sequence[Projection]) -> AsyncIterator[None]:
    """Orders are written, followed and read while the block runs; a view that loses rows ends it all."""
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            await log.write(1)
            await asyncio.sleep(PAUSE)

    async def read() -> None:
        async with await AsyncConnection.connect(conninfo(url, "reader"), autocommit=True) as connection:
            seen: dict[str, int] = {}
            views = [table.name for each in projections for table in each.tables.values() if table.view]
            while not stop.is_set():
                for view in views:
                    count = sql.SQL("select count(*) from {}").format(sql.Identifier("views", view))
                    row = await (await connection.execute(count)).fetchone()
                    if row is None or row[0] < seen.get(view, 0):
                        raise RuntimeError(f"views.{view} had {seen[view]} rows, and then {row}")
                    seen[view] = row[0]
                    await asyncio.sleep(PAUSE)

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        group.create_task(read())
        for each in projections:
            for n in range(each.partitions):
                group.create_task(Projector(each, pool, url, partition=n).run(stop, lambda _: None))
        try:
            yield
        finally:
            stop.set()


async def _measure(url: str, events: int, batch: int, console: Console) -> list[Figures]:
    projections, figures, replays = app.projections, list[Figures](), dict[str, float]()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    async with (
        open_pool(url, "projector", 4 + len(projections)) as pool,
        await AsyncConnection.connect(conninfo(url, "owner"), autocommit=True) as writing,
    ):
        log = _Log(writing)
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("Events", total=events)
            while log.orders * log.each < events:
                await log.write(min(AT_ONCE, -(-(events - log.orders * log.each) // log.each)))
                progress.update(task, completed=log.orders * log.each)
            task = progress.add_task(f"Replays by {batch}", total=len(projections))
            at = await Feed(pool).head()
            for each in projections:
                began = perf_counter()
                for n in range(each.partitions):
                    await Projector(each, pool, url, partition=n, batch=batch).catch_up(at)
                replays[each.name] = perf_counter() - began
                progress.advance(task)
            task = progress.add_task("Rebuilds", total=len(projections))
            async with _traffic(url, pool, log, projections):
                for each in projections:
                    begun, there = perf_counter(), log.orders * log.each
                    request = RebuildRequest(name=each.name, version=each.version, actor="bench", reason="to measure")
                    done = await rebuild(each, url, request)
                    took = perf_counter() - begun
                    assert done.report is not None
                    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB
                    rows, equal = sum(table.new_rows for table in done.report.tables), done.outcome == "swapped"
                    figures.append(Figures(each.name, there, replays[each.name], took, there / took, rows, equal, peak))
                    progress.advance(task)
    return figures


def _table(figures: Sequence[Figures]) -> Table:
    table = Table(title="Rebuilds under writes and reads, compared with a replay in small batches")
    table.add_column("Read model")
    for column in ("Events", "Replay s", "Rebuild s", "Events/s", "Rows", "Equal", "Peak MiB"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in figures:
        told = (f"{each.replay_seconds:,.1f}", f"{each.seconds:,.1f}", f"{each.rate:,.0f}", f"{each.rows:,}")
        equal = "yes" if each.equal else "NO"
        table.add_row(each.projection, f"{each.events:,}", *told, equal, f"{each.peak_mib:,.0f}")
    return table


def main() -> int:
    """Measure and tell; returns the exit code: 1 when rows differ."""
    parser = argparse.ArgumentParser(prog="python -m bench.rebuild", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000, help="events in the log to begin with (1000000)")
    parser.add_argument("--batch", type=int, default=200, help="events in a transaction of the replay (200)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, for machines")
    options = parser.parse_args()
    if options.events < 1 or options.batch < 1:
        parser.error("--events and --batch must be 1 or more")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    screen = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="amends-bench-") as home:
        server = EmbeddedPostgres(Path(home), free_port())
        try:
            with screen.status("Starting PostgreSQL …"):
                server.start()
                server.wait_ready()
                install(app, server.url)
            figures = asyncio.run(_measure(server.url, options.events, options.batch, screen))
        except KeyboardInterrupt:
            screen.print("Stopped.", style="dim")
            return INTERRUPTED
        finally:
            server.stop()
    if options.json:
        print(json.dumps([asdict(each) for each in figures], indent=2))
    else:
        Console().print(_table(figures))
    return 0 if all(each.equal for each in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
