"""Read your own writes: wait until projections have come as far as a command's events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import structlog

from amends.errors import InvalidInput
from amends.listen import FIRST_RETRY, LAST_RETRY, Listener
from amends.notify import CHECKPOINTS
from amends.records import Position

__all__ = ["Checkpoints", "Freshness", "Status"]

log = structlog.get_logger("amends.freshness")

POLL = 0.25
"""Seconds after which those who wait have the checkpoints read again, whatever was or was not announced."""

Status = Mapping[str, Position]
"""How far each projection has come."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """Whether projections have come to a position.

    Args:
        fresh: all of them have.
        position: where the slowest of them stands.
        projection: which one that is.
        reason: why not, when they have not: behind (nobody waited), timed_out.
    """

    fresh: bool
    position: Position
    projection: str
    reason: Literal["behind", "timed_out"] | None = None


@dataclass(eq=False, slots=True)
class _Waiter:
    position: Position
    missing: set[str]
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def learn(self, known: Status) -> None:
        self.missing = {name for name in self.missing if name not in known or known[name] < self.position}
        if not self.missing and not self.done.done():
            self.done.set_result(None)


class Checkpoints:
    """Follows all projections' checkpoints, on one connection however many wait; it listens from the first wait on.

    Args:
        url: a PostgreSQL URL or conninfo.
        read: reads where the projections stand now.
    """

    def __init__(self, url: str, read: Callable[[], Awaitable[Status]]) -> None:
        self._url = url
        self._read = read
        self._waiters: set[_Waiter] = set()
        self._following: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Stop following."""
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def at_least(self, position: Position, projections: Collection[str], timeout: float) -> Freshness:
        """Wait until projections have applied everything up to a position.

        Args:
            position: from a receipt.
            projections: names, at least one.
            timeout: seconds to wait at most; 0 only looks.

        Returns:
            fresh, or stale and why; staleness is never an error.

        Raises:
            InvalidInput: there is no projection of that name.
        """
        names = dict.fromkeys(projections)
        waiter = _Waiter(position, set(names))
        self._waiters.add(waiter)  # before reading, or what is announced meanwhile would be missed
        try:
            status = await self._read()
            unknown = [name for name in names if name not in status]
            if unknown or not names:
                told = f"no projection is named {', '.join(unknown)}" if unknown else "name at least one"
                raise InvalidInput({"projections": f"{told}; there are {', '.join(sorted(status))}"})
            seen = _judge(position, names, status, "behind")
            if seen.fresh or timeout <= 0:
                return seen
            waiter.learn(status)
            if self._following is None:
                self._following = asyncio.create_task(self._follow(), name="amends-checkpoints")
            await asyncio.wait({waiter.done}, timeout=timeout)
        finally:
            self._waiters.discard(waiter)
        if waiter.done.done():
            return Freshness(True, position, seen.projection)
        return _judge(position, names, await self._read(), "timed_out")

    async def _follow(self) -> None:
        """Keep those who wait informed; whatever goes wrong is tried again, for they have time-outs."""
        retry = FIRST_RETRY
        while True:
            try:
                async with Listener(self._url, "reader", CHECKPOINTS) as listener:
                    heard = [""]  # what came before the listening is found by reading
                    while True:
                        await self._learn(heard)
                        retry = FIRST_RETRY
                        heard = await listener.take(POLL) or [""]
            except Exception as error:
                log.warning("checkpoints_lost", error=str(error), retry_seconds=retry)
                await asyncio.sleep(retry)
                retry = min(2 * retry, LAST_RETRY)

    async def _learn(self, heard: list[str]) -> None:
        if not self._waiters:
            return
        known: dict[str, Position] = {}
        for payload in heard:
            name, _, position = payload.partition(":")
            try:
                known[name] = Position.parse(position)
            except InvalidInput:  # a reconnection, or nothing heard for a while
                known |= await self._read()
        for waiter in self._waiters:
            waiter.learn(known)


def _judge(
    position: Position, names: Collection[str], status: Status, reason: Literal["behind", "timed_out"] | None
) -> Freshness:
    slowest = min(names, key=lambda name: status[name])
    fresh = status[slowest] >= position
    return Freshness(fresh, status[slowest], slowest, None if fresh else reason)
