"""The servers and worker processes under fire: real ones, in a folder of their own, each behind its own connections."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from amends.app import install
from amends.embedded import EmbeddedPostgres, EmbeddedTemporal, free_port
from amends.embedded.home import Home
from amends.embedded.worker import Worker
from amends.errors import ServerFailed
from amends.settings import Settings
from amends.visibility import SEARCH_ATTRIBUTES
from app import app
from chaos.faults import CLIENTS, POSTGRES, TEMPORAL, TRANSACTIONS, WORKERS
from chaos.injectors.clock import Clock
from chaos.links import Link
from chaos.timeline import Timeline

__all__ = ["Arena", "Seat"]

QUEUE = "chaos"
STARTED = b"worker_started"
START_SECONDS = 60.0
LOOK_SECONDS = 0.2
STOP_SECONDS = 10.0

POSTGRES_OPTIONS = {"max_connections": "60", "restart_after_crash": "on"}
"""Few connections, so that all of them can be taken."""

WORKER_SETTINGS = {
    "AMENDS_TASK_QUEUE": QUEUE,
    "AMENDS_POOL_SIZE": "6",
    "AMENDS_DRAIN_SECONDS": "10",
    "AMENDS_LOG_FORMAT": "json",
}
"""A small pool, so that a few waiting statements fill it."""

ANSWER_SECONDS = 20.0
"""How long a client waits before it asks again."""


class Seat:
    """A worker's place: whoever sits there is replaced when it dies.

    Args:
        name: of the place.
        worker: started and ended here.
        log: file of its output.
        clock: what it takes the time from.
    """

    def __init__(self, name: str, worker: Worker, log: Path, clock: Clock) -> None:
        self.name, self.worker, self.log, self.clock = name, worker, log, clock
        self.wanted = True
        self._seen = 0

    def start(self) -> None:
        """Start a process here; from the main thread, so that it can't outlive us."""
        self._seen = self.log.stat().st_size if self.log.exists() else 0
        self.worker.start()

    def works(self) -> bool:
        """Whether it has come as far as taking work."""
        with suppress(FileNotFoundError), self.log.open("rb") as file:
            file.seek(self._seen)
            return STARTED in file.read()
        return False

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        _send(self.worker.pid, number)


class Arena:
    """Everything that runs; an async context manager, entered in the main thread.

    Args:
        home: folder of data and logs; what an earlier run left there is deleted.
        timeline: is told what starts and ends.
    """

    def __init__(self, home: Path, timeline: Timeline) -> None:
        self.timeline = timeline
        self._home = Home(home)
        self.folder = self._home.path
        self.postgres = EmbeddedPostgres(self._home.path, free_port(), options=POSTGRES_OPTIONS)
        self.temporal = EmbeddedTemporal(
            self._home.path,
            free_port(),
            free_port(),
            db_path=self._home.temporal_db,
            search_attributes={**SEARCH_ATTRIBUTES, **app.search_attributes},
        )
        names = (*WORKERS, CLIENTS)
        self.to_database = {name: Link(f"{name} → PostgreSQL", self.postgres.port) for name in names}
        self.to_temporal = {name: Link(f"{name} → Temporal", self.temporal.port) for name in names}
        self.seats: dict[str, Seat] = {}
        self.locks = {name: asyncio.Lock() for name in (*names, POSTGRES, TEMPORAL, TRANSACTIONS)}
        self._watching: asyncio.Task[None] | None = None

    @property
    def links(self) -> list[Link]:
        """All connections' ways."""
        return [*self.to_database.values(), *self.to_temporal.values()]

    @property
    def settings(self) -> Settings:
        """What clients connect by."""
        return Settings(
            home=self._home.path,
            database_url=SecretStr(self._url(CLIENTS)),
            temporal_address=f"127.0.0.1:{self.to_temporal[CLIENTS].port}",
            task_queue=QUEUE,
            answer_seconds=ANSWER_SECONDS,
        )

    async def __aenter__(self) -> Self:
        self._home.acquire()
        try:
            self._home.clear()
            self.temporal.start()
            self.postgres.start()
            for link in self.links:
                await link.open()
            await asyncio.gather(
                asyncio.to_thread(self.postgres.wait_ready), asyncio.to_thread(self.temporal.wait_ready)
            )
            await asyncio.to_thread(install, app, self.postgres.url)
            for name in WORKERS:
                self.seats[name] = self._seat(name)
                self.seats[name].start()
            await self.wait_for_workers()
            self._watching = asyncio.create_task(self._watch())
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def wait_for_workers(self) -> None:
        """Wait until every worker takes work.

        Raises:
            ServerFailed: one does not within a minute.
        """
        until = monotonic() + START_SECONDS
        while late := [seat.name for seat in self.seats.values() if seat.worker.poll() is not None or not seat.works()]:
            if monotonic() > until:
                raise ServerFailed(f"{', '.join(late)} took no work within {START_SECONDS:.0f} s: see {self._home.log}")
            await asyncio.sleep(LOOK_SECONDS)

    async def start_postgres(self) -> None:
        """Start PostgreSQL and wait until it answers."""
        self.postgres.start()
        await asyncio.to_thread(self.postgres.wait_ready)

    async def start_temporal(self) -> None:
        """Start Temporal and wait until it answers."""
        self.temporal.start()
        await asyncio.to_thread(self.temporal.wait_ready)

    def _seat(self, name: str) -> Seat:
        log = self._home.log / f"{name}.log"
        clock = Clock(self._home.path, name)
        environment = {
            **WORKER_SETTINGS,
            **clock.environment,
            "AMENDS_DATABASE_URL": self._url(name),
            "AMENDS_TEMPORAL_ADDRESS": f"127.0.0.1:{self.to_temporal[name].port}",
        }
        worker = Worker([sys.executable, "-m", "amends", "worker"], environment, log=log)
        return Seat(name, worker, log, clock)

    def _url(self, whose: str) -> str:
        port = self.to_database[whose].port
        return make_conninfo(self.postgres.url, port=port, sslmode="disable", gssencmode="disable")

    async def _watch(self) -> None:
        """Replace workers that have died, as whatever runs them in production does."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for seat in self.seats.values():
                code = seat.worker.poll()
                if seat.wanted and code is not None:
                    if code != -signal.SIGKILL:
                        self.timeline.note(seat.name, f"has ended with code {code}")
                    await asyncio.sleep(1)
                    seat.start()
                    self.timeline.note(seat.name, f"started, process {seat.worker.pid}")

    async def _close(self) -> None:
        """End all of it, whatever state it is in."""
        if self._watching is not None:
            self._watching.cancel()
        for pid in (self.postgres.pid, self.temporal.pid, *(seat.worker.pid for seat in self.seats.values())):
            _send(pid, signal.SIGCONT)
        for seat in self.seats.values():
            seat.worker.stop(0)
        for link in self.links:
            await link.close()
        try:
            await asyncio.to_thread(self.temporal.stop, STOP_SECONDS)
        finally:
            try:
                await asyncio.to_thread(self.postgres.stop, STOP_SECONDS)
            finally:
                self._home.release()


def _send(pid: int | None, number: signal.Signals) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
