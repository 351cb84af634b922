"""Runs the benchmarks: `python -m bench [--only append,commands] [--rounds 5] [--scale 1]`; see `make bench`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.benchmarks import BENCHMARKS
from bench.harness import WorkDiffers, run
from bench.results import FOLDER, document, save, tables
from bench.servers import Servers

__all__ = ["main"]

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def main() -> int:
    """Measure, tell, and keep the results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help=f"some of them, with commas between: {', '.join(BENCHMARKS)}")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of each case (5), after one to warm up")
    parser.add_argument("--scale", type=float, default=1.0, help="how much work, as a part of the real thing (1)")
    parser.add_argument("--sync", action="store_true", help="let every commit wait for the disk")
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder for the results")
    options = parser.parse_args()
    wanted = [name for name in options.only.split(",") if name] or list(BENCHMARKS)
    if unknown := [name for name in wanted if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    if options.rounds < 1 or options.scale <= 0:
        parser.error("--rounds must be 1 or more, --scale more than 0")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    screen, out = Console(stderr=True), Console()
    try:
        for name in wanted:
            _one(name, options.rounds, options.scale, options.sync, options.results, screen, out)
    except KeyboardInterrupt:
        screen.print("Stopped; what was finished is kept.", style="dim")
        return INTERRUPTED
    except WorkDiffers as difference:
        screen.print(f"[red]✘[/red] {difference}")
        return 1
    return 0


def _one(name: str, rounds: int, scale: float, sync: bool, folder: Path, screen: Console, out: Console) -> None:
    benchmark = BENCHMARKS[name]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with tempfile.TemporaryDirectory(prefix="amends-bench-") as home:
        screen.print(f"{name}: starting the servers …", style="dim")
        with Servers(Path(home), sync=sync) as servers, Progress(*columns, console=screen) as progress:
            result = asyncio.run(run(benchmark, servers, rounds=rounds, scale=scale, progress=progress))
    found = document(benchmark, result, rounds, scale, sync)
    for table in tables(found):
        out.print(table)
    for absent, why in result.absent.items():
        out.print(f"absent: {absent}: {why}", style="yellow")
    screen.print(f"kept in {save(found, folder)}", style="dim")


if __name__ == "__main__":
    sys.exit(main())
