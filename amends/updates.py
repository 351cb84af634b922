"""Updates of a saga take effect once the history knows of them.

An update is in the history only when the workflow task has ended that it came with. If the worker dies before that, it
is lost; but what local steps did because of it stands, and the saga may go another way. So a timer comes between, which
ends the task. What was allowed when the update came may not be any more by then: it is checked again.
"""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.worker import HandleUpdateInput, WorkflowInboundInterceptor

from amends.saga import Saga

__all__ = ["HearUpdates"]


class HearUpdates(WorkflowInboundInterceptor):
    """What comes between Temporal and the update handlers of a saga."""

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:
        """Let the history know of the update, see whether it is still allowed, then hand it on."""
        process = workflow.instance()
        saga = getattr(process, "saga", None)
        if isinstance(saga, Saga) and input.update not in getattr(process, "answers", ()):
            await saga.hear(input.update)
            self._check(input)
        return await super().handle_update_handler(input)

    def _check(self, input: HandleUpdateInput) -> None:
        try:
            self.handle_update_validator(input)
        except FailureError:
            raise
        except Exception as error:  # a validator says no by whatever it raises
            raise ApplicationError(str(error), type=type(error).__name__, non_retryable=True) from error
