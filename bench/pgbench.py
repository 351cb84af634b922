"""What the server alone can do: pgbench, calling the same function, and inserting bare rows."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import psycopg

from amends.embedded.binaries import find_postgres
from bench.harness import Absent, Contender, Sample
from bench.servers import Servers
from bench.work import COMMANDS_PER_STREAM, Appends, Row, event_row, in_database

__all__ = ["BareInsert", "SameFunction"]

NUMBERS = f"""\\set n :n + 1
\\set before :n % {COMMANDS_PER_STREAM}
\\set stream :n / {COMMANDS_PER_STREAM}
"""
"""Which command of its stream is next; each client counts for itself."""

CALL = (
    NUMBERS
    + r"""select status from amends.append(format('{"stream": "stock-%1$s", "expected": %2$s,
"name": "stock.reserve", "payload": {"sku": "%1$s", "reservation_id": "%1$s.%2$s", "quantity": 1, "hold": null},
"outcome": "done", "refusal": null, "events": [{"name": "stock.reserved", "version": 2, "data":
{"sku": "%1$s", "reservation_id": "%1$s.%2$s.0", "quantity": 1, "hold": null}}], "claims": [], "frees": [],
"snapshot": null, "attempt": 1, "started_at": "%3$s", "command_id": "%1$s.%2$s", "actor": "bench",
"correlation_id": "%1$s.%2$s", "causation_id": "%1$s.%2$s", "workflow_id": null, "run_id": null, "trace": null,
"step": null, "kind": null, "undo": null, "undoes": null, "pivot": false, "guarded": false, "step_id": null}',
concat(:run::text, '.', :client_id::text, '.', :stream::text), :before::text, clock_timestamp())::jsonb);
"""
)
"""The same call, with the same request."""

INSERT = (
    NUMBERS
    + """insert into bare_events (stream, version, name, data)
select concat('stock-', key), :before::integer + 1, 'stock.reserved', jsonb_build_object('sku', key,
'reservation_id', concat(key, '.', :before::text, '.0'), 'quantity', 1, 'hold', null)
from concat(:run::text, '.', :client_id::text, '.', :stream::text) as key;
"""
)
"""One row, under the one index that keeps a stream in order; no command, no check, no feed."""

TABLE = """
create table bare_events (
    position bigint primary key generated always as identity, stream text not null, version integer not null,
    name text not null, data jsonb not null, recorded_at timestamptz not null default clock_timestamp(),
    unique (stream, version)
)
"""
"""Where the bare rows go."""

TPS = re.compile(r"^tps = ([0-9.]+) \(without initial connection time\)", re.MULTILINE)
FAILED = re.compile(r"number of failed transactions: ([1-9]\d*)")


class _PgBench(Contender[Appends]):
    script: ClassVar[str]

    async def open(self, servers: Servers) -> None:
        """Find the program."""
        beside = find_postgres() / "pgbench"
        found = str(beside) if beside.exists() else shutil.which("pgbench")
        if found is None:
            raise Absent("no pgbench: neither among the embedded PostgreSQL's programs nor on the path")
        self._program = found
        self.url = servers.shop("append_pgbench")
        with psycopg.connect(self.url) as connection:
            connection.execute(TABLE)

    async def work(self, work: Appends) -> Sample:
        """Run the script as often as there are commands."""
        return await asyncio.to_thread(self._run, work)

    def _run(self, work: Appends) -> Sample:
        threads = min(work.writers, os.cpu_count() or 1)
        with tempfile.TemporaryDirectory(prefix="amends-bench-") as folder:
            script = Path(folder, "script.sql")
            script.write_text(self.script)
            done = subprocess.run(
                [
                    self._program, self.url, "--no-vacuum", "--protocol=prepared", f"--file={script}",
                    f"--client={work.writers}", f"--jobs={threads}", f"--transactions={work.commands}",
                    f"--define=run={work.name}", "--define=n=-1",
                ],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        tps = TPS.search(done.stdout)
        if done.returncode != 0 or tps is None or FAILED.search(done.stdout):
            raise RuntimeError(f"pgbench failed: {done.stderr or done.stdout}")
        return Sample(work.units, work.units / float(tps[1]))


class SameFunction(_PgBench):
    """The limit of the function."""

    name = "pgbench, same function"
    note = "amends.append called by pgbench, prepared; what the server can do without Python"
    script = CALL

    async def left(self, work: Appends) -> Sequence[Row]:
        """Events and commands as the log holds them."""
        return await asyncio.to_thread(in_database, self.url, work)


class BareInsert(_PgBench):
    """The limit of a commit."""

    name = "pgbench, bare INSERT"
    note = "one row and one index besides the key; no check, no command record, no order for readers"
    limit = True
    script = INSERT

    async def left(self, work: Appends) -> Sequence[Row]:
        """The bare rows."""
        with psycopg.connect(self.url) as connection:
            found = connection.execute(
                "select stream, version, data from bare_events where stream like %s", (f"{work.prefix}%",)
            )
            return [event_row(stream, version, data) for stream, version, data in found]
