"""What the commands share: telling people things, and finding the servers they mean."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer
from pydantic_core import to_json
from rich.console import Console

from amends.embedded import Running, running
from amends.errors import AmendsError, InvalidInput, StartupError
from amends.settings import Settings

__all__ = ["Json", "database_of", "print_json", "reached", "screen", "told_to_people"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]

screen = Console(stderr=True)
"""Where people are told what happens; answers go to standard output."""


def told_to_people(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command whose errors are shown without a stack trace: exit 2 for what was typed or set, else 1."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            screen.print("Stopped.", style="dim")
            sys.exit(130)
        except AmendsError as error:
            screen.print(f"[red]{type(error).__name__}[/red]: ", end="")
            screen.print(str(error), highlight=False, markup=False)
            sys.exit(2 if isinstance(error, (StartupError, InvalidInput)) else 1)

    return run


def reached(settings: Settings) -> Settings:
    """The settings with the addresses filled in of what `amends up` runs here, where none are set."""
    found: Running | None = None
    if settings.database_url is None or settings.temporal_address is None:
        found = running(settings.home)
    if found is None:
        return settings
    where = {"database_url": found.database_url, "temporal_address": found.temporal_address}
    kept = {name: value for name in where if (value := getattr(settings, name)) is not None}
    return Settings(**{**settings.model_dump(), **where, **kept})


def database_of(settings: Settings) -> str:
    """Address of the database that the settings name, or that `amends up` runs here.

    Raises:
        StartupError: there is neither.
    """
    url = reached(settings).database_url
    if url is None:
        raise StartupError("Say which database: set AMENDS_DATABASE_URL, or have `amends up` run in this folder")
    return url.get_secret_value()


def print_json(answer: Any) -> None:
    """Print an answer as JSON, for programs."""
    sys.stdout.write(to_json(answer, indent=2).decode() + "\n")
    sys.stdout.flush()
