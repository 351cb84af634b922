"""Compensation: undoes a saga that was ended from outside, by what the command log says it had done."""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from amends.ending import END_SAGA, RESUME_SAGA, Ended, EndedSaga, EndSaga
from amends.errors import Abandoned, SagaCancelled
from amends.outcomes import SagaUndone
from amends.policies import COMMAND
from amends.saga import Saga
from amends.shield import to_the_end

__all__ = ["Compensation", "compensation_id"]


def compensation_id(saga_id: str) -> str:
    """Workflow id of the compensation of a saga: one at a time for each."""
    return f"compensation-{saga_id}"


@workflow.defn
class Compensation:
    """Undoes what stands of an ended saga, newest first; one that was past its pivot is sent on instead."""

    def __init__(self) -> None:
        self.saga = Saga()

    @workflow.run
    async def run(self, ended: EndedSaga) -> str:
        """Put an ended saga right.

        Returns:
            undone, resumed, or abandoned.
        """
        found: Ended = await _act(END_SAGA, self._whom(ended), Ended)
        if found.forward:
            async with self.saga:
                await _act(RESUME_SAGA, ended, type(None))
            return "resumed"
        try:
            async with self.saga.instead_of(ended, found.undos, found.abandoned):
                raise SagaCancelled(ended.reason)
        except SagaUndone:
            return "undone"
        except ApplicationError as error:
            if found.abandoned is None or error.type != Abandoned.__name__:
                raise
            return "abandoned"

    @staticmethod
    def _whom(ended: EndedSaga) -> EndSaga:
        return EndSaga(saga_id=ended.saga_id, workflow_id=ended.saga_id, actor="sweep", reason=ended.reason)


async def _act(name: str, argument: Any, result: type) -> Any:
    return await to_the_end(
        workflow.execute_activity(
            name,
            argument,
            result_type=result,
            start_to_close_timeout=COMMAND.attempt,
            retry_policy=COMMAND.without_end().retry,
        )
    )
