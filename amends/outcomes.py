"""How a saga can end badly, and how that is told: to the parent saga, to the caller, to people."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from temporalio import workflow
from temporalio.exceptions import ApplicationError, ChildWorkflowError, FailureError, is_cancelled_exception

from amends.errors import Abandoned, AmendsError, Refused, SagaCancelled
from amends.records import Refusal, UndoStep
from amends.steps import refused
from amends.values import Value

__all__ = [
    "BY_OPERATOR",
    "HandedOver",
    "SagaUndone",
    "from_outside",
    "given_up",
    "is_failure",
    "reason_of_child",
    "refusal_of",
    "told",
    "undone_child",
    "why_undone",
]


BY_PARENT = "cancelled_by_parent"
BY_OPERATOR = "cancelled_by_operator"


def from_outside() -> str:
    """Reason of a saga whose workflow was cancelled through Temporal: by its parent, or by an operator."""
    return BY_PARENT if workflow.info().parent else BY_OPERATOR


class HandedOver(Value):
    """An undo that a child saga could not do, for its parent to see to.

    Args:
        undo: what is to be done.
        why: how it failed; None where it only waits for another one.
        refused: a rule said no, so it certainly had no effect.
        reason: why the child turned back.
    """

    undo: UndoStep
    why: str | None
    refused: bool
    reason: str


class SagaUndone(ApplicationError):
    """The saga failed, and everything it had done is undone.

    Uncaught, it closes the workflow as failed with the refusal in its details, which a parent saga reads.

    Args:
        reason: short code of why: the refusal's name, or what was said with the cancellation.
        refusal: the refusal, when a rule said no.
        handed: what a child could not undo, for its parent.
    """

    def __init__(self, reason: str, message: str, refusal: Refusal | None, handed: Sequence[HandedOver] = ()) -> None:
        super().__init__(message, reason, refusal, list(handed), type="SagaUndone", non_retryable=True)
        self.reason = reason
        self.refusal = refusal

    def for_caller(self) -> ApplicationError:
        """The same for somebody who waits for an answer of the saga: the refusal, where there is one."""
        return refused(self.refusal) if self.refusal else ApplicationError(self.message, type=self.type)


def given_up() -> ApplicationError:
    """What ends every step of a saga that somebody has abandoned."""
    return ApplicationError("the saga was abandoned", type=Abandoned.__name__, non_retryable=True)


def is_failure(error: BaseException) -> bool:
    """Whether the saga should undo: a refusal, a failed step, bad input, a cancellation; not a bug in its code."""
    return isinstance(error, AmendsError | FailureError | asyncio.CancelledError)


def undone_child(error: ChildWorkflowError) -> tuple[Refusal | None, list[HandedOver]] | None:
    """What a child saga says that has undone its own steps: what it was refused by, and what it could not undo.

    Returns:
        None for a child that ended in another way, so that nobody knows what it has left behind.
    """
    cause = error.cause
    if not isinstance(cause, ApplicationError) or cause.type != SagaUndone.__name__ or len(cause.details) < 3:
        return None
    _, refusal, handed = cause.details[:3]
    return Refusal.model_validate(refusal) if refusal else None, [HandedOver.model_validate(each) for each in handed]


def refusal_of(cause: BaseException | None) -> Refusal | None:
    """The refusal because of which a saga failed, as its caller hears it; None where it was anything else."""
    if isinstance(cause, ApplicationError) and cause.type == SagaUndone.__name__ and len(cause.details) > 1:
        return Refusal.model_validate(cause.details[1]) if cause.details[1] else None
    return None


def reason_of_child(error: BaseException) -> str | None:
    """Why a child saga turned back by itself, as its parent tells it on; None where nobody knows.

    A child can't tell who cancels it through Temporal. A parent that goes by this was not cancelled, and cancels none.
    """
    cause = error.cause if isinstance(error, ChildWorkflowError) else None
    if not isinstance(cause, ApplicationError) or cause.type != SagaUndone.__name__ or not cause.details:
        return None
    reason = str(cause.details[0])
    return BY_OPERATOR if reason == BY_PARENT else reason


def why_undone(error: BaseException, cancelled: str | None) -> SagaUndone:
    """A failure as the saga will tell it once all is undone.

    Args:
        error: what made it turn back.
        cancelled: why it was cancelled, if it was, and somebody has said so.
    """
    if isinstance(error, Refused):
        return SagaUndone(error.name, error.message, Refusal.of(error))
    if isinstance(error, SagaCancelled) or is_cancelled_exception(error):
        reason = cancelled or from_outside()
        return SagaUndone(reason, f"Cancelled: {reason}", None)
    return SagaUndone(reason_of_child(error) or "failed", told(error), None)


def told(error: BaseException) -> str:
    """A failure in one line, by its innermost cause."""
    while isinstance(error, FailureError) and error.cause is not None:
        error = error.cause
    return f"{type(error).__name__}: {error}" if not isinstance(error, Refused) else f"refused: {error.message}"
