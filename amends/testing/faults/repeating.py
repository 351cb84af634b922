"""Doing undos a second time, to see whether that changes anything."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from amends.errors import Refused
from amends.records import Context, UndoStep
from amends.steps import dispatch_undo
from amends.turns import Turns
from amends.values import Value

__all__ = ["Repeat", "RepeatUndos"]


class Repeat(Value):
    """Undos that were done, in the order in which they were.

    Args:
        undos: what to do again.
        reason: why it had been done.
    """

    undos: tuple[UndoStep, ...]
    reason: str


@workflow.defn
class RepeatUndos:
    """Does every undo once more, under a new id, as a saga does it that can't know that it was done."""

    @workflow.run
    async def run(self, request: Repeat) -> None:
        """Do them again; what is refused the second time fails this workflow."""
        id = workflow.info().workflow_id
        for number, undo in enumerate(request.undos, 1):
            context = Context(
                command_id=f"{id}/{number}", actor="fault-test", correlation_id=id, causation_id=id, workflow_id=id
            )
            try:
                await dispatch_undo(undo, request.reason, context, Turns())
            except Refused as error:
                raise ApplicationError(f"undo of {undo.title!r}: {error}", non_retryable=True) from error
