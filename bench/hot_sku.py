"""How the cost of a command develops on one hot product: `python -m bench.hot_sku [--reservations 10000] [--json]`.

A real PostgreSQL in a temporary folder, one command handler, one stock item, commands one after the other, so that a
command's time is its cost. Two stories: each reservation is handed out some others later, and none ever is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from uuid import uuid4

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from amends import Command, Context
from amends.database import open_pool
from amends.embedded import EmbeddedPostgres, free_port
from amends.handler import CommandHandler
from amends.schema import migrate, owner_engine
from amends.store import EventStore
from domain.stock import CommitStock, ReceiveStock, ReserveStock, StockItem

__all__ = ["Cost", "main"]

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

WARM_UP = 2_000
"""Commands before the first measured one, on another product: the server's caches and plans are made by then."""

MEANWHILE = 50
"""Reservations that are made before one is handed out."""

DELIVERY = 1_000_000
"""Pieces in one delivery, the most that a command takes."""


@dataclass(frozen=True)
class Cost:
    """What the commands of one kind cost, in milliseconds.

    Args:
        story: which of the two.
        command: message name.
        count: how many.
        first: mean of the first tenth.
        last: mean of the last tenth.
        first_median: median of the first tenth.
        last_median: median of the last tenth.
        ratio: last mean through first mean.
    """

    story: str
    command: str
    count: int
    first: float
    last: float
    first_median: float
    last_median: float
    ratio: float

    @classmethod
    def of(cls, story: str, command: str, seconds: list[float]) -> Cost:
        """Compare the first and the last tenth of what was measured."""
        tenth = max(1, len(seconds) // 10)
        first, last = ([1000 * each for each in part] for part in (seconds[:tenth], seconds[-tenth:]))
        ratio = fmean(last) / fmean(first)
        return cls(story, command, len(seconds), fmean(first), fmean(last), median(first), median(last), ratio)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Commands a second, of late."""
        return Text(f"{task.speed or 0:,.0f} commands/s")


def _handed_out(sku: str, reservations: int) -> Iterator[Command]:
    for number in range(reservations + MEANWHILE):
        if number < reservations:
            yield ReserveStock(sku=sku, reservation_id=f"r{number}", quantity=1)
        if number >= MEANWHILE:
            yield CommitStock(sku=sku, reservation_id=f"r{number - MEANWHILE}")


def _left_open(sku: str, reservations: int) -> Iterator[Command]:
    for number in range(reservations):
        yield ReserveStock(sku=sku, reservation_id=f"r{number}", quantity=1)


async def _send(
    handler: CommandHandler, commands: Iterable[Command], sent: Callable[[], None]
) -> dict[str, list[float]]:
    """Send them one after the other; seconds of each, by the command's name."""
    seconds: dict[str, list[float]] = {}
    for command in commands:
        id = uuid4().hex
        about = Context(command_id=id, actor="bench", correlation_id=id, causation_id=id)
        begun = perf_counter()
        receipt = await handler.handle(command, about)
        seconds.setdefault(command.message_name, []).append(perf_counter() - begun)
        receipt.raise_refusal()
        sent()
    return seconds


async def _measure(url: str, reservations: int, console: Console) -> list[Cost]:
    costs = []
    async with open_pool(url, "writer", 1) as pool:
        handler = CommandHandler(EventStore(pool), [StockItem])

        async def fill(sku: str) -> None:
            deliveries = -(-reservations // DELIVERY)
            await _send(handler, [ReceiveStock(sku=sku, quantity=DELIVERY)] * deliveries, lambda: None)

        warm = f"warm-{uuid4().hex}"
        await _send(handler, [ReceiveStock(sku=warm, quantity=1)] * WARM_UP, lambda: None)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as progress:
            stories = [("handed out", _handed_out, 2), ("left open", _left_open, 1)]
            tasks = [progress.add_task(name, total=reservations * each) for name, _, each in stories]
            for task, (name, commands, _) in zip(tasks, stories, strict=True):
                sku = f"hot-{uuid4().hex}"
                await fill(sku)
                measured = await _send(handler, commands(sku, reservations), lambda task=task: progress.advance(task))  # type: ignore[misc]
                costs += [Cost.of(name, command, seconds) for command, seconds in measured.items()]
    return costs


def _table(costs: list[Cost]) -> Table:
    table = Table(title="Cost of a command on one hot product, in milliseconds (mean / median)")
    table.add_column("Reservations")
    table.add_column("Command")
    for column in ("Sent", "First tenth", "Last tenth", "Ratio"):
        table.add_column(column, justify="right", no_wrap=True)
    for cost in costs:
        first, last = f"{cost.first:.3f} / {cost.first_median:.3f}", f"{cost.last:.3f} / {cost.last_median:.3f}"
        table.add_row(cost.story, cost.command, f"{cost.count:,}", first, last, f"{cost.ratio:.2f}")
    return table


def main() -> int:
    """Measure and tell; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.hot_sku", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reservations", type=int, default=10_000, help="reservations in each story (10000)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, for machines")
    options = parser.parse_args()
    if options.reservations < 1:
        parser.error("--reservations must be 1 or more")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    screen = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="amends-bench-") as home:
        server = EmbeddedPostgres(Path(home), free_port())
        try:
            with screen.status("Starting PostgreSQL …"):
                server.start()
                server.wait_ready()
                with owner_engine(server.url).begin() as connection:
                    migrate(connection)
            costs = asyncio.run(_measure(server.url, options.reservations, screen))
        except KeyboardInterrupt:
            screen.print("Stopped.", style="dim")
            return INTERRUPTED
        finally:
            server.stop()
    if options.json:
        print(json.dumps([asdict(cost) for cost in costs], indent=2))
    else:
        Console().print(_table(costs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
