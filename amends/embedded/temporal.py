"""Temporal's development server and Web UI as a child process: on loopback, ended with us."""

import json
import re
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from amends.embedded.binaries import find_temporal
from amends.embedded.child import Child, Launch, clean_environment
from amends.embedded.home import Home
from amends.embedded.ports import LOOPBACK, is_free
from amends.errors import PortTaken, ServerFailed

__all__ = ["EmbeddedTemporal"]

NAME = "temporal"
PAUSE_SECONDS = 0.02
DEFAULT_NAMESPACE = "default"

# As shipped the development server is throttled: 50 ms a workflow task. DESIGN.md has the figures.
DYNAMIC_CONFIG: Mapping[str, object] = {
    "history.transferProcessorMaxPollRPS": 2000,
    "history.visibilityProcessorMaxPollRPS": 200,
    "history.timerProcessorMaxPollRPS": 500,
    "history.timerProcessorMaxTimeShift": "10ms",
    "history.longPollExpirationInterval": "2s",
    "matching.numTaskqueueReadPartitions": 1,
    "matching.numTaskqueueWritePartitions": 1,
    "frontend.enableServerVersionCheck": False,
}
TIME_SKIPPING = "frontend.WorkflowTimeSkippingEnabled"

# The server says so in its log when it listens. A client can't tell: another server may answer on that port.
LISTENS = re.compile(r"^(Temporal )?Server:\s", re.MULTILINE)

# Survives SIGKILL of the server at nearly in-memory speed.
PRAGMAS = ("journal_mode=WAL", "synchronous=OFF")


class EmbeddedTemporal:
    """The embedded Temporal server.

    Args:
        home: folder for its log (`log/temporal.log`).
        port: loopback port that clients connect to.
        ui_port: loopback port of the Web UI; None: no Web UI.
        db_path: file of its data; None: in memory, gone at the end.
        namespace: made if it is missing.
        search_attributes: name → type, made if missing; the types are Text, Keyword, Int, Double, Bool,
            Datetime and KeywordList.
        time_skipping: let tests skip time.
        watchdog: as for `Child`.

    Errors:
        ServerFailed: there is no Temporal on this machine.
    """

    name = NAME

    def __init__(
        self,
        home: Path,
        port: int,
        ui_port: int | None,
        *,
        db_path: Path | None,
        namespace: str = DEFAULT_NAMESPACE,
        search_attributes: Mapping[str, str] | None = None,
        time_skipping: bool = False,
        watchdog: bool | None = None,
    ) -> None:
        self.port = port
        self.ui_port = ui_port
        self.namespace = namespace
        self.log = Home(home).log / "temporal.log"
        self._home = Home(home)
        self._db_path = db_path.resolve() if db_path is not None else None
        self._search_attributes = dict(search_attributes or {})
        self._dynamic = {**DYNAMIC_CONFIG, **({TIME_SKIPPING: True} if time_skipping else {})}
        self._program = find_temporal()
        self._child = Child(NAME, log=self.log, watchdog=watchdog)

    @property
    def address(self) -> str:
        """Where clients connect, as host:port."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def web_ui(self) -> str | None:
        """Where people look; None without a Web UI."""
        return None if self.ui_port is None else f"http://{LOOPBACK}:{self.ui_port}"

    @property
    def pid(self) -> int | None:
        """The server's pid, as long as it runs."""
        return self._child.pid

    def start(self) -> None:
        """Starts the server, without waiting until it is ready."""
        self._home.make()
        # With this variable and the news off, it asks nobody on the internet for anything.
        environment = clean_environment(TEMPORAL_VERSION_CHECK_DISABLED="1")
        self._child.start(Launch(command=self._command(), environment=environment, death=signal.SIGKILL))

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._child.poll()

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Waits until namespace and search attributes can really be used.

        Args:
            timeout: seconds.

        Errors:
            PortTaken: somebody else listens on one of its ports.
            ServerFailed: it ended or was not ready in time, or stored data contradict the search attributes.
        """
        # Not at the top: it takes half a second, during which the server starts.
        from amends.embedded.namespace import attempt_blocking

        deadline = time.monotonic() + timeout
        problem: str | None = "it was never asked"
        while time.monotonic() < deadline:
            if (code := self._child.poll()) is not None:
                raise self._ended(code)
            if not LISTENS.search(self._child.tail(1000)):
                self._child.wait(PAUSE_SECONDS)
                continue
            # In short turns, to notice its end in between.
            turn = min(1.0, max(0.1, deadline - time.monotonic()))
            problem = attempt_blocking(self.address, self.namespace, self._search_attributes, turn)
            if problem is None:
                return
        raise ServerFailed(
            f"Temporal was not ready within {timeout:.0f} s ({problem}); {self.log} says:\n{self._child.tail()}"
        )

    def stop(self, timeout: float = 10.0) -> None:
        """Ends it in order, which takes a second; one in memory has nothing to put in order and is killed.

        Args:
            timeout: seconds until it is killed; stored data survive that too.
        """
        self._child.stop(signal.SIGTERM, timeout if self._db_path is not None else 0.0)

    def _command(self) -> list[str]:
        command = [str(self._program), "server", "start-dev", "--disable-config-file", "--disable-config-env"]
        command += ["--ip", LOOPBACK, "--port", str(self.port), "--namespace", self.namespace]
        command += ["--log-level", "error", "--ui-disable-news-fetch"]
        command += ["--headless"] if self.ui_port is None else ["--ui-port", str(self.ui_port)]
        if self._db_path is not None:
            command += ["--db-filename", str(self._db_path)]
            for pragma in PRAGMAS:
                command += ["--sqlite-pragma", pragma]
        for name, kind in self._search_attributes.items():
            command += ["--search-attribute", f"{name}={kind}"]
        for name, value in self._dynamic.items():
            # As JSON: a duration without its quotes is not taken.
            command += ["--dynamic-config-value", f"{name}={json.dumps(value)}"]
        return command

    def _ended(self, code: int) -> Exception:
        for port, setting in ((self.port, "AMENDS_TEMPORAL_PORT"), (self.ui_port, "AMENDS_TEMPORAL_UI_PORT")):
            if port is not None and not is_free(port):
                return PortTaken(
                    f"port {port} on {LOOPBACK}, wanted for the embedded Temporal, is taken: end what "
                    f"listens there, or set {setting} to another port (0 takes a free one)"
                )
        return ServerFailed(f"Temporal ended with code {code}; {self.log} says:\n{self._child.tail()}")
