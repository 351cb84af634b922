"""Rebuilds every read model of the shop under traffic: `python -m bench.rebuild [--events 1000000] [--only NAMES]`.

A real PostgreSQL in a temporary folder is filled with a year of the shop, and every read model built by the serving
path. Then each is rebuilt, in a process of its own, while the shop goes on and a reader looks whether rows go missing.
At the end the rows of all views are compared with those of a replay that applies every event by itself. It ends with
exit code 1, and says which rows of which view, when one is not what it must be.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from amends.app import install
from amends.embedded import EmbeddedPostgres, free_port
from amends.projection import Projection
from app import app
from bench.machine import machine
from bench.rebuild.log import StoryDiffers, fill, unseen
from bench.rebuild.measuring import Measured, RowsDiffer, measure
from bench.rebuild.reading import RowsLost
from bench.rebuild.results import document, save, table
from bench.rebuild.story import Story
from bench.rebuild.world import World
from bench.results import FOLDER

__all__ = ["main"]

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Events a second, of late."""
        return Text(f"{task.speed or 0:,.0f} events/s")


class Unseen(Exception):
    """The log lacks events that read models handle, so that the run would say nothing of those."""


FAILED = (RowsDiffer, RowsLost, StoryDiffers, Unseen)
"""What a run is there to find."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, tell, and keep the results; returns the exit code: 1 when rows differ or went missing."""
    lines = (__doc__ or "").splitlines()
    parser = argparse.ArgumentParser(prog="python -m bench.rebuild", description=lines[0].partition(":")[0] + ".")
    parser.add_argument("--events", type=int, default=1_000_000, help="events in the log to begin with (1000000)")
    parser.add_argument("--only", default="", help="some read models, with commas between; all, when not given")
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder for the results")
    options = parser.parse_args(arguments)
    if options.events < 1:
        parser.error("--events must be 1 or more")
    wanted = set(filter(None, options.only.split(",")))
    if unknown := wanted - {each.name for each in app.projections}:
        parser.error(f"there is no read model {', '.join(sorted(unknown))}")
    projections = [each for each in app.projections if not wanted or each.name in wanted]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    screen, host = Console(stderr=True), machine()
    with tempfile.TemporaryDirectory(prefix="amends-bench-") as home:
        server = EmbeddedPostgres(Path(home), free_port())
        try:
            with screen.status("Starting PostgreSQL …"):
                server.start()
                server.wait_ready()
                install(app, server.url)
            measured, events = _run(server.url, options.events, projections, screen)
        except KeyboardInterrupt:
            screen.print("Stopped; nothing was kept.", style="dim")
            return INTERRUPTED
        except FAILED as failed:
            return _tell([failed], screen)
        except BaseExceptionGroup as group:
            failures, others = group.split(FAILED)
            if failures is None or others is not None:
                raise
            return _tell(_leaves(failures), screen)
        finally:
            server.stop()
    found = document(measured, events, host)
    Console().print(table(found))
    screen.print(f"kept in {save(found, options.results)}", style="dim")
    return 0


def _run(url: str, wanted: int, projections: Sequence[Projection], screen: Console) -> tuple[Measured, int]:
    """Fill the log and measure; returns how many events it had, too."""
    world, now = World(app.aggregates), datetime.now(UTC)
    told = iter(Story(world, wanted, now))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=screen) as progress:
        task = progress.add_task("Events", total=wanted)
        events = fill(url, world, told, wanted, now, lambda n: progress.update(task, completed=n))
        if lacking := unseen(url, projections):
            told_of = "; ".join(f"{name}: {', '.join(names)}" for name, names in lacking.items())
            raise Unseen(f"{events} events are too few: none is one that these read models handle: {told_of}")
        return asyncio.run(measure(url, told, events, projections, progress)), events


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for each in group.exceptions:
        yield from _leaves(each) if isinstance(each, BaseExceptionGroup) else (each,)


def _tell(failures: Iterable[BaseException], screen: Console) -> int:
    for each in failures:
        screen.print(f"[red]✘[/red] {escape(str(each))}", highlight=False)
    return 1


if __name__ == "__main__":
    sys.exit(main())
