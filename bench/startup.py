"""Starting: how long imports take, and how long it takes from nothing to the first order that has ended."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
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
    note = (
        "the shop's client (what it connects with comes when it connects); for the first order "
        "`amends demo --orders 1 --json`, from an empty folder to its result"
    )
    module = "client"

    async def work(self, work: Start) -> Sample:
        """Import it, or place a first order."""
        if work.what == IMPORTS:
            return await super().work(work)
        program = [sys.executable, "-m", "amends", "demo", "--orders", "1", "--json"]
        with tempfile.TemporaryDirectory(prefix="amends-bench-") as home:
            ports = {"AMENDS_TEMPORAL_PORT": "0", "AMENDS_TEMPORAL_UI_PORT": "0", "AMENDS_POSTGRES_PORT": "0"}
            return await asyncio.to_thread(_first_word, program, {"AMENDS_HOME": home, **ports})


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


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """As users have it: what was compiled once is kept, whoever's module it is."""
    return {**{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}, **more}


def _timed(program: Sequence[str], times: int) -> Sample:
    begun = perf_counter()
    for _ in range(times):
        subprocess.run(program, check=True, capture_output=True, env=_environment({}))
    seconds = perf_counter() - begun
    return Sample(times, seconds, {"each": 1000 * seconds / times})


def _first_word(program: Sequence[str], environment: Mapping[str, str]) -> Sample:
    """Until it prints its result; that it then ends its servers is no part of starting."""
    begun = perf_counter()
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(program, stdout=subprocess.PIPE, stderr=said, env=_environment(environment)) as started,
    ):
        assert started.stdout is not None
        started.stdout.read(1)
        seconds = perf_counter() - begun
        started.stdout.read()
        if started.wait():
            said.seek(0)
            raise subprocess.CalledProcessError(started.returncode, program, stderr=said.read())
    return Sample(1, seconds, {"each": 1000 * seconds})


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
