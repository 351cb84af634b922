"""PostgreSQL, Temporal and the application's worker on one machine: started, watched and ended."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Literal, Self

import structlog

from amends.embedded.home import Home, Running
from amends.embedded.ports import claim_port, prefer_port
from amends.embedded.postgres import EmbeddedPostgres
from amends.embedded.stop_signals import StopSignals
from amends.embedded.supervisor import Supervised, Supervisor
from amends.embedded.temporal import EmbeddedTemporal
from amends.embedded.worker import Worker
from amends.errors import StartupError
from amends.settings import Settings

__all__ = ["Stack"]

TEMPORAL_STOP_SECONDS = 10.0
POSTGRES_STOP_SECONDS = 20.0
LOOK_SECONDS = 0.1

logger = structlog.get_logger(__name__)


class Stack:
    """Everything an application needs, from one process; nothing of it outlives that process.

    Use it as a context manager from the main thread, and call `run` inside. A second request to end (Ctrl-C
    twice) cuts the worker's draining short.

    Args:
        settings: where data and ports are; a server whose address is set there replaces the embedded one.
        search_attributes: name → type, as `EmbeddedTemporal` takes them.
        worker_command: the worker's program and arguments; None: no worker.
        worker_joins: it finds the servers by `running`, once they are ready, and so is started before them;
            otherwise it is started after them, with their addresses in its environment.
        prepare: called with the database's URL before a worker is told where the servers are; runs migrations.
        fresh: delete the embedded servers' earlier data first.
        worker_output: `terminal` shows what the worker writes, `file` keeps it in `log/worker.log`.
        postgres_options: further settings of the embedded PostgreSQL (tests: `fsync=off`).
        time_skipping: let tests skip time in the embedded Temporal.
        watchdog: as for `Child`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        search_attributes: Mapping[str, str] | None = None,
        worker_command: Sequence[str] | None = None,
        worker_joins: bool = False,
        prepare: Callable[[str], None] | None = None,
        fresh: bool = False,
        worker_output: Literal["terminal", "file"] = "terminal",
        postgres_options: Mapping[str, str] | None = None,
        time_skipping: bool = False,
        watchdog: bool | None = None,
    ) -> None:
        self.settings = settings
        self._search_attributes = dict(search_attributes or {})
        self._worker_command = worker_command
        self._worker_joins = worker_joins
        self._prepare = prepare
        self._fresh = fresh
        self._worker_output = worker_output
        self._postgres_options = postgres_options
        self._time_skipping = time_skipping
        self._watchdog = watchdog
        self._home = Home(settings.home)
        self._signals = StopSignals()
        self._postgres: EmbeddedPostgres | None = None
        self._temporal: EmbeddedTemporal | None = None
        self._worker: Worker | None = None
        self._supervisors: list[Supervisor] = []
        self._running: Running | None = None

    @property
    def running(self) -> Running:
        """What the stack can be reached by.

        Errors:
            StartupError: it has not been started.
        """
        if self._running is None:
            raise StartupError("the stack has not been started")
        return self._running

    def pids(self) -> dict[str, int]:
        """The processes that run now: name (postgres, temporal, worker) → pid."""
        return {child.name: child.pid for child in self._children() if child.pid is not None}

    def start(self) -> None:
        """Takes the home folder, starts the servers, prepares the database, has the worker work for them.

        Errors:
            AlreadyRunning: another stack holds the folder.
            PortTaken: a port that was asked for is taken.
            ServerFailed: a server did not become ready.
            KeyboardInterrupt: somebody asked to end meanwhile.
        """
        self._signals = StopSignals()
        self._signals.open()
        try:
            self._home.acquire()
            if self._fresh:
                self._home.clear()
            if self._worker_joins:
                # What it has to import takes as long as the servers' start, and this machine has more than one core.
                self._start_worker({"AMENDS_HOME": str(self._home.path)})
            self._start_servers()
            self._running = self._describe()
            if self._prepare is not None:
                self._prepare(self._running.database_url)
            if not self._worker_joins:
                self._start_worker(
                    {
                        "AMENDS_DATABASE_URL": self._running.database_url,
                        "AMENDS_TEMPORAL_ADDRESS": self._running.temporal_address,
                    }
                )
            self._home.announce(self._running)
        except BaseException:
            self.stop()
            raise
        self._supervisors = [Supervisor(child) for child in self._children()]
        self._signals.settle()

    def run(self) -> None:
        """Restarts what dies, until somebody asks to end (SIGINT, SIGTERM, SIGHUP, `request_stop`).

        Errors:
            ServerFailed: something keeps dying.
        """
        while not self._signals.wait(LOOK_SECONDS):
            self.check()

    def check(self) -> None:
        """Looks once at each process and restarts what is due, for callers with a loop of their own.

        Errors:
            ServerFailed: something keeps dying.
        """
        for supervisor in self._supervisors:
            supervisor.check()

    @property
    def stop_requested(self) -> bool:
        """Whether somebody has asked to end, for callers with a loop of their own."""
        return self._signals.wait(0)

    def request_stop(self) -> None:
        """Makes `run` return; for other threads."""
        self._signals.request()

    def stop(self) -> None:
        """Ends the worker, which may finish its work while the servers are still there, then the servers."""
        self._signals.settle()
        self._supervisors = []
        try:
            self._drain()
        finally:
            try:
                if self._temporal is not None:
                    self._temporal.stop(TEMPORAL_STOP_SECONDS)
            finally:
                try:
                    if self._postgres is not None:
                        self._postgres.stop(POSTGRES_STOP_SECONDS)
                finally:
                    self._running = None
                    self._home.release()
                    self._signals.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_servers(self) -> None:
        if self.settings.temporal_address is None:
            self._temporal = EmbeddedTemporal(
                self._home.path,
                self._port("temporal_port", "the embedded Temporal"),
                self._port("temporal_ui_port", "Temporal's Web UI"),
                db_path=self._home.temporal_db,
                namespace=self.settings.temporal_namespace,
                search_attributes=self._search_attributes,
                time_skipping=self._time_skipping,
                watchdog=self._watchdog,
            )
        if self.settings.database_url is None:
            self._postgres = EmbeddedPostgres(
                self._home.path,
                self._port("postgres_port", "the embedded PostgreSQL"),
                options=self._postgres_options,
                watchdog=self._watchdog,
            )
        # First the one that starts in the background, while the other may have its data to make.
        if self._temporal is not None:
            self._temporal.start()
        if self._postgres is not None:
            self._postgres.start()
            self._postgres.wait_ready()
        if self._temporal is not None:
            self._temporal.wait_ready()

    def _port(self, field: str, what: str) -> int:
        wanted: int = getattr(self.settings, field)
        if field in self.settings.model_fields_set:
            return claim_port(wanted, what, f"AMENDS_{field.upper()}")
        return prefer_port(wanted)

    def _describe(self) -> Running:
        own_database, own_temporal = self.settings.database_url, self.settings.temporal_address
        if own_database is not None:
            database_url = own_database.get_secret_value()
        else:
            assert self._postgres is not None
            database_url = self._postgres.url
        if own_temporal is not None:
            return Running(os.getpid(), database_url, own_temporal, self.settings.temporal_ui)
        assert self._temporal is not None
        return Running(os.getpid(), database_url, self._temporal.address, self._temporal.web_ui)

    def _start_worker(self, where: Mapping[str, str]) -> None:
        if self._worker_command is None:
            return
        environment = {**where, "AMENDS_TEMPORAL_NAMESPACE": self.settings.temporal_namespace}
        log = self._home.log / "worker.log" if self._worker_output == "file" else None
        self._worker = Worker(self._worker_command, environment, log=log, watchdog=self._watchdog)
        self._worker.start()

    def _drain(self) -> None:
        if self._worker is None:
            return
        asked_before = self._signals.count
        deadline = time.monotonic() + self.settings.drain_seconds
        self._worker.drain()
        while self._worker.wait(LOOK_SECONDS) is None:
            if time.monotonic() > deadline or self._signals.count > asked_before:
                logger.warning("worker_killed", pid=self._worker.pid, drain_seconds=self.settings.drain_seconds)
                break
        self._worker.stop(0.0)

    def _children(self) -> list[Supervised]:
        children: list[Supervised | None] = [self._postgres, self._temporal, self._worker]
        return [child for child in children if child is not None]
