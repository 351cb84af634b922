"""`amends sql …`, for those who work on an application: the reference of its views, and what these promise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import psycopg
import typer

from amends.app import install, load_app
from amends.checking.scratch import scratch_server
from amends.cli.people import screen, told_to_people
from amends.database import conninfo
from amends.errors import InvalidInput
from amends.interface import PublicView, compare, promise, public_views, reference
from amends.settings import Settings

__all__ = ["sql"]


def docs(page: Annotated[Path, typer.Argument(help="A page with the marker; what is above it stays.")]) -> None:
    """Write the reference of the views, from their comments, to the end of a page."""
    written = _read(page)
    page.write_text(reference(written, _views()))
    screen.print(f"{page} describes the views as they are.")


def check(
    promised: Annotated[Path, typer.Argument(help="What the views have promised: their columns and types, as JSON.")],
    accept: Annotated[bool, typer.Option("--accept", help="Promise what has been added, too.")] = False,
) -> None:
    """Check that the views still are what was promised: columns may be added at the end, nothing else."""
    views = _views()
    difference = compare(_read(promised) if promised.exists() or not accept else "{}", views)
    for sentence in difference.broken:
        screen.print(sentence, style="red", highlight=False)
    if difference.broken:
        screen.print(f"Give those columns back; or, if nobody builds on them, take them out of {promised} by hand.")
        raise typer.Exit(1)
    if accept:
        promised.parent.mkdir(parents=True, exist_ok=True)
        promised.write_text(promise(views))
    for added in difference.added:
        screen.print(f"{'Promised' if accept else 'Not promised yet'}: {added}", highlight=False)
    screen.print("Nothing that was promised has changed.")


def sql() -> typer.Typer:
    """The group of commands."""
    group = typer.Typer(no_args_is_help=True, help="The views as an interface: their reference, and what they promise.")
    for command in (docs, check):
        group.command(command.__name__)(told_to_people(command))
    return group


def _views() -> list[PublicView]:
    with _database() as url, psycopg.connect(conninfo(url, "reader")) as connection:
        return public_views(connection)


@contextmanager
def _database() -> Iterator[str]:
    """The database that is set, as it is; without one, a passing one in which the application is installed."""
    settings = Settings()
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    app = load_app(settings.app)
    with scratch_server(None) as url:
        install(app, url)
        yield url


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise InvalidInput({str(path): f"can't be read: {error.strerror}"}) from error
