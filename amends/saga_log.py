"""What a saga writes of itself into the command log, beside its steps: what was parked, the repairs, its end."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from amends.aggregate import Aggregate, Decision
from amends.messages import Command, Event
from amends.visibility import SagaStatus

__all__ = ["AbandonSaga", "CancelSaga", "CloseSaga", "ParkStep", "ResolveStep", "RetryStep", "SagaLog", "SkipStep"]


class _Entry(Command):
    """An entry about a saga.

    Args:
        saga_id: its workflow.
    """

    saga_id: str


class _StepEntry(_Entry):
    """An entry about one step of it.

    Args:
        step: its id.
        title: of the step.
        reason: why.
    """

    step: str
    title: str
    reason: str


class ParkStep(_StepEntry, name="saga.park"):
    """Leave a step to people."""


class RetryStep(_StepEntry, name="saga.retry"):
    """Try a parked step again, with other input if there is any.

    Args:
        input: that, personal fields masked.
        undo: what is done now instead of the recorded undo, by whoever does it.
    """

    input: Any = None
    undo: dict[str, Any] | None = None


class SkipStep(_StepEntry, name="saga.skip"):
    """Go on without a parked step."""


class ResolveStep(_StepEntry, name="saga.resolve"):
    """Take a parked step as done by hand."""

    done: str


class AbandonSaga(_Entry, name="saga.abandon"):
    """Give a saga up."""

    reason: str


class CancelSaga(_Entry, name="saga.cancel"):
    """Stop a saga and undo it."""

    reason: str


class CloseSaga(_Entry, name="saga.close"):
    """End a saga.

    Args:
        process: name of its workflow class.
        status: its final one.
        reason: short code of why it turned back.
        message: the same in words.
        failed_at: the step at which it turned back.
        started_at: when its workflow started.
        turned_back_at: when it began to undo.
        steps: how many it took.
        undos: how many it did.
        run_id: the run of its workflow that this is the end of, whoever brought it there.
    """

    process: str
    status: SagaStatus
    reason: str | None
    message: str | None
    failed_at: str | None
    started_at: datetime
    turned_back_at: datetime | None
    steps: int
    undos: int
    run_id: str


SagaEntry = ParkStep | RetryStep | SkipStep | ResolveStep | AbandonSaga | CancelSaga | CloseSaga


class SagaLog(Aggregate[SagaEntry, Event], category="saga", key="saga_id"):
    """The log of one saga: entries are commands and lead to no events, so that no stream and no feed grows by them."""

    def decide(self, command: SagaEntry) -> Decision:
        """Nothing but the entry itself."""
        return []

    def evolve(self, event: Event) -> Self:
        """There are no events."""
        return self
