"""Finishing what has begun although it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["to_the_end"]

T = TypeVar("T")


async def to_the_end(running: Awaitable[T], *, cancelled: Callable[[], None] = lambda: None) -> T:
    """Wait for something to end, whatever cancellations arrive meanwhile: its outcome is known then.

    Args:
        running: what must not be left half done.
        cancelled: called at each cancellation.

    Returns:
        its result; what it raises is raised.
    """
    task = asyncio.ensure_future(running)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
            cancelled()
        except Exception:
            break
    return task.result()
