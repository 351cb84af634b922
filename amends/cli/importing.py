"""Commands for coming from another system: import a file, compare with it, follow its tables."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from amends.app import App, load_app
from amends.cli.people import Json, answers, database_of, print_json, screen
from amends.errors import InvalidInput, StartupError
from amends.importing.importer import Importer
from amends.importing.mapping import load_mapping
from amends.importing.reading import Line, read_csv, read_jsonl
from amends.importing.reading import candidates as records_of
from amends.importing.report import Report, Summary
from amends.importing.session import importing
from amends.settings import Settings

__all__ = ["INCOMPLETE", "import_"]

INCOMPLETE = 3
"""Exit code when some records were not taken over."""

STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""

Source = Annotated[
    str,
    typer.Option("--source", help="Name of the other system: with the key, what makes a record the same one again."),
]
Actor = Annotated[str, typer.Option("--actor", help="In whose name, for the audit log.")]
Map = Annotated[Path | None, typer.Option("--map", help="For CSV: which column becomes which field (TOML or JSON).")]


def import_(
    file: Annotated[Path, typer.Argument(help="One JSON object a line, or CSV with a --map.")],
    map: Map = None,
    source: Source = "legacy",
    report: Annotated[Path | None, typer.Option(help="What was not taken over; FILE.rejected.jsonl otherwise.")] = None,
    actor: Actor = "import",
    json: Json = False,
) -> None:
    """Take the records of a file over, each once: run it again after a stop, a crash, or a mended file."""
    settings = Settings()
    app = app_with_records(settings)
    lines, size = lines_of(file, map), file.stat().st_size
    told = Report(report or file.with_name(f"{file.name}.rejected.jsonl"))

    async def run() -> Summary:
        stop = asyncio.Event()
        with stopping(stop), told, bar(size) as progress:
            async with importing(database_of(settings), app.aggregates, source) as (connection, bulk):
                importer = Importer(bulk, source, actor, told.write)

                def show(done: int, summary: Summary) -> None:
                    progress.update(
                        progress.task_ids[0],
                        completed=done,
                        told=f"{summary.read} records, {summary.rate:.0f}/s, {summary.rejected} rejected",
                    )

                summary = await importer.run(connection, records_of(lines, app.imports), stop, show)
                if not summary.stopped:
                    show(size, summary)
                return summary

    summary = asyncio.run(run())
    if json:
        print_json({**summary_of(summary), "report": None if summary.complete else str(told.path)})
    else:
        show_summary(summary)
    if summary.rejected or summary.changed:
        screen.print(f"Each record that was not taken over stands in {told.path}", highlight=False, soft_wrap=True)
    if summary.stopped:
        screen.print("Stopped between two batches; run the same again, and it goes on from there.")
        raise typer.Exit(STOPPED)
    if not summary.complete:
        raise typer.Exit(INCOMPLETE)


def app_with_records(settings: Settings) -> App:
    """The application, which must say what records of other systems become.

    Raises:
        StartupError: it does not.
    """
    app = load_app(settings.app)
    if not app.imports:
        raise StartupError(f"The app at {settings.app!r} says of no record what it becomes; give its App `imports`")
    return app


def lines_of(file: Path, map: Path | None) -> Iterator[Line]:
    """What a file holds, by its mapping if it has one.

    Raises:
        InvalidInput: it can't be read, or its mapping.
    """
    if not _is_file(file):
        raise InvalidInput({"file": f"there is no file {file}"})
    if map is None and file.suffix.lower() == ".csv":
        raise InvalidInput({"map": f"{file} is CSV; say by --map which column becomes which field"})
    return read_jsonl(file) if map is None else read_csv(file, load_mapping(map))


@contextmanager
def stopping(stop: asyncio.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask to stop, instead of breaking off; in the main thread only."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    with suppress(RuntimeError, ValueError):
        for number in numbers:
            loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        with suppress(RuntimeError, ValueError):
            for number in numbers:
                loop.remove_signal_handler(number)


def bar(size: int) -> Progress:
    """A progress bar by bytes."""
    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn(), TextColumn("{task.fields[told]}", markup=False))
    progress = Progress(*columns, console=screen, transient=True)
    progress.add_task("", total=size, told="")
    return progress


def summary_of(summary: Summary) -> dict[str, object]:
    """A summary for programs."""
    names = ("read", "imported", "updated", "already", "changed", "rejected", "stopped", "by_kind")
    rounded = {"seconds": round(summary.seconds, 3), "rate": round(summary.rate, 1)}
    return {name: getattr(summary, name) for name in names} | rounded


def show_summary(summary: Summary) -> None:
    """Print a summary for people."""
    table = Table("Records", "")
    table.columns[1].justify = "right"
    counted = {
        **{f"imported: {kind}": number for kind, number in sorted(summary.by_kind.items())},
        "updated": summary.updated,
        "already there": summary.already,
        "changed since": summary.changed,
        "rejected": summary.rejected,
    }
    for name, number in counted.items():
        if number or name in ("already there", "rejected"):
            table.add_row(name, f"{number:,}")
    console = answers()
    console.print(table)
    console.print(
        f"{summary.read:,} records in {summary.seconds:.1f} s, {summary.rate:,.0f} records/s", highlight=False
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False
