"""Somebody asks us to end: Ctrl-C, `kill`, a closed terminal."""

import os
import select
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

__all__ = ["StopSignals"]

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """Counts requests to end instead of dying of them; outside the main thread it hears nothing.

    Until `settle` a request interrupts what the main thread is doing with KeyboardInterrupt, because it may
    be busy in somebody else's code; after it a request is only noted, and `wait` returns.
    """

    def __init__(self) -> None:
        self.count = 0
        self._interrupts = True
        self._previous: dict[signal.Signals, Any] = {}
        self._reader = self._writer = -1

    def open(self) -> None:
        """Takes over the signals."""
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                # Started with nohup or in a script's background: what was to be ignored stays ignored.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)

    def close(self) -> None:
        """Gives the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
        for end in (self._reader, self._writer):
            if end >= 0:
                os.close(end)
        self._reader = self._writer = -1

    def settle(self) -> None:
        """From now on a request is only noted."""
        self._interrupts = False

    def wait(self, seconds: float) -> bool:
        """Waits for a request, at most that long; whether there has been one."""
        if not self.count:
            select.select([self._reader], [], [], seconds)
        return self.count > 0

    def request(self) -> None:
        """Makes a request, as a signal would; for other threads."""
        self.count += 1
        # A full pipe wakes `wait` as well as one more byte would.
        with suppress(BlockingIOError):
            os.write(self._writer, b"!")

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.request()
        if self._interrupts:
            raise KeyboardInterrupt(signal.Signals(number).name)
