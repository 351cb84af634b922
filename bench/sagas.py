"""Orders as sagas: how many a second, how soon they end, and what they cost worker and servers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, ClassVar

import psutil
import psycopg
from psycopg import sql

from bench.billing import History, history_of
from bench.harness import Absent, Benchmark, Case, Contender, Sample
from bench.servers import Servers
from bench.statistics import percentiles

__all__ = ["SAGAS", "Sagas"]

Row = tuple[str, str]
"""An order, and an event that it must have led to."""

EVENTS = (
    "order.placed",
    "payment.requested",
    "payment.processed",
    "stock.reserved",
    "order.completed",
    "stock.committed",
)
"""What each order must have led to, once each."""

LEFT = """
select coalesce(data ->> 'order_id', data ->> 'reservation_id'), name from amends.events
where coalesce(data ->> 'order_id', data ->> 'reservation_id') like %s
"""
"""What the orders of a round have led to."""


TABLES = "select schemaname, tablename from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
"""The tables whose rows are counted."""

LOG_POSITION = "select pg_current_wal_lsn() - '0/0'::pg_lsn"
"""Bytes of write-ahead log so far."""

START_SECONDS = 60.0


@dataclass(frozen=True)
class Sagas:
    """Orders of one piece each, paid by card.

    Args:
        run: names the round.
        orders: how many.
        concurrent: how many at a time.
    """

    run: str
    orders: int
    concurrent: int

    @property
    def name(self) -> str:
        """Of the round, unlike any other's."""
        return f"{self.run}c{self.concurrent}"

    def rows(self) -> list[Row]:
        """What must be on record afterwards."""
        return [(f"{self.name}-{number}", event) for number in range(self.orders) for event in EVENTS]


class _InItsProcess(Contender[Sagas]):
    """Worker and client in one process, ours and theirs alike."""

    kind: ClassVar[str]

    async def open(self, servers: Servers, url: str | None = None) -> None:
        """Start the process and wait until it is ready.

        Args:
            servers: that it uses.
            url: of its database; a new one when not given.
        """
        self._servers = servers
        self._url = url or servers.shop(f"sagas_{self.kind}")
        self._process = await asyncio.to_thread(_start, self.kind, self._url, servers.temporal)
        await asyncio.wait_for(asyncio.to_thread(self._answer), START_SECONDS)

    async def work(self, work: Sagas) -> Sample:
        """Have the orders placed, and see what that costs whom."""
        rows, before, log = self._rows(), _cpu(self._servers), self._log_position()
        answer = await asyncio.to_thread(
            self._ask, {"run": work.name, "orders": work.orders, "concurrent": work.concurrent}
        )
        after, wal = _cpu(self._servers), self._log_position() - log
        latency = percentiles([1000 * each for each in answer["latencies"]], 50, 95, 99)
        each = {f"{name} CPU": 1000 * (after[name] - before[name]) / work.orders for name in after}
        figures = {**latency, "worker CPU": 1000 * answer["cpu"] / work.orders, **each, "memory": answer["memory"]}
        history = await history_of(self._servers.temporal, answer["workflow"]) if answer["workflow"] else History(0, 0)
        figures |= {"rows": (self._rows() - rows) / work.orders, "WAL": wal / work.orders / 1024}
        figures |= {"history": history.events, "actions": history.actions}
        return Sample(work.orders, answer["seconds"], figures)

    async def left(self, work: Sagas) -> Sequence[Row]:
        """The events of the round's orders."""
        with psycopg.connect(self._url) as connection:
            return connection.execute(LEFT, (f"{work.name}-%",)).fetchall()

    async def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.to_thread(self._process.wait, 20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _log_position(self) -> int:
        with psycopg.connect(self._url) as connection:
            row = connection.execute(LOG_POSITION).fetchone()
            assert row is not None
            return int(row[0])

    def _rows(self) -> int:
        with psycopg.connect(self._url) as connection:
            tables = [sql.Identifier(*names) for names in connection.execute(TABLES).fetchall()]
            counts = sql.SQL(" union all ").join(sql.SQL("select count(*) from {}").format(table) for table in tables)
            return sum(count for (count,) in connection.execute(counts).fetchall())

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise RuntimeError(f"the process of {self.name} ended with {self._process.wait()}; see above why")


class Ours(_InItsProcess):
    """The shop."""

    name = "Amends"
    note = "the shop's PlaceOrder: undo registered before each step, call log, search attributes, timeline"
    kind = "ours"


class ByHand(_InItsProcess):
    """The same topology without the engine."""

    name = "Temporal by hand"
    note = "the same local activities, ordinary charge and update-with-start, written out; one catch-all undo"
    kind = "hand"


class Tutorial(_InItsProcess):
    """What tutorials show."""

    name = "Temporal tutorial"
    note = "four ordinary activities: place, pay, reserve, finish"
    kind = "tutorial"


class Dbos(_InItsProcess):
    """The peer."""

    name = "DBOS"
    note = "DBOS Transact: the same seven steps, recorded in the same PostgreSQL; no workflow server, no early answer"
    kind = "dbos"

    async def open(self, servers: Servers, url: str | None = None) -> None:
        """Start its process.

        Raises:
            Absent: it is not installed.
        """
        if find_spec("dbos") is None:
            raise Absent("dbos is not installed; `make bench` installs what the benchmarks compare with")
        await super().open(servers, url)


def _start(*arguments: str) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "bench.saga_process", *arguments]
    return subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _cpu(servers: Servers) -> dict[str, float]:
    """CPU seconds of each server so far, its ended processes included."""
    used = {}
    for name, pid in servers.pids.items():
        top = psutil.Process(pid)
        spent = top.cpu_times()
        used[name] = spent.user + spent.system + spent.children_user + spent.children_system
        for child in top.children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # ended just now
                times = child.cpu_times()
                used[name] += times.user + times.system
    return used


def cases(scale: float) -> Sequence[Case[Sagas]]:
    """One after the other, and 64 at a time."""
    alone, together = max(5, round(100 * scale)), max(64, round(640 * scale))
    return [
        Case("1 at a time", partial(Sagas, orders=alone, concurrent=1), Sagas.rows),
        Case("64 at a time", partial(Sagas, orders=together, concurrent=64), Sagas.rows),
    ]


SAGAS = Benchmark(
    "sagas",
    "Order sagas: place, pay, reserve, complete",
    "sagas/s",
    [Ours, ByHand, Tutorial, Dbos],
    cases,
    {
        "p50": "ms", "p95": "ms", "p99": "ms",
        "worker CPU": "ms a saga", "temporal CPU": "ms a saga", "postgres CPU": "ms a saga",
        "memory": "MiB", "rows": "in PostgreSQL, a saga", "WAL": "KiB a saga",
        "history": "events a saga", "actions": "billed a saga",
    },
)  # fmt: skip
