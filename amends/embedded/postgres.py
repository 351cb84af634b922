"""PostgreSQL as a child process: a real server, on loopback, behind a password, ended with us."""

import re
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from amends.embedded.child import Child
from amends.embedded.cluster import DATABASE, OWNER, Cluster
from amends.embedded.home import Home
from amends.embedded.ports import LOOPBACK
from amends.embedded.stale import stale_holder
from amends.errors import PortTaken, ServerFailed

__all__ = ["EmbeddedPostgres"]

NAME = "postgres"

# How long a server that was left by a killed holder may take to let go of the data.
LET_GO_SECONDS = 15.0
STILL_HELD = re.compile(r'lock file "postmaster\.pid" already exists|pre-existing shared memory block')
PORT_TAKEN = re.compile(r"could not bind IPv4 address|could not create any TCP/IP sockets")

SETTINGS: Mapping[str, str] = {
    "listen_addresses": LOOPBACK,
    # No socket file: its path may be too long, and the loopback port serves every client.
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    # Facts that were confirmed survive SIGKILL and power loss.
    "synchronous_commit": "on",
    # Shared memory as files among the data: a killed server leaves nothing elsewhere, and the few megabytes of
    # /dev/shm that containers get don't limit queries.
    "dynamic_shared_memory_type": "mmap",
    # Nobody replicates from it.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # Short statements all over: compiling them costs more than it gains.
    "jit": "off",
    # An open transaction holds back the feed of all readers.
    "idle_in_transaction_session_timeout": "60s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    # Errors go to whoever made the statement. In the log, their texts would carry people's data.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
}


class EmbeddedPostgres:
    """The embedded PostgreSQL, its data in a home folder.

    Args:
        home: folder for its data (`postgres/`) and its log (`log/postgres.log`).
        port: loopback port it listens on.
        options: further server settings, which win over ours; tests set `fsync=off` for speed.
        watchdog: as for `Child`.

    Errors:
        ServerFailed: there is no PostgreSQL on this machine.
    """

    name = NAME

    def __init__(
        self, home: Path, port: int, *, options: Mapping[str, str] | None = None, watchdog: bool | None = None
    ) -> None:
        self.port = port
        self.log = Home(home).log / "postgres.log"
        self._home = Home(home)
        self._options = {**SETTINGS, **(options or {})}
        synced = self._options.get("fsync", "on") != "off"
        self._cluster = Cluster(self._home.path, log=self.log, sync=synced, watchdog=watchdog)
        self._child = Child(NAME, log=self.log, watchdog=watchdog)

    @property
    def url(self) -> str:
        """Where clients connect, as the owner of the database, with the password.

        Errors:
            ServerFailed: the data were not made yet, or belong to another account.
        """
        return f"postgresql://{OWNER}:{self._cluster.password}@{LOOPBACK}:{self.port}/{DATABASE}"

    @property
    def pid(self) -> int | None:
        """The server's pid, as long as it runs."""
        return self._child.pid

    def start(self) -> None:
        """Makes the data if there are none and starts the server, without waiting until it is ready.

        Errors:
            ServerFailed: the data could not be made.
        """
        self._home.make()
        self._cluster.ensure()
        self._launch()

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._child.poll()

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Waits until the database takes connections.

        Args:
            timeout: seconds; after a hard death the server first replays its log.

        Errors:
            PortTaken: somebody else listens on its port.
            ServerFailed: it ended or was not ready in time; says what its log says.
        """
        begun = time.monotonic()
        problem = "it was never asked"
        while time.monotonic() < begun + timeout:
            # Also the pause between two attempts.
            code = self._child.wait(0.02)
            if code is None:
                refusal = self._refusal()
                if refusal is None:
                    return
                problem = refusal
            elif STILL_HELD.search(self._child.tail()) and time.monotonic() < begun + LET_GO_SECONDS:
                time.sleep(0.2)
                self._launch()
            elif PORT_TAKEN.search(self._child.tail()):
                raise PortTaken(
                    f"port {self.port} on {LOOPBACK}, wanted for the embedded PostgreSQL, is taken: end what "
                    "listens there, or set AMENDS_POSTGRES_PORT to another port (0 takes a free one)"
                )
            else:
                raise ServerFailed(f"PostgreSQL ended with code {code}; {self.log} says:\n{self._child.tail()}")
        raise ServerFailed(
            f"PostgreSQL was not ready within {timeout:.0f} s ({problem}); {self.log} says:\n{self._child.tail()}"
        )

    def stop(self, timeout: float = 20.0) -> None:
        """Ends it in order: open transactions are rolled back, everything is written down.

        Args:
            timeout: seconds until it is killed.
        """
        self._child.stop(signal.SIGINT, timeout)

    def _launch(self) -> None:
        data = self._cluster.data
        settings = [f"--{name}={value}" for name, value in self._options.items()]
        # PostgreSQL takes any live process with the pid of a killed server for that server, except the one
        # this variable names. It goes on checking that nobody uses the old server's memory.
        stale = stale_holder(data)
        environment = {} if stale is None else {"PG_GRANDPARENT_PID": str(stale)}
        arguments = ["-D", str(data), "-p", str(self.port), *settings]
        self._child.start(self._cluster.launch("postgres", *arguments, environment=environment))

    def _refusal(self) -> str | None:
        # Not at the top: who only asks where a stack runs does not need the client library.
        import psycopg

        address = f"postgresql://{LOOPBACK}:{self.port}/{DATABASE}?sslmode=disable&connect_timeout=2"
        try:
            psycopg.connect(address, user=OWNER, password=self._cluster.password).close()
        except psycopg.OperationalError as problem:
            return str(problem).strip()
        return None
