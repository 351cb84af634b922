"""`amends doctor`: whether the installation is well, and what disagrees after a restore."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated

import typer
from psycopg import AsyncConnection
from rich.table import Table
from rich.text import Text
from temporalio import workflow

from amends.app import App, load_app
from amends.cli.people import Json, answers, database_of, print_json, reached, screen
from amends.connect import connect
from amends.database import conninfo
from amends.doctor import Disagreement, Finding, Health, examine
from amends.doctor import reconcile as reconcile_
from amends.doctor.disagreement import Turn
from amends.doctor.knowledge import Log
from amends.errors import InvalidInput, StartupError
from amends.inspecting import moment
from amends.process import Process
from amends.settings import Settings

__all__ = ["doctor", "open_log"]

_SIGNS: dict[Health, tuple[str, str]] = {"well": ("✔", "green"), "wrong": ("✘", "red"), "unknown": ("?", "yellow")}


def doctor(
    reconcile: Annotated[
        bool, typer.Option("--reconcile", help="Compare the log with Temporal, after one of them was restored.")
    ] = False,
    since: Annotated[
        str | None, typer.Option(help="Compare only what ended, or was reacted to, since this time (UTC).")
    ] = None,
    json: Json = False,
) -> None:
    """Look whether all is well and say what to do where it is not; changes nothing; exit 1 where something is wrong."""
    settings = reached(Settings())
    if reconcile:
        _compare(settings, None if since is None else _time(since), json)
    elif since is not None:
        raise InvalidInput({"since": "goes with --reconcile"})
    else:
        _examine(settings, json)


@asynccontextmanager
async def open_log(settings: Settings) -> AsyncIterator[Log]:
    """The log, for questions; errors as psycopg has them."""
    url = conninfo(database_of(settings), "owner")
    async with await AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("set default_transaction_read_only = on")
        yield Log(connection)


def _examine(settings: Settings, json: bool) -> None:
    async def look() -> list[Finding]:
        return [finding async for finding in examine(settings, _app(settings))]

    found = asyncio.run(look())
    if json:
        print_json(found)
    else:
        table = Table("", "What", "How it is", "What to do")
        for each in found:
            sign, style = _SIGNS[each.health]
            table.add_row(Text(sign, style), each.what, each.told, each.advice)
        answers().print(table)
    if any(each.health == "wrong" for each in found):
        raise typer.Exit(1)


def _compare(settings: Settings, since: datetime | None, json: bool) -> None:
    app = load_app(settings.app)

    async def look() -> list[Disagreement]:
        client = await connect(settings)
        async with open_log(settings) as log:
            asked = reconcile_(log, client, settings.task_queue, _processes(app), app.process_managers, since)
            return sorted([each async for each in asked], key=lambda each: each.place)

    found = asyncio.run(look())
    if json:
        print_json(found)
    else:
        _show(found)
    if any(each.advice for each in found):
        raise typer.Exit(1)


def _show(found: list[Disagreement]) -> None:
    if not found:
        screen.print("The log and Temporal tell the same.")
        return
    out = answers()
    for number, (turn, group) in enumerate(groupby(found, key=lambda each: each.turn), 1):
        each = list(group)
        out.print(Text(f"{number}. {_HEADINGS[turn]}", "bold"), soft_wrap=True)
        for one in each:
            out.print(Text.assemble("  ", (one.subject, "bold"), f": {one.known}"), soft_wrap=True, highlight=False)
            out.print(f"    but    {one.missing}", soft_wrap=True, highlight=False)
            out.print(f"    to do  {one.advice or 'nothing: it goes on by itself'}", soft_wrap=True, highlight=False)
        again = [one.subject for one in each if one.advice.startswith("amends saga redo ")]
        if len(again) > 1:
            told = f"    all of these, one after another: amends saga redo {' '.join(again)} --actor … --reason …"
            out.print(told, soft_wrap=True, highlight=False)
    screen.print(
        "Begin with the first of these; when what was begun has ended, run this again: what comes later may be mended "
        "by then.",
        style="dim",
    )


_HEADINGS = {
    Turn.POSITIONS: "Places in the feed",
    Turn.WORK: "Commands, and sagas with their parts, as they were begun",
    Turn.REACTIONS: "Reactions to events",
    Turn.NOTHING: "What goes on by itself",
}


def _processes(app: App) -> list[str]:
    definitions = [workflow._Definition.must_from_class(each) for each in app.workflows if issubclass(each, Process)]
    return [definition.name for definition in definitions if definition.name is not None]


def _app(settings: Settings) -> App | None:
    try:
        return load_app(settings.app)
    except (StartupError, ImportError):
        return None


def _time(text: str) -> datetime:
    at = moment(text)
    if isinstance(at, int):
        raise InvalidInput({"since": f"{text!r} is no time, such as 2031-05-01T10:00"})
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise InvalidInput({"since": f"{text!r} is no time that there is in UTC"}) from None
