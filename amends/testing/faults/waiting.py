"""Waiting for something to become true."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["until"]

T = TypeVar("T")

PAUSE_SECONDS = 0.02


async def until(what: str, condition: Callable[[], Awaitable[T]], seconds: float = 30.0) -> T:
    """Wait until a condition gives something true, and return that.

    Args:
        what: is waited for.
        condition: looked at again and again.
        seconds: longest wait.

    Raises:
        AssertionError: it did not become true in time.
    """
    deadline = time.monotonic() + seconds
    while not (outcome := await condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        await asyncio.sleep(PAUSE_SECONDS)
    return outcome
