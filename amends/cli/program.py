"""Puts the command line together."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer
from pydantic import ValidationError

from amends.app import load_app
from amends.cli.checking import check
from amends.cli.deploying import deploy, versions
from amends.cli.doctor import doctor
from amends.cli.exporting import advance, export, restore
from amends.cli.following import compare_, follow
from amends.cli.importing import import_
from amends.cli.interface import sql
from amends.cli.looking import diagram, show, trace
from amends.cli.people import screen, told_to_people
from amends.cli.sagas import sagas
from amends.cli.servers import codec, migrate, up, worker
from amends.cli.views import views
from amends.errors import StartupError
from amends.leaving import leave
from amends.logs import configure_logs
from amends.settings import Settings

__all__ = ["main", "program"]

COMMANDS: tuple[Callable[..., Any], ...] = (
    up,
    worker,
    migrate,
    codec,
    show,
    trace,
    diagram,
    check,
    deploy,
    versions,
    import_,
    follow,
    compare_,
    export,
    restore,
    advance,
    doctor,
)
"""The engine's own commands."""


def main() -> None:
    """Run the command line; errors made for people are shown as such, without a stack trace."""
    try:
        settings = Settings()
    except StartupError as error:
        screen.print(str(error), style="red")
        sys.exit(2)
    except ValidationError as error:
        for found in error.errors():
            told = found["msg"].removeprefix("Value error, ")
            screen.print(f"AMENDS_{'_'.join(map(str, found['loc'])).upper()}: {told}", style="red")
        sys.exit(2)
    configure_logs(settings)
    try:
        program(settings)()
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else int(end.code is not None))


def program(settings: Settings) -> typer.Typer:
    """The command line: the engine's commands and those of the application.

    Args:
        settings: say which application.
    """
    line = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    line.callback()(_about)
    engine = {command.__name__.rstrip("_"): command for command in COMMANDS}
    for name, function in {**engine, **_of_app(settings)}.items():
        line.command(name)(told_to_people(function))
    line.add_typer(sagas(), name="saga")
    line.add_typer(views(), name="views")
    line.add_typer(sql(), name="sql", hidden=True)
    return line


def _about() -> None:
    """Durable sagas that put things right."""


def _of_app(settings: Settings) -> dict[str, Callable[..., Any]]:
    """The application's own commands; none outside its folder."""
    try:
        return dict(load_app(settings.app).commands)
    except StartupError:
        return {}
