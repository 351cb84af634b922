"""Cancelling a saga: where that is heard, and what is given up for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import FailureError

from amends.errors import SagaCancelled
from amends.outcomes import from_outside
from amends.saga_state import Run
from amends.shield import to_the_end

__all__ = ["Cancelling"]

SETTLING = 10
"""Turns of the event loop in which what has ended already is noticed, before the rest is cancelled."""

REMEMBERED = timedelta(milliseconds=1)
"""A timer ends the workflow task; how long it runs does not matter."""

R = TypeVar("R")


class Cancelling:
    """What a saga's steps run through, so that a cancellation is heard in the right places and nowhere else.

    Args:
        run: the saga's state, shared with the sub-processes mounted in it.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def cancel(self, reason: str) -> None:
        """Have the saga cancelled, for this reason."""
        self._run.cancelled = reason
        self._interrupt()

    async def durably(self, begin: Callable[[], Awaitable[R]]) -> R:
        """Run a step whose beginning is in the history before it acts; only here and at the end cancellation is heard.

        A local step is not in the history until its workflow task has ended. If the worker dies before that, the step
        may have acted, and only the replay, which comes to it again, registers its undo. A saga that turned back
        before would leave it standing. No lost task can have passed a step that the history knows.

        Raises:
            SagaCancelled: the saga was cancelled before the step began, or the step was given up for that.
        """
        if self._run.forward_only:
            return await to_the_end(begin())
        self.raise_if_asked()
        task = asyncio.ensure_future(begin())
        self._run.interruptible[task] = None
        try:
            return await self.to_the_end(task)
        except (FailureError, asyncio.CancelledError):
            if task in self._run.given_up:
                self.raise_if_asked()
            raise
        finally:
            self._run.interruptible.pop(task, None)

    async def remembered(self) -> None:
        """Wait until the history knows of the cancellation, before anything is undone for it.

        An update is not in the history until the workflow task has ended that it came with. If the worker dies before
        that, the update is lost, and the saga goes on; what local undos had undone by then would be missing.
        """
        if self._run.cancelled is None or self._run.forward_only or workflow.cancellation_reason() is not None:
            return
        if self._run.remembering is None:
            self._run.remembering = asyncio.ensure_future(workflow.sleep(REMEMBERED, summary="turn back"))
        await to_the_end(self._run.remembering)

    async def to_the_end(self, running: Awaitable[R]) -> R:
        """Wait for something; a cancellation goes to the durable steps in it, if there are any."""
        return await to_the_end(running, cancelled=self._interrupt)

    def _interrupt(self) -> None:
        """Give up the durable steps that are under way, but none whose end came together with the cancellation."""

        async def soon() -> None:
            for _ in range(SETTLING):
                await asyncio.sleep(0)
            for task in list(self._run.interruptible):
                self._run.given_up.add(task)
                task.cancel()

        if self._run.interruptible and not self._run.forward_only:
            self._run.interrupting = asyncio.ensure_future(soon())

    def raise_if_asked(self) -> None:
        """Raise `SagaCancelled` if the saga is to be cancelled and still can be."""
        cancelled = self.asked()
        if cancelled is not None:
            raise cancelled

    def asked(self) -> SagaCancelled | None:
        """That the saga is to be cancelled, if it is and still can be."""
        if self._run.cancelled is None and workflow.cancellation_reason() is not None:
            self._run.cancelled = from_outside()
        return None if self._run.cancelled is None or self._run.forward_only else SagaCancelled(self._run.cancelled)
