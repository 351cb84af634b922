"""How a saga can end badly, and how that is told: to the parent saga, to the caller, to people."""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ApplicationError, ChildWorkflowError, FailureError

from amends.errors import AmendsError, Refused
from amends.records import Refusal
from amends.steps import refused

__all__ = ["SagaUndone", "from_outside", "is_failure", "refusal_of_child", "told"]


BY_PARENT = "cancelled_by_parent"
BY_OPERATOR = "cancelled_by_operator"


def from_outside() -> str:
    """Reason of a saga whose workflow was cancelled through Temporal: by its parent, or by an operator."""
    return BY_PARENT if workflow.info().parent else BY_OPERATOR


class SagaUndone(ApplicationError):
    """The saga failed, and everything it had done is undone.

    Uncaught, it closes the workflow as failed with the refusal in its details, which a parent saga reads.

    Args:
        reason: short code of why: the refusal's name, or what was said with the cancellation.
        refusal: the refusal, when a rule said no.
    """

    def __init__(self, reason: str, message: str, refusal: Refusal | None) -> None:
        super().__init__(message, reason, refusal, type="SagaUndone", non_retryable=True)
        self.reason = reason
        self.refusal = refusal

    def for_caller(self) -> ApplicationError:
        """The same for somebody who waits for an answer of the saga: the refusal, where there is one."""
        return refused(self.refusal) if self.refusal else ApplicationError(self.message, type=self.type)


def is_failure(error: BaseException) -> bool:
    """Whether the saga should undo: a refusal, a failed step, bad input, a cancellation; not a bug in its code."""
    return isinstance(error, AmendsError | FailureError | asyncio.CancelledError)


def refusal_of_child(error: ChildWorkflowError) -> Refusal | None:
    """What a child saga was refused by, once it has undone its own steps."""
    cause = error.cause
    if not isinstance(cause, ApplicationError) or cause.type != SagaUndone.__name__ or len(cause.details) < 2:
        return None
    return Refusal.model_validate(cause.details[1]) if cause.details[1] else None


def told(error: BaseException) -> str:
    """A failure in one line, by its innermost cause."""
    while isinstance(error, FailureError) and error.cause is not None:
        error = error.cause
    return f"{type(error).__name__}: {error}" if not isinstance(error, Refused) else f"refused: {error.message}"
