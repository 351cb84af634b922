"""What the commands share: telling people things, and finding the servers they mean."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from psycopg.errors import InsufficientPrivilege
from pydantic_core import to_json
from rich.console import Console
from rich.text import Text
from temporalio.service import RPCError

from amends.connections import AWAY, database_away
from amends.embedded import Running, running
from amends.errors import AmendsError, InvalidInput, StartupError
from amends.outages import first_line, temporal_away
from amends.settings import Settings
from amends.values import bad_texts

__all__ = ["Json", "answers", "database_of", "print_json", "reached", "screen", "told_to_people"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]


LONGEST = 4_096
"""Most characters of what is typed, other input for a step aside: as long as a path may be."""

TOO_LONG = f"is longer than {LONGEST:,} characters"


def _is_too_long(name: str, typed: Any) -> bool:
    return name != "input" and isinstance(typed, str | Path) and len(str(typed)) > LONGEST


def _plain(*, stderr: bool) -> Console:
    """What stands in brackets or colons is what somebody has written, not how it is to look."""
    return Console(stderr=stderr, markup=False, emoji=False)


screen = _plain(stderr=True)
"""Where people are told what happens; answers go to standard output."""


def answers() -> Console:
    """Where answers for people go, as wide as the terminal is now."""
    return _plain(stderr=False)


def told_to_people(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command whose errors are shown without a stack trace: exit 2 for what was typed or set, else 1."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            if problems := bad_texts(kwargs):  # bytes that are no UTF-8 come as halves of surrogate pairs
                raise InvalidInput(dict.fromkeys(problems, "is no UTF-8"))
            if problems := {name: TOO_LONG for name, typed in kwargs.items() if _is_too_long(name, typed)}:
                raise InvalidInput(problems)
            command(*args, **kwargs)
        except KeyboardInterrupt:
            screen.print("Stopped.", style="dim")
            sys.exit(130)
        except AmendsError as error:
            _fail(error)
        except InsufficientPrivilege as error:
            _fail(_not_allowed(error))
        except AWAY as error:
            _fail(database_away(error))
        except RPCError as error:
            _fail(temporal_away(error))

    return run


def _not_allowed(error: InsufficientPrivilege) -> StartupError:
    return StartupError(
        f"PostgreSQL does not let this login do that: {first_line(error)}. Set AMENDS_OWNER_URL to a login that owns "
        "the schema where it is to be changed, and AMENDS_DATABASE_URL to one with the roles of docs/security.md"
    )


def _fail(error: AmendsError) -> NoReturn:
    screen.print(Text.assemble((type(error).__name__, "red"), f": {error}"))
    sys.exit(2 if isinstance(error, (StartupError, InvalidInput)) else 1)


def reached(settings: Settings) -> Settings:
    """The settings with the addresses filled in of what `amends up` runs here, where none are set."""
    found: Running | None = None
    if settings.database_url is None or settings.temporal_address is None:
        found = running(settings.home)
    if found is None:
        return settings
    where: dict[str, Any] = {"database_url": found.database_url, "temporal_address": found.temporal_address}
    kept = {name: value for name in where if (value := getattr(settings, name)) is not None}
    owner = {"owner_url": settings.owner_url if settings.database_url is not None else None}
    return Settings(**{**settings.model_dump(), **where, **owner, **kept})


def database_of(settings: Settings, *, owner: bool = False) -> str:
    """Address of the database that the settings name, or that `amends up` runs here.

    Args:
        settings: of this process.
        owner: by a login that may change the schema.

    Raises:
        StartupError: there is neither.
    """
    found = reached(settings)
    url = found.owner if owner else found.database_url
    if url is None:
        raise StartupError("Say which database: set AMENDS_DATABASE_URL, or have `amends up` run in this folder")
    return url.get_secret_value()


def print_json(answer: Any) -> None:
    """Print an answer as JSON, for programs."""
    sys.stdout.write(to_json(answer, indent=2).decode() + "\n")
    sys.stdout.flush()
