"""Starting: how long imports take, and how long it takes from nothing to the first order that has ended."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from time import perf_counter
from typing import ClassVar

from bench.harness import Absent, Benchmark, Case, Contender, Sample
from bench.servers import Servers

__all__ = ["STARTUP", "Start"]

IMPORTS = "import of the client"
FIRST_ORDER = "from nothing to the first completed order"


@dataclass(frozen=True)
class Start:
    """A start, in a new process.

    Args:
        run: names the round.
        what: which case.
        times: how often it is done.
    """

    run: str
    what: str
    times: int


class _Imports(Contender[Start]):
    module: ClassVar[str]

    async def open(self, servers: Servers) -> None:
        """See whether it is there.

        Raises:
            Absent: it is not.
        """
        if find_spec(self.module.partition(".")[0]) is None:
            raise Absent(f"{self.module} is not installed; `make bench` installs what the benchmarks compare with")

    async def work(self, work: Start) -> Sample:
        """Start a Python that imports it, again and again."""
        program = [sys.executable, "-c", f"import {self.module}"]
        return await asyncio.to_thread(_timed, program, work.times)


class Ours(_Imports):
    """The shop."""

    name = "Amends"
    note = "the shop's client; for the first order `amends demo --orders 1 --json`, from empty folder to its end"
    module = "client"

    async def work(self, work: Start) -> Sample:
        """Import it, or place a first order."""
        if work.what == IMPORTS:
            return await super().work(work)
        program = [sys.executable, "-m", "amends", "demo", "--orders", "1", "--json"]
        with tempfile.TemporaryDirectory(prefix="amends-bench-") as home:
            ports = {"AMENDS_TEMPORAL_PORT": "0", "AMENDS_TEMPORAL_UI_PORT": "0", "AMENDS_POSTGRES_PORT": "0"}
            return await asyncio.to_thread(_timed, program, 1, {"AMENDS_HOME": home, **ports})


class BareTemporal(_Imports):
    """What any client of Temporal needs."""

    name = "temporalio.client"
    note = "the Temporal SDK's client alone, of which ours is made"
    module = "temporalio.client"


class Python(_Imports):
    """The limit."""

    name = "python"
    note = "an interpreter that imports next to nothing"
    module = "os"
    limit = True


class Dbos(_Imports):
    """The peer for sagas."""

    name = "DBOS"
    note = "import dbos"
    module = "dbos"


class Eventsourcing(_Imports):
    """The peer for events."""

    name = "eventsourcing"
    note = "import eventsourcing.application with its PostgreSQL module"
    module = "eventsourcing.application, eventsourcing.postgres"


def _timed(program: Sequence[str], times: int, environment: dict[str, str] | None = None) -> Sample:
    begun = perf_counter()
    for _ in range(times):
        subprocess.run(program, check=True, capture_output=True, env={**os.environ, **(environment or {})})
    seconds = perf_counter() - begun
    return Sample(times, seconds, {"each": 1000 * seconds / times})


def cases(scale: float) -> Sequence[Case[Start]]:
    """The import, and the first order."""
    others = frozenset({BareTemporal.name, Python.name, Dbos.name, Eventsourcing.name})
    times = max(2, round(10 * scale))
    return [
        Case(IMPORTS, lambda run: Start(run, IMPORTS, times)),
        Case(FIRST_ORDER, lambda run: Start(run, FIRST_ORDER, 1), without=others),
    ]


STARTUP = Benchmark(
    "startup",
    "Start-up",
    "starts/s",
    [Ours, BareTemporal, Dbos, Eventsourcing, Python],
    cases,
    {"each": "ms"},
)
