"""Commands that write the whole log to a file, make an empty database of it again, and fit a dump into its cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from amends.app import load_app
from amends.cli.people import database_of, screen
from amends.database import conninfo
from amends.errors import InvalidInput, ServerFailed, StartupError
from amends.exporting import export_log
from amends.restoring import restore_log
from amends.settings import Settings
from amends.transactions import advance as advance_

__all__ = ["advance", "export", "restore"]

OWNER_ONLY = 0o600
"""Who may read an export: it holds personal data."""


def export(
    file: Annotated[Path | None, typer.Argument(help="Where to; standard output when not given.")] = None,
) -> None:
    """Write the whole log as JSON lines, personal data included; work goes on meanwhile."""
    settings = Settings()
    managers = [manager.name for manager in load_app(settings.app).process_managers]
    columns = (TextColumn("Rows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with _owner(settings) as connection, Progress(*columns, console=screen, transient=True) as progress:
        task = progress.add_task("", total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        if file is None:
            rows = export_log(connection, sys.stdout.buffer, managers, show)
            sys.stdout.buffer.flush()
        else:
            rows = _to_file(connection, file, managers, show)
    screen.print(f"Exported {_told(rows)}.", highlight=False)


def restore(
    file: Annotated[Path, typer.Argument(help="As `amends export` wrote it.")],
) -> None:
    """Make an empty, migrated database what an exported log says; all of it or nothing."""
    settings = Settings()
    managers = load_app(settings.app).process_managers
    columns = (BarColumn(), DownloadColumn(), TextColumn("{task.fields[told]}", markup=False))
    try:
        opened = file.open("rb")
    except OSError as error:
        raise InvalidInput({"file": f"{file} can't be read: {error.strerror}"}) from error
    with opened, _owner(settings) as connection, Progress(*columns, console=screen, transient=True) as progress:
        task = progress.add_task("", total=file.stat().st_size, told="")
        rows = restore_log(
            connection, opened, managers, lambda done, told: progress.update(task, completed=done, told=told)
        )
    screen.print(f"Restored {_told(rows)}. The read models follow as soon as a worker runs.", highlight=False)


def advance(
    past: Annotated[
        int, typer.Option(min=0, help="Also past this transaction, for positions that somebody still holds.")
    ] = 0,
) -> None:
    """Let transaction ids pass until those of the log are past: after a dump was restored into another cluster."""
    columns = (TextColumn("Transaction ids"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with _owner(Settings()) as connection, Progress(*columns, console=screen, transient=True) as progress:
        task = progress.add_task("", total=None)
        done = advance_(connection, past, lambda done, total: progress.update(task, completed=done, total=total))
    screen.print(f"{done.passed:,} transaction ids have passed; the next one is {done.next}.", highlight=False)
    if done.before_their_turn:
        screen.print(
            f"{done.before_their_turn:,} events were written before that, and come before the others in the feed: let "
            "`amends views rebuild` read all of it, projection by projection; process managers have passed them over.",
            style="red",
            highlight=False,
        )


@contextmanager
def _owner(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the schema's owner; what goes wrong with it is told as an error for people."""
    try:
        with psycopg.connect(conninfo(database_of(settings, owner=True), "owner"), autocommit=True) as connection:
            yield connection
    except psycopg.errors.UndefinedTable as error:
        raise StartupError(f"The schema is not up to date: {error}. Run `amends migrate` first") from error
    except psycopg.OperationalError as error:
        raise ServerFailed(f"PostgreSQL: {error}. See AMENDS_DATABASE_URL; nothing was changed") from error


def _to_file(connection: psycopg.Connection[Any], file: Path, managers: list[str], show: Any) -> dict[str, int]:
    """Write a file that is there as a whole, or not at all."""
    part = file.with_name(f"{file.name}.part")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY), "wb") as opened:
            rows = export_log(connection, opened, managers, show)
            opened.flush()
            os.fsync(opened.fileno())
        part.replace(file)
    except OSError as error:
        raise InvalidInput({"file": f"{file} can't be written: {error.strerror}"}) from error
    finally:
        part.unlink(missing_ok=True)
    return rows


def _told(rows: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in rows.items() if count) or "nothing"
