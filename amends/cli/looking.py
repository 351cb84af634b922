"""Commands that show what is there and what has happened; they change nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from amends.app import load_app
from amends.cli.history import show_history
from amends.cli.people import Json, answers, database_of, print_json
from amends.cli.tree import show_trace
from amends.database import Pool, open_pool
from amends.diagram import mermaid
from amends.errors import InvalidInput
from amends.inspecting import history_of, moment
from amends.outline import outline
from amends.settings import Settings
from amends.trace import Trace, trace_of

__all__ = ["diagram", "show", "trace"]

T = TypeVar("T")


def diagram(
    process: Annotated[str, typer.Argument(help="A process, by the name of its workflow, e.g. PlaceOrder.")],
    json: Json = False,
) -> None:
    """Draw a process as a mermaid flowchart: its steps, the way back, how it can end."""
    known = {each.process: each for each in map(outline, load_app(Settings().app).workflows)}
    if process not in known:
        raise InvalidInput({"process": f"there is no {process!r}; there are {', '.join(sorted(known))}"})
    if json:
        print_json(known[process])
    else:
        sys.stdout.write(mermaid(known[process]))


def show(
    stream: Annotated[str, typer.Argument(help="Kind and key of a thing, e.g. order-4711.")],
    at: Annotated[str | None, typer.Option(help="A version, or a time (UTC without a zone).")] = None,
    last: Annotated[int | None, typer.Option(min=1, help="So many of the latest events only.")] = None,
    json: Json = False,
) -> None:
    """Show a thing then and now, event by event; personal data are masked."""
    settings = Settings()
    aggregates = load_app(settings.app).aggregates
    when = None if at is None else moment(at)
    history = _asked(settings, lambda log, _: history_of(log, aggregates, stream, when, last))
    if json:
        print_json(history)
    else:
        show_history(history, answers())


def trace(
    id: Annotated[str, typer.Argument(help="A workflow, command or stream, or the key of a thing, e.g. 4711.")],
    json: Json = False,
) -> None:
    """Show what belongs to one piece of business: workflows, commands, events, and who has read them."""
    settings = Settings()
    app = load_app(settings.app)

    async def ask(log: Pool, views: Pool) -> Trace:
        return await trace_of(log, views, app.aggregates, app.projections, app.process_managers, id)

    found = _asked(settings, ask)
    if json:
        print_json(found)
    else:
        show_trace(found, answers())


def _asked(settings: Settings, question: Callable[[Pool, Pool], Awaitable[T]]) -> T:
    """Put a question to the log and the views; the log is the writer's, for readers have the views alone."""
    secret = database_of(settings)

    async def ask() -> T:
        async with open_pool(secret, "writer", 1) as log, open_pool(secret, "reader", 1) as views:
            return await question(log, views)

    return asyncio.run(ask())
