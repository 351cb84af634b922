"""The application's worker as a child process of the stack."""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from amends.embedded.child import Child, Launch

__all__ = ["Worker"]

NAME = "worker"
KEEP_UMASK = -1


class Worker:
    """The worker process.

    Args:
        command: what to run.
        environment: variables it gets besides ours.
        log: file for its output; None: the terminal.
        watchdog: as for `Child`.
    """

    name = NAME

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        log: Path | None,
        watchdog: bool | None = None,
    ) -> None:
        self._command = tuple(command)
        self._environment = dict(environment)
        self._child = Child(NAME, log=log, watchdog=watchdog)

    @property
    def pid(self) -> int | None:
        """Its pid, as long as it runs."""
        return self._child.pid

    def start(self) -> None:
        """Starts it."""
        # SIGKILL at our death: the servers go at that moment too, so there is nothing left to drain into.
        environment = {**os.environ, **self._environment}
        self._child.start(Launch(self._command, environment, death=signal.SIGKILL, umask=KEEP_UMASK))

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._child.poll()

    def wait(self, timeout: float) -> int | None:
        """Waits up to `timeout` seconds for its end; its exit code, if it came."""
        return self._child.wait(timeout)

    def drain(self) -> None:
        """Asks it to finish its work and end."""
        self._child.send(signal.SIGTERM)

    def stop(self, timeout: float) -> None:
        """Ends it: lets it finish its work for `timeout` seconds, then kills it."""
        self._child.stop(signal.SIGTERM, timeout)
