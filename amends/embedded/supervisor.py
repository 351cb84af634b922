"""Brings back a child that died, but not for ever."""

import time
from collections.abc import Callable
from typing import Protocol

import structlog

from amends.errors import ServerFailed

__all__ = ["Supervised", "Supervisor"]

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
# After that long without dying, earlier deaths are forgotten.
HEALTHY_SECONDS = 30.0
MOST_FAILURES = 10

logger = structlog.get_logger(__name__)


class Supervised(Protocol):
    """What can be started, watched and ended."""

    @property
    def name(self) -> str:
        """What it is, in logs."""

    @property
    def pid(self) -> int | None:
        """Its pid, as long as it runs."""

    def start(self) -> None:
        """Starts it, without waiting until it is ready."""

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""

    def stop(self, timeout: float) -> None:
        """Ends it, by force after `timeout` seconds."""


class Supervisor:
    """Restarts one child whenever it dies, after a pause that doubles from 0.2 s to 5 s.

    Args:
        child: started already.
        clock: seconds that only go forward.
    """

    def __init__(self, child: Supervised, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.child = child
        self._clock = clock
        self._failures = 0
        self._started = clock()
        self._due: float | None = None
        self._code: int | None = None

    def check(self) -> None:
        """Looks once, and restarts the child if it is dead and the pause is over; never waits.

        Errors:
            ServerFailed: it died ten times in a row, none of them after 30 healthy seconds.
        """
        now = self._clock()
        if self._due is None:
            self._code = self.child.poll()
            if self._code is not None:
                self._due = now + self._pause_after_failure(now)
        elif now >= self._due:
            self._due = None
            self._started = now
            self.child.start()
            logger.warning(
                "embedded_restarted",
                name=self.child.name,
                exit_code=self._code,
                failures=self._failures,
                pid=self.child.pid,
            )

    def _pause_after_failure(self, now: float) -> float:
        self._failures = 1 if now - self._started >= HEALTHY_SECONDS else self._failures + 1
        if self._failures >= MOST_FAILURES:
            raise ServerFailed(
                f"{self.child.name} ended {self._failures} times in a row, last with code {self._code}: see its log"
            )
        return float(min(FIRST_PAUSE_SECONDS * 2 ** (self._failures - 1), LONGEST_PAUSE_SECONDS))
