"""Cancelling a saga: where that is heard, and what is given up for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError

from amends.errors import SagaCancelled
from amends.outcomes import from_outside, given_up
from amends.saga_state import Run
from amends.shield import to_the_end

__all__ = ["Cancelling"]

SETTLING = 10
"""Turns of the event loop in which what has ended already is noticed, before the rest is cancelled."""

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

    def give_up(self) -> None:
        """Stop whatever an abandoned saga does: nothing of it is undone, so nothing has to be known of it."""
        self._stop(self._run.taking_back)

    async def durably(self, begin: Callable[[], Awaitable[R]]) -> R:
        """Run a step whose beginning is in the history before it acts; only here and at the end cancellation is heard.

        A local step is not in the history until its workflow task has ended. If the worker dies before that, the step
        may have acted, and only the replay, which comes to it again, registers its undo. A saga that turned back
        before would leave it standing. No lost task can have passed a step that the history knows.

        Raises:
            SagaCancelled: the saga was cancelled before the step began, or the step was given up for that.
            ApplicationError: of type Abandoned, when the saga was; past the pivot, where nothing else is heard, too.
        """
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

    async def to_the_end(self, running: Awaitable[R]) -> R:
        """Wait for something; a cancellation goes to the durable steps in it, if there are any."""
        return await to_the_end(running, cancelled=self._interrupt)

    def _interrupt(self) -> None:
        """Have the cancellation heard, unless the saga only goes forward."""
        if not self._run.forward_only:
            self._stop()

    def _stop(self, besides: Collection[asyncio.Future[Any]] = ()) -> None:
        """Give up the durable steps that are under way, but none whose end came together with the wish for it."""

        async def soon() -> None:
            for _ in range(SETTLING):
                await asyncio.sleep(0)
            for task in list(self._run.interruptible):
                self._run.given_up.add(task)
                task.cancel()
            for task in list(besides):
                task.cancel()

        if self._run.interruptible or besides:
            self._run.interrupting = asyncio.ensure_future(soon())

    def raise_if_asked(self) -> None:
        """Raise why the saga is to stop, if it is to."""
        stopped = self.asked()
        if stopped is not None:
            raise stopped

    def asked(self) -> SagaCancelled | ApplicationError | None:
        """Why the saga is to stop: it was abandoned, or is to be cancelled and still can be."""
        if self._run.abandoned is not None:
            return given_up()
        if self._run.cancelled is None and workflow.cancellation_reason() is not None:
            self._run.cancelled = from_outside()
        return None if self._run.cancelled is None or self._run.forward_only else SagaCancelled(self._run.cancelled)
