"""Commands for the time in which two systems run side by side: follow the other's tables, compare with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic_core import to_json
from rich.table import Table
from sqlalchemy.exc import InterfaceError, OperationalError

from amends.app import App
from amends.cli.importing import INCOMPLETE, Actor, Map, Source, app_with_records, lines_of, stopping
from amends.cli.people import Json, answers, database_of, print_json, screen
from amends.errors import Stale, StartupError
from amends.importing.comparing import Compared, Difference, compare, in_batches
from amends.importing.following import Followed, TableFollower, rows_of
from amends.importing.mapping import TableMapping, load_mapping
from amends.importing.reading import Candidate, candidates
from amends.importing.report import Report
from amends.importing.session import importing
from amends.importing.tables import SourceTable, source_engine
from amends.reader import Reader
from amends.settings import Settings

__all__ = ["compare_", "follow"]

CATCH_UP = 30.0
"""Seconds that a comparison waits for the read models to be up to date."""

RETRY = 5.0
"""Seconds between tries while the other system's database is away."""

From = Annotated[str | None, typer.Option("--from", help="Its database; AMENDS_SOURCE_URL when not given.")]


def follow(
    mappings: Annotated[list[Path], typer.Argument(help="A mapping for each table (TOML or JSON), in this order.")],
    url: From = None,
    source: Source = "legacy",
    once: Annotated[bool, typer.Option("--once", help="Take over what there is, and end.")] = False,
    every: Annotated[float, typer.Option(min=0.01, help="Seconds between two looks.")] = 2.0,
    again: Annotated[bool, typer.Option("--again", help="Begin at the first rows, whatever was taken over.")] = False,
    report: Annotated[Path, typer.Option(help="What was not taken over.")] = Path("follow.rejected.jsonl"),
    actor: Actor = "import",
    json: Json = False,
) -> None:
    """Take over what comes and what changes in another system's tables, until Ctrl-C."""
    settings = Settings()
    app = app_with_records(settings)
    tables = [load_mapping(each, TableMapping) for each in mappings]
    address, told = _source(settings, url), Report(report)

    async def run() -> list[Followed]:
        stop = asyncio.Event()
        async with AsyncExitStack() as stack:
            stack.enter_context(stopping(stop))
            stack.enter_context(told)
            engine = await stack.enter_async_context(source_engine(address))
            connection, bulk = await stack.enter_async_context(importing(database_of(settings), app.aggregates, source))
            followers = []
            for mapping in tables:
                table = SourceTable(engine, mapping)
                await table.check()
                followers.append(TableFollower(table, app.imports, bulk, source, actor, told.write, again=again))
            with screen.status("Following …") as status:
                while True:
                    pause = every
                    try:
                        found = [await follower.look(connection, stop) for follower in followers]
                    except (OperationalError, InterfaceError) as error:
                        if once:
                            raise
                        pause = RETRY
                        screen.print(f"The other system's database is away: {str(error.orig).strip()}", highlight=False)
                    else:
                        status.update("; ".join(map(_stands, found)))
                        _show(found)
                    if once or stop.is_set():
                        return found
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), pause)
                    if stop.is_set():
                        return found

    found = asyncio.run(run())
    if json:
        print_json([_figures(each) for each in found])
    if once and any(each.summary.rejected or each.summary.changed for each in found):
        screen.print(f"Each row that was not taken over stands in {report}", highlight=False, soft_wrap=True)
        raise typer.Exit(INCOMPLETE)


def compare_(
    file: Annotated[Path, typer.Argument(help="A file as for `amends import`, or the mapping of a table.")],
    map: Map = None,
    url: From = None,
    limit: Annotated[int, typer.Option(min=0, help="How many differences are listed at most.")] = 100,
    json: Json = False,
) -> None:
    """Compare what another system says with what the views show; exit 3 when they differ."""
    settings = Settings()
    app = app_with_records(settings)
    differences: list[Difference] = []
    more = 0

    def tell(found: Difference) -> None:
        nonlocal more
        if len(differences) < limit:
            differences.append(found)
        else:
            more += 1

    async def run() -> Compared:
        async with Reader(database_of(settings), 2) as reader:
            await _fresh(reader, app)
            async with _records(settings, app, file, map, url) as records:
                return await compare(reader, records, tell)

    compared = asyncio.run(run())
    if json:
        print_json({**asdict(compared), "differences": [asdict(each) for each in differences], "not_listed": more})
    else:
        _show_compared(compared, differences, more)
    if not compared.equal:
        raise typer.Exit(INCOMPLETE)


def _source(settings: Settings, url: str | None) -> str:
    if url is None and settings.source_url is None:
        raise StartupError("Say where the other system's database is: --from URL, or AMENDS_SOURCE_URL")
    return url or settings.source_url.get_secret_value()  # type: ignore[union-attr]


async def _fresh(reader: Reader, app: App) -> None:
    names = [projection.name for projection in app.projections]
    freshness = await reader.at_least(await reader.head(), names, CATCH_UP)
    if not freshness.fresh:
        raise Stale(f"Read model {freshness.projection} is not up to date after {CATCH_UP:g} s; let a worker run")


@asynccontextmanager
async def _records(
    settings: Settings, app: App, file: Path, map: Path | None, url: str | None
) -> AsyncIterator[AsyncIterator[Sequence[Candidate]]]:
    """The records of a file, or of the table whose mapping the file is."""
    if file.suffix == ".toml" or (url is not None and map is None):
        async with source_engine(_source(settings, url)) as engine:
            yield rows_of(SourceTable(engine, load_mapping(file, TableMapping)), app.imports)
    else:
        yield in_batches(candidates(lines_of(file, map), app.imports))


def _show(found: Sequence[Followed]) -> None:
    """Print what has happened, where something has."""
    for each in found:
        counted = each.summary
        if counted.imported or counted.updated or each.told:
            told = f"{counted.imported} new, {counted.updated} changed, {each.told} not taken over"
            screen.print(f"{datetime.now(UTC):%H:%M:%S} {each.name}: {told}; {_stands(each)}", highlight=False)


def _stands(each: Followed) -> str:
    mark = f"{each.mark:%F %T}" if isinstance(each.mark, datetime) else each.mark
    return f"{each.name} up to {mark}, {each.behind} rows behind" if each.mark is not None else f"{each.name} is empty"


def _figures(each: Followed) -> dict[str, object]:
    counted = each.summary
    names = ("read", "imported", "updated", "already", "changed", "rejected")
    figures = {name: getattr(counted, name) for name in names}
    return {"table": each.name, **figures, "watermark": each.mark, "behind": each.behind}


def _show_compared(compared: Compared, differences: Sequence[Difference], more: int) -> None:
    console = answers()
    if differences:
        table = Table("Line", "Record", "View", "Column", "There", "Here")
        for each in differences:
            values = (to_json(value).decode().strip('"') for value in (each.theirs, each.ours))
            table.add_row(str(each.line), f"{each.kind} {each.id}", each.view, each.column, *values)
        console.print(table)
    if more:
        console.print(f"… and {more} more; --limit lists them", highlight=False)
    for view, theirs in compared.theirs.items():
        console.print(f"views.{view}: {theirs} records there, {compared.ours[view]} rows here", highlight=False)
    told = f"{compared.same} of {compared.records} records are the same, {compared.different} differ"
    console.print(f"{told}, {compared.unreadable} can't be read", highlight=False)
