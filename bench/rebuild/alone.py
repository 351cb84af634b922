"""Rebuilds one read model in a process of its own, whose memory nobody else uses: `python -m bench.rebuild.alone`.

It does what the activity behind `amends views rebuild` does, and says as JSON what came of it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from dataclasses import asdict, dataclass
from time import perf_counter

import structlog

from amends.rebuild_request import RebuildRequest, Report
from amends.rebuilding import rebuild
from bench.memory import peak
from bench.rebuild.log import ACTOR
from read_models.contents import PROJECTIONS

__all__ = ["Rebuild", "rebuilt"]

MIB = 2**20
"""Bytes."""


@dataclass(frozen=True)
class Rebuild:
    """What a rebuild took.

    Args:
        outcome: swapped, or differs.
        events: that it has read.
        seconds: from begin to swap.
        rows: in all its tables.
        start_mib: memory of the process before.
        peak_mib: the most it had.
        report: how it compared with what was served, for people; empty where it agreed.
    """

    outcome: str
    events: int
    seconds: float
    rows: int
    start_mib: float
    peak_mib: float
    report: str


async def rebuilt(url: str, name: str) -> Rebuild:
    """Start the process and wait for its end; it is stopped when the caller is.

    Args:
        url: of the database, as its owner.
        name: of the projection.

    Raises:
        RuntimeError: it failed.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, name, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        out, _ = await process.communicate(url.encode())  # not as an argument: it has the password
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if process.returncode != 0:
        raise RuntimeError(f"The rebuild of {name} ended with exit code {process.returncode}; see above")
    return Rebuild(**json.loads(out))


async def _rebuild(url: str, name: str) -> Rebuild:
    projection = next(each for each in PROJECTIONS if each.name == name)
    start, began = peak(), perf_counter()
    request = RebuildRequest(name=name, version=projection.version, actor=ACTOR, reason="to measure")
    done = await rebuild(projection, url, request)
    seconds = perf_counter() - began
    assert done.report is not None
    rows = sum(table.new_rows for table in done.report.tables)
    return Rebuild(done.outcome, done.events, seconds, rows, start, peak(), _told(done.report))


def _told(report: Report) -> str:
    tables = [f"{table.table}: {table.differing}, first {table.first}" for table in report.tables if table.differing]
    return "; ".join([*tables, *(f"parked: {at}" for at in report.newly_parked)])


if __name__ == "__main__":
    structlog.configure(  # standard output is for the answer
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        print(json.dumps(asdict(asyncio.run(_rebuild(sys.stdin.read(), sys.argv[1])))))
    except KeyboardInterrupt:
        sys.exit(130)
