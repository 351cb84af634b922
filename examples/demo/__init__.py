"""`amends demo`: real orders through real servers, and the books checked at the end."""

from __future__ import annotations

import asyncio
import json as json_
import sys
from contextlib import ExitStack
from datetime import datetime
from time import perf_counter
from typing import Annotated, Any
from uuid import uuid4

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from amends.database import reader_url
from amends.embedded import Running, Stack, running
from amends.settings import Settings

__all__ = ["demo"]

LOOK_SECONDS = 0.2
"""How often the demo looks after the servers it has started."""


def demo(
    orders: Annotated[int, typer.Option(min=1, max=100_000, help="How many orders to place.")] = 200,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the servers running afterwards, until Ctrl-C.")] = False,
) -> None:
    """Place orders through real servers: most succeed, some are declined, out of stock or cancelled."""
    from amends.cli import open_stack, shown_url
    from app import app

    settings, console = Settings(), Console(stderr=json)
    found = _own_servers(settings) or running(settings.home)
    with ExitStack() as ending:
        stack = None
        if found is None:
            with console.status("Starting PostgreSQL, Temporal and a worker …"):
                stack = ending.enter_context(open_stack(app, settings))
            found = stack.running
        figures = asyncio.run(_guarded(_run(settings, found, orders, console), stack))
        if json:
            sys.stdout.write(json_.dumps(figures, indent=2) + "\n")
            sys.stdout.flush()
        _say_where(console, found, shown_url(found, settings), stays=keep or stack is None)
        if keep and stack is not None:
            console.print("Ctrl-C ends the servers; the data stay.", style="dim")
            stack.run()
    if not all(figures["invariants"].values()):
        sys.exit(1)


async def _run(settings: Settings, where: Running, orders: int, console: Console) -> dict[str, Any]:
    """Set up, place, read, check, show."""
    from amends.cli import shown_url
    from client import Shop
    from examples.demo.books import check, read_books
    from examples.demo.load import make_plans, place_all, set_up
    from examples.demo.report import as_json, show
    from read_models import inventory_levels

    run = f"demo-{datetime.now():%m%d-%H%M%S}-{uuid4().hex[:4]}"
    reach = {"database_url": SecretStr(where.database_url), "temporal_address": where.temporal_address}
    async with await Shop.connect(settings.model_copy(update=reach), actor="demo") as shop:
        with console.status("Filling the catalogue and the shelves …"):
            plans = make_plans(run, orders)
            await set_up(shop, run, plans)
            before = await shop.query(inventory_levels.levels())
        with _progress(console) as progress:
            start = perf_counter()
            results = await place_all(shop, plans, progress)
            seconds = perf_counter() - start
        with console.status("Checking the books …"):
            books = await read_books(shop, where.database_url)
    invariants = check(books, results)
    figures = as_json(results, seconds, books, invariants, where.web_ui, shown_url(where, settings))
    if not console.stderr:
        show(figures, before, books.levels, console)
    return figures


async def _guarded(work: Any, stack: Stack | None) -> Any:
    """Do the work while looking after the servers: what dies is started again, Ctrl-C ends the work."""
    task = asyncio.ensure_future(work)
    while not task.done():
        await asyncio.wait({task}, timeout=LOOK_SECONDS)
        if stack is None:
            continue
        if stack.stop_requested:
            task.cancel()
            await asyncio.wait({task})
            raise KeyboardInterrupt
        stack.check()
    return task.result()


def _own_servers(settings: Settings) -> Running | None:
    """Servers of one's own, when both are set; their worker runs elsewhere."""
    if settings.database_url is None or settings.temporal_address is None:
        return None
    return Running(0, settings.database_url.get_secret_value(), settings.temporal_address, settings.temporal_ui)


def _say_where(console: Console, where: Running, shown: str, *, stays: bool) -> None:
    later = "" if stays else "  (they have ended now; `amends up` shows all of it again)"
    console.print(f"Web UI     {where.web_ui}{later}", highlight=False, soft_wrap=True)
    console.print(f"SQL        {reader_url(shown)}", highlight=False, soft_wrap=True)


class _Rate(ProgressColumn):
    """So many orders a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.1f}/s")


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeElapsedColumn())
    return Progress(*columns, console=console)
