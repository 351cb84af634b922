"""`amends check`: whether this code may follow what has been released."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from amends.app import load_app
from amends.checking import check as look
from amends.cli.people import Json, answers, print_json, screen
from amends.logs import configure_logs
from amends.settings import Settings

__all__ = ["check"]


def check(
    accept: Annotated[
        bool, typer.Option("--accept", help="Write down what is new; what is there is never changed.")
    ] = False,
    released: Annotated[
        Path | None, typer.Option(help="Folder of what has been released; the application's own without it.")
    ] = None,
    histories: Annotated[
        Path | None, typer.Option(help="Folder of histories to replay; the application's own without it.")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(help="A PostgreSQL to make scratch databases on, and drop them; an embedded one without it."),
    ] = None,
    json: Json = False,
) -> None:
    """Check whether this code may follow what has been released; exit 1 when it may not, with how to mend it.

    No database of yours is touched.
    """
    settings = Settings()
    app = load_app(settings.app)
    configure_logs(settings.model_copy(update={"log_level": "error"}))  # of databases that nobody will see again
    verdict = asyncio.run(look(app, settings, released=released, histories=histories, server=server, accept=accept))
    if json:
        print_json(verdict)
    else:
        table = Table("Checked", "", "Looked at")
        for part in verdict.parts:
            bad = len(part.failures)
            table.add_row(part.name, f"✘ {bad}" if bad else "✔", part.looked_at, style="red" if bad else None)
        answers().print(table)
    for part in verdict.parts:
        for path in part.accepted:
            screen.print(f"Written: {path}", highlight=False, soft_wrap=True)
        for failure in part.failures:
            screen.print(f"✘ {failure.what}", style="red", highlight=False, soft_wrap=True)
            screen.print(f"  {failure.mend}", highlight=False, soft_wrap=True)
    if not verdict.good:
        raise typer.Exit(1)
    screen.print("This code may follow what has been released.", style="green")
