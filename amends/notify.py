"""Wake-ups: one process tells others that there is something to read. Losing one costs time, never events."""

from __future__ import annotations

import asyncio
import re
from types import TracebackType
from typing import Self

import structlog

from amends.database import Pool
from amends.listen import FIRST_RETRY, LAST_RETRY, Listener, scattered
from amends.records import START, Position

__all__ = ["CHECKPOINTS", "CLEAR", "EVENTS", "NOTIFY", "Listener", "Notifier", "clear"]

log = structlog.get_logger("amends.notify")

EVENTS = "amends_events"
"""Channel of appends; the payload is the position, `xid:number`."""

CHECKPOINTS = "amends_checkpoints"
"""Channel of projections' progress; the payload is `name:xid:number`, and `clear()` behind it if nothing is parked."""

NOTIFY = "select pg_notify(%s, %s)"
"""Wake the listeners of a channel; a transaction of its own, for inside another it would queue all commits."""

CLEAR = re.compile(r":clear:(?P<version>\d+)\.(?P<generation>\d+)$")
"""What stands behind a position when nothing of this build is parked, so that nobody need ask.

Whoever may log in to the database may notify, and is trusted not to lie; a lie is found out within a second.
"""

FLUSH = 2.0
"""Seconds that leaving waits for the last notification to go out."""


def clear(version: int, generation: int) -> str:
    """What is put behind a position for `CLEAR`."""
    return f":clear:{version}.{generation}"


class Notifier:
    """Tells readers of the feed about appends, after their commit and as few times as will do.

    Args:
        pool: connections, of any role.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._highest = self._sent = START
        self._poked = asyncio.Event()
        self._leaving = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="amends-notifier")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving = True
        self._poked.set()
        try:
            await asyncio.wait({self._task}, timeout=FLUSH)
        finally:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def poke(self, position: Position) -> None:
        """Have the readers told that the feed goes up to this position; returns at once, from the event loop's thread.

        Args:
            position: of a committed event.
        """
        if position > self._highest:
            self._highest = position
            self._poked.set()

    async def _run(self) -> None:
        retry = FIRST_RETRY
        while True:
            await self._poked.wait()
            self._poked.clear()
            telling = self._highest
            if telling > self._sent:
                try:
                    async with self._pool.connection() as connection:
                        await connection.execute(NOTIFY, (EVENTS, str(telling)))
                    self._sent, retry = telling, FIRST_RETRY
                except Exception as error:  # pool timeouts too: whatever it is, readers poll meanwhile
                    log.warning("notify_failed", channel=EVENTS, error=str(error), retry_seconds=retry)
                    self._poked.set()
                    await asyncio.sleep(scattered(retry))
                    retry = min(2 * retry, LAST_RETRY)
            if self._leaving and self._sent == self._highest:
                return
