"""The smallest process: one command, done durably, for what needs no saga."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json
from temporalio import workflow

from amends.errors import InvalidInput, UnknownMessage
from amends.messages import Command
from amends.policies import COMMAND
from amends.received import invalid
from amends.records import Context, Receipt
from amends.values import Value, bad_texts
from amends.visibility import MEMO, SagaMemo

__all__ = ["CommandRequest", "ExecuteCommand"]


class CommandRequest(Value):
    """A command by name, as JSON data.

    Args:
        name: the message name.
        data: its fields.
    """

    name: str
    data: dict[str, Any]


@workflow.defn
class ExecuteCommand:
    """Runs one command to its receipt; the workflow id is the command id."""

    @workflow.run
    async def run(self, request: CommandRequest) -> Receipt:
        """Dispatch the command; a refusal is a result, not a failure.

        Raises:
            ApplicationError: of type InvalidInput or UnknownMessage; whoever sent it may have known other commands.
        """
        if not workflow.unsafe.is_replaying():  # what is replayed was right when it began
            _check(request)
        info = workflow.info()
        memo = workflow.memo_value(MEMO, default=None, type_hint=SagaMemo) or SagaMemo()
        context = Context(
            command_id=info.workflow_id,
            actor=memo.actor,
            correlation_id=info.workflow_id,
            causation_id=info.workflow_id,
            workflow_id=info.workflow_id,
            trace=memo.trace,
        )
        receipt: Receipt = await workflow.execute_local_activity(
            request.name,
            args=[request.data, context],
            result_type=Receipt,
            start_to_close_timeout=COMMAND.attempt,
            schedule_to_close_timeout=COMMAND.deadline,
            retry_policy=COMMAND.retry,
        )
        return receipt


def _check(request: CommandRequest) -> None:
    """Fail at once for a command that there is not, or that can't be; an activity would be tried again for an hour."""
    try:
        if problems := bad_texts(request.data):
            raise InvalidInput(problems)
        kind = Command.registry.find(request.name)
        Command.registry.read(request.name, kind.schema_version, to_json(request.data).decode())
    except (InvalidInput, UnknownMessage) as error:
        raise invalid(error) from None
