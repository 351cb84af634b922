"""Local activities under way together go on one after the other, in the same order whenever the workflow is run again.

What ends apart at first may end in one go in a replay: the server's history tells in which order, and the SDK keeps to
that, but all of it is told to the workflow at once. Whose code then reaches its next step first depends on how deep it
stands. So each waits for its turn, and gives those before it time to come to their next steps. The trouble is known:
github.com/temporalio/sdk-python, issue 1578.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

__all__ = ["Turns"]

T = TypeVar("T")

DEPTH = 50
"""Turns of the event loop in which code that goes on comes to its next step; each wait within waits costs a few."""


class Turns:
    """The order in which the local activities of one workflow go on."""

    def __init__(self) -> None:
        self._last: asyncio.Future[None] | None = None

    async def after(self, running: Awaitable[T]) -> T:
        """Wait for a local activity, then for its turn.

        Args:
            running: the activity.

        Returns:
            its result; what it raises is raised.
        """
        try:
            result = await running
        except (Exception, asyncio.CancelledError):  # not GeneratorExit: that is the workflow's eviction
            await self._turn()
            raise
        await self._turn()
        return result

    async def _turn(self) -> None:
        before, mine = self._last, asyncio.get_running_loop().create_future()
        self._last = mine
        try:
            if before is not None:
                await asyncio.shield(before)
            for _ in range(DEPTH):
                await asyncio.sleep(0)
        finally:
            mine.set_result(None)
