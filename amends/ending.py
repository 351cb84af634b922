"""Ending a saga from outside: what it had done, by the command log, and whether it may still be undone."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from amends.records import UndoStep
from amends.repair import Abandon
from amends.values import Value

__all__ = ["CHILD_OUTCOME", "END_SAGA", "RESUME_SAGA", "ChildOutcome", "EndSaga", "Ended", "EndedSaga"]

CHILD_OUTCOME = "saga.child_outcome"
"""Name of the activity that tells what became of a child which an earlier run of its parent had started."""

END_SAGA = "saga.end"
"""Name of the activity that ends a saga, or a child of one, and tells what is to be undone."""

RESUME_SAGA = "saga.resume"
"""Name of the activity that lets a saga go on that was ended past its pivot."""


class EndSaga(Value):
    """Whom to end.

    Args:
        saga_id: the outermost workflow of the saga.
        workflow_id: itself, or the child that is meant.
        actor: who ends it.
        reason: why.
        run_id: of the run that asks for itself, which undoes it and writes its end; None where others do.
    """

    saga_id: str
    workflow_id: str
    actor: str
    reason: str
    run_id: str | None = None


class Ended(Value):
    """What is to be done about it.

    Args:
        forward: it has passed its pivot: nothing is undone, it has to go on.
        undos: what took effect and is not undone, newest first.
        abandoned: that somebody had given it up.
    """

    forward: bool
    undos: tuple[UndoStep, ...] = ()
    abandoned: Abandon | None = None


class ChildOutcome(Value):
    """What became of a child.

    Args:
        state: running; completed, with its result; lost when it ended in any other way, or was undone since.
        result: as JSON data.
    """

    state: Literal["running", "completed", "lost"]
    result: Any = None


class EndedSaga(Value):
    """A saga that closed without a final status: somebody terminated it, or it ran out of time.

    Args:
        saga_id: its workflow.
        run_id: the run that was ended.
        process: name of its workflow class.
        started_at: when it was started.
        reason: terminated, timed_out, …
    """

    saga_id: str
    run_id: str
    process: str
    started_at: datetime
    reason: str
