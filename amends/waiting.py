"""What a saga waits for: messages, time, and that its history knows of an update."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from temporalio import workflow

from amends.cancelling import Cancelling
from amends.conduct import Conduct, on_record
from amends.errors import SagaCancelled
from amends.saga_state import Run
from amends.visibility import Entry

__all__ = ["Waiting"]


class Waiting:
    """Waits in a saga's name.

    Args:
        run: the saga's state.
        conduct: keeps the timeline.
        cancelling: ends a wait that is in vain.
    """

    def __init__(self, run: Run, conduct: Conduct, cancelling: Cancelling) -> None:
        self._run, self._conduct, self._cancelling = run, conduct, cancelling

    async def until(self, title: str, condition: Callable[[], bool], timeout: timedelta | None) -> bool:
        """Wait until something has become true in this workflow; arguments and errors as `Saga.wait`."""

        async def waiting(entry: Entry) -> bool:
            try:
                await workflow.wait_condition(condition, timeout=timeout, timeout_summary=title)
            except TimeoutError:
                await on_record(f"{title}: not in time")  # else a lost task could find that it was
                return await self._came(condition)
            return True

        if condition() or timeout == timedelta(0):
            return await self._came(condition)  # a cancellation waits for the next step that is durable
        try:
            return await self._cancelling.durably(lambda: self._conduct.step(title, waiting))
        except SagaCancelled:
            if condition():
                return True  # it came together with the cancellation, and may have been acted on
            raise

    async def sleep(self, title: str, duration: timedelta) -> None:
        """Let time pass; arguments and errors as `Saga.sleep`."""

        async def sleeping(entry: Entry) -> None:
            await workflow.sleep(duration, summary=title)

        await self._cancelling.durably(lambda: self._conduct.step(title, sleeping))

    async def hear(self, update: str) -> None:
        """Let an update come to the history's knowledge before it takes effect.

        Args:
            update: its name.
        """
        if self._run.closing:
            return  # nothing is done for it any more
        self._run.coming += 1
        try:
            await on_record(f"{update} is on record")
        finally:
            self._run.coming -= 1

    async def _came(self, condition: Callable[[], bool]) -> bool:
        """Whether it is so, with what has come in time."""
        if not condition() and self._run.coming:
            await workflow.wait_condition(lambda: not self._run.coming)
        return condition()
