"""What a step of a saga can be, and how it is sent on its way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Generic, TypeVar

from pydantic_core import to_json
from temporalio import activity, workflow
from temporalio.exceptions import ApplicationError, FailureError

from amends.errors import Refused
from amends.messages import Command
from amends.policies import Policy
from amends.records import Context, Receipt, Refusal

__all__ = ["Call", "Step", "digest_of", "dispatch", "refusal_in", "refused"]

R = TypeVar("R")


@dataclass(frozen=True)
class Call(Generic[R]):
    """A step that leaves the house: an activity that takes `(argument, Context)`.

    The context's command id is the idempotency key that the other side gets to see.

    Args:
        activity: a method decorated with `@activity.defn`, of an import-light interface class.
        argument: its first argument.
        policy: limits other than those of every call.
    """

    activity: Callable[[Any, Any, Context], Awaitable[R]]
    argument: Any
    policy: Policy | None = None

    @property
    def step_name(self) -> str:
        """The activity's name."""
        definition = activity._Definition.must_from_callable(self.activity)
        assert definition.name is not None
        return definition.name


Step = Command | Call[Any]

_WAIT = workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
"""A cancelled saga learns the outcome of the step that was under way, and undoes that too."""


def digest_of(step: Step) -> str:
    """A few letters that tell a step from others of its name, wherever and in whatever order they come."""
    return sha256(to_json(step if isinstance(step, Command) else step.argument)).hexdigest()[:8]


async def dispatch(title: str, step: Step, context: Context, policy: Policy, *, durable: bool = False) -> Any:
    """Run a step as an activity: a command as a local one, a call as one of its own in the history.

    Args:
        title: what it does, for people who look at the history.
        step: command or call.
        context: goes along as the activity's second argument.
        policy: its limits.
        durable: a command too is one of its own in the history, so that it can't act before that is written.

    Raises:
        Refused: the activity refused.
        ActivityError: its deadline passed, or it failed for good.
    """
    limits: dict[str, Any] = {
        "start_to_close_timeout": policy.attempt,
        "schedule_to_close_timeout": policy.deadline,
        "retry_policy": policy.retry,
        "cancellation_type": _WAIT,
        "summary": title,
    }
    try:
        if not isinstance(step, Command):
            return await workflow.execute_activity_method(
                step.activity, args=[step.argument, context], heartbeat_timeout=policy.heartbeat, **limits
            )
        names: dict[str, Any] = {"activity": step.message_name, "args": [step, context], "result_type": Receipt}
        if durable:
            return await workflow.execute_activity(**names, **limits)
        return await workflow.execute_local_activity(**names, **limits)
    except FailureError as error:  # a local activity's failure comes bare, an ordinary one's as an ActivityError
        refusal = refusal_in(error) or refusal_in(error.cause)
        if refusal is None:
            raise
        raise refusal.error() from error


def refused(refusal: Refusal) -> ApplicationError:
    """A refusal on its way through Temporal, to a workflow or a caller."""
    return ApplicationError(refusal.message, refusal, type=Refused.__name__, non_retryable=True)


def refusal_in(error: BaseException | None) -> Refusal | None:
    """The refusal that a failure from the other side of Temporal carries, if it is one."""
    if not isinstance(error, ApplicationError) or error.type != Refused.__name__:
        return None
    return Refusal.model_validate(error.details[0])
