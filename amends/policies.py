"""How long a step may take and how it is retried: the one home of every timeout of a saga."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Self

from temporalio.common import RetryPolicy

__all__ = ["CALL", "COMMAND", "Policy"]


@dataclass(frozen=True)
class Policy:
    """Limits of one step.

    Args:
        attempt: longest that one attempt may take.
        deadline: longest that all attempts together may take; None retries for ever.
        first_pause: wait before the second attempt; doubles from there.
        longest_pause: the wait never grows beyond this.
        heartbeat: longest silence of a long-running attempt; None asks for no heartbeats.
        budget: how long it is retried as an undo, before the saga parks and asks for a person.
    """

    attempt: timedelta
    deadline: timedelta | None
    first_pause: timedelta = timedelta(milliseconds=100)
    longest_pause: timedelta = timedelta(seconds=10)
    heartbeat: timedelta | None = None
    budget: timedelta = timedelta(days=1)

    @property
    def retry(self) -> RetryPolicy:
        """The same, in Temporal's terms."""
        return RetryPolicy(initial_interval=self.first_pause, maximum_interval=self.longest_pause)

    def without_end(self) -> Self:
        """The same, for what has to be done in the end: a step after the pivot, or the saga's own records."""
        return replace(self, deadline=None, longest_pause=UNHURRIED)

    def of_undo(self) -> Self:
        """The same, for an undo: patient, but not for ever, for somebody should know."""
        return replace(self, deadline=self.budget, longest_pause=UNHURRIED)


UNHURRIED = timedelta(minutes=5)
"""Longest pause of what is retried without end: long enough to wait on a timer instead of in the workflow's task."""

COMMAND = Policy(attempt=timedelta(seconds=30), deadline=timedelta(hours=1))
"""A short transaction in our own database: an hour of its absence is waited out."""

CALL = Policy(
    attempt=timedelta(seconds=30),
    deadline=timedelta(minutes=5),
    first_pause=timedelta(seconds=1),
    heartbeat=timedelta(seconds=5),
)
"""A call that leaves the house: after five minutes the answer counts as unknown, and the saga undoes."""
