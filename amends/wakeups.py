"""When a reader of the feed looks again: told to, or by the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from amends.errors import InvalidInput
from amends.listen import Listener
from amends.records import START, Position

__all__ = ["FIRST_LOOK", "POLL", "Wakeups"]

POLL = 0.25
"""Seconds after which the feed is read again although nobody said that there is anything."""

FIRST_LOOK = 0.002
"""Seconds until the second look for what was announced but is not shown yet; doubles up to the polling interval."""

BEAT = 1.0
"""Most seconds between two signs of life."""


class Wakeups:
    """Waits until it is worth looking at the feed again.

    What was announced may not be shown yet, for an older transaction is still open: look again soon, then later.

    Args:
        listener: on the channel of appends.
        poll: seconds between looks when nothing is announced.
    """

    def __init__(self, listener: Listener, poll: float) -> None:
        self._listener, self._poll = listener, poll
        self._announced = START
        self._look = FIRST_LOOK
        self.called = False
        """Whether somebody called by hand: not to say that there are events, but that something is wanted."""

    async def wait(
        self,
        at: Position,
        stop: asyncio.Event,
        beat: Callable[[Position], None],
        changed: Callable[[], Awaitable[bool]],
    ) -> None:
        """Return when the feed should be read again, or as soon as `stop` is set.

        Args:
            at: where the reader stands, having found nothing after it.
            stop: ends the waiting.
            beat: called every second or so.
            changed: asked as often; True ends the waiting, as if somebody had called.
        """
        pause = self._poll
        if self._announced > at:
            pause, self._look = min(self._look, self._poll), min(2 * self._look, self._poll)
        clock = asyncio.get_running_loop().time
        until = clock() + pause
        beat(at)
        while (left := until - clock()) > 0 and not stop.is_set():
            heard = await _unless(stop, self._listener.wait(min(left, BEAT)))
            if heard is not None:
                self._hear(heard)
                return
            beat(at)
            if not stop.is_set() and await changed():
                self.called = True
                return

    def _hear(self, payload: str) -> None:
        try:
            announced = Position.parse(payload)
        except InvalidInput:  # none after a reconnection; or somebody notifies by hand: look, that is all
            self.called = True
            return
        if announced > self._announced:
            self._announced, self._look = announced, FIRST_LOOK


async def _unless(stop: asyncio.Event, waiting: Coroutine[Any, Any, str | None]) -> str | None:
    """The result of waiting, or None as soon as `stop` is set."""
    tasks = asyncio.ensure_future(waiting), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
