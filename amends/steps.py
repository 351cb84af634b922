"""What a step of a saga can be, and how it is sent on its way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from typing import Any, Generic, TypeVar, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_json, to_jsonable_python
from temporalio import activity, workflow
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory, FailureError

from amends.errors import InvalidInput, Refused
from amends.messages import Command
from amends.policies import CALL, COMMAND, Policy
from amends.records import REASON, Context, Receipt, Refusal, UndoStep
from amends.turns import Turns
from amends.values import MASK, is_sealed, personal_in, problems_of, redacted

__all__ = [
    "Answer",
    "Call",
    "Step",
    "Undo",
    "check_input",
    "dispatch",
    "dispatch_undo",
    "offer_call",
    "refusal_in",
    "refused",
    "result_of",
    "shown_input",
    "undo_step",
    "with_input",
]

R = TypeVar("R")


@dataclass(frozen=True)
class Call(Generic[R]):
    """A step that leaves the house, or only reads: an activity that takes `(argument, Context)`.

    The context's command id is the idempotency key that the other side gets to see.

    Args:
        activity: a method decorated with `@activity.defn`, of an import-light interface class.
        argument: its first argument.
        policy: limits other than those of every call.
        ask: finds out what became of the call when that is unknown: gives the call's result, or None or a refusal when
            it had no effect so far. Without it, a call of unknown outcome is undone.
        local: it only reads, and soon: it runs as a command does, and has no undo. A worker that dies makes
            it read again, and find something else perhaps; what follows has to go by what was recorded since.
    """

    activity: Callable[[Any, Any, Context], Awaitable[R]]
    argument: Any
    policy: Policy | None = None
    ask: Call[R] | Call[R | None] | None = None
    local: bool = False

    def __post_init__(self) -> None:
        """Refuse what makes no sense, when the story is written, not when it fails."""
        if self.ask is not None and (self.local or self.ask.local):
            raise RuntimeError(f"{self.step_name}: what only reads is not asked about, nor does it tell what became")

    @property
    def step_name(self) -> str:
        """The activity's name."""
        definition = activity._Definition.must_from_callable(self.activity)
        assert definition.name is not None
        return definition.name


Step = Command | Call[Any]

Undo = Step | Callable[[str], Step]
"""What takes a step back: a command or call, or a function of the reason that gives one.

The function is called once, before the step begins, with a stand-in for the reason.
"""


class Answer(BaseModel):
    """What an activity that leaves the house came to.

    Args:
        attempt: which attempt got through, from 1.
        value: its result.
    """

    attempt: int
    value: Any


_WAIT = workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
"""A cancelled saga learns the outcome of the step that was under way, and undoes that too."""

_arguments: dict[str, TypeAdapter[Any]] = {}
"""What each activity that this worker offers takes, to check input that people hand in."""


def offer_call(name: str, argument: Any) -> None:
    """Let it be known what an activity takes.

    Args:
        name: of the activity.
        argument: type of its first argument.
    """
    _arguments[name] = TypeAdapter(argument)


def check_input(name: str, data: Any, *, call: bool) -> Any:
    """Read input that somebody has handed in for a step, and give it back as it will be sent.

    Args:
        name: of the command or activity.
        data: its fields or argument, as JSON data.
        call: whether it is an activity that leaves the house.

    Raises:
        InvalidInput: it does not fit; names the field.
    """
    if MASK in to_json(data).decode():
        raise InvalidInput({"input": f"{MASK} stands for personal data, which are to be said"})
    if not call:
        if not isinstance(data, dict):
            raise InvalidInput({"input": f"the fields of {name} are wanted, as a JSON object"})
        return Command.registry.find(name)(**data).model_dump(mode="json")
    if name not in _arguments:
        raise InvalidInput({"input": f"this worker does not know what {name} takes"})
    try:
        argument = _arguments[name].validate_python(data)
    except ValidationError as error:
        raise InvalidInput(problems_of(error)) from None
    if any(part is not None and not is_sealed(part) for part in personal_in(argument)):
        told = f"{name} takes personal data, which the history would keep in clear; skip or resolve the step instead"
        raise InvalidInput({"input": told})
    return to_jsonable_python(argument)


def shown_input(name: str, data: Any, *, call: bool) -> Any:
    """Checked input as the log may keep it, personal fields masked; arguments and errors as `check_input`."""
    if not call:
        return Command.registry.find(name)(**data).redacted()
    argument = _arguments[name].validate_python(data)
    return redacted(argument) if isinstance(argument, BaseModel) else data


def with_input(step: Step, data: Any) -> Step:
    """The same step with other input; errors as `check_input`."""
    if isinstance(step, Command):
        return type(step)(**check_input(step.message_name, data, call=False))
    checked = check_input(step.step_name, data, call=True)
    return replace(step, argument=_arguments[step.step_name].validate_python(checked))


def undo_step(undo: Undo, *, undoes: str, title: str, last: bool, identify: Callable[[str], str]) -> UndoStep:
    """An undo as data, fit for the command log.

    Args:
        undo: as the story says it.
        undoes: id of the step.
        title: of the step.
        last: waits until all that was done later is undone.
        identify: makes a command id of the undo's name, which tells its content from others'.

    Raises:
        InvalidInput: it carries personal data, which the log must not keep; let it carry a key instead.
    """
    step = undo(REASON) if callable(undo) else undo
    if isinstance(step, Call) and step.local:
        raise RuntimeError(f"the undo of {title!r} only reads")
    argument = step if isinstance(step, Command) else step.argument
    data = to_jsonable_python(argument)
    if any(True for _ in personal_in(argument)):
        raise InvalidInput({f"undo of {title!r}": "carries personal data, which the command log must not keep"})
    digest = sha256(to_json(argument)).hexdigest()[:8]
    return UndoStep(
        id=identify(f"{step.step_name}~{digest}"),
        undoes=undoes,
        title=title,
        name=step.message_name if isinstance(step, Command) else step.step_name,
        data=data,
        call=not isinstance(step, Command),
        policy=None if isinstance(step, Command) else step.policy,
        last=last,
    )


async def dispatch(
    title: str, step: Step, context: Context, policy: Policy, turns: Turns, *, aside: bool = False
) -> tuple[Any, int]:
    """Run a step as an activity: a command, or a local call, as a local one, a call as one of its own in the history.

    Args:
        title: what it does, for people who look at the history.
        step: command or call.
        context: goes along as the activity's second argument.
        policy: its limits.
        turns: in which it goes on, if it is a local one.
        aside: a command too is one of its own in the history, so that its workflow hears others meanwhile.

    Returns:
        its result, and which attempt got through.

    Raises:
        Refused: the activity refused.
        ActivityError: its deadline passed, or it failed for good.
    """
    if isinstance(step, Command):
        receipt: Receipt = await _send(
            title, step.message_name, step, context, policy, Receipt, None if aside else turns
        )
        return receipt.raise_refusal(), receipt.attempt
    beside = turns if step.local else None
    answer: Answer = await _send(title, step.step_name, step.argument, context, policy, Answer, beside)
    return result_of(step.activity).validate_python(answer.value), answer.attempt


async def dispatch_undo(undo: UndoStep, reason: str, context: Context, turns: Turns) -> tuple[Any, int]:
    """Run an undo from its data; arguments and errors otherwise as `dispatch`."""
    policy = (undo.policy or (CALL if undo.call else COMMAND)).of_undo()
    title = f"undo: {undo.title}"
    if undo.call:
        answer: Answer = await _send(title, undo.name, undo.input(reason), context, policy, Answer)
        return answer.value, answer.attempt
    receipt: Receipt = await _send(title, undo.name, undo.input(reason), context, policy, Receipt, turns)
    return receipt.raise_refusal(), receipt.attempt


async def _send(
    title: str, name: str, argument: Any, context: Context, policy: Policy, result: type, local: Turns | None = None
) -> Any:
    limits: dict[str, Any] = {
        "args": [argument, context],
        "result_type": result,
        "start_to_close_timeout": policy.attempt,
        "schedule_to_close_timeout": policy.deadline,
        "retry_policy": policy.retry,
        "cancellation_type": _WAIT,
    }
    try:
        if local is not None:  # nobody gets to see a local one's summary
            return await local.after(workflow.execute_local_activity(name, **limits))
        return await workflow.execute_activity(name, heartbeat_timeout=policy.heartbeat, summary=title, **limits)
    except FailureError as error:  # a local activity's failure comes bare, an ordinary one's as an ActivityError
        refusal = refusal_in(error) or refusal_in(error.cause)
        if refusal is None:
            raise
        raise refusal.error() from error


@cache
def result_of(function: Callable[..., Any]) -> TypeAdapter[Any]:
    """Reads the result of an activity or workflow from JSON data."""
    return TypeAdapter(get_type_hints(function).get("return", Any))


def refused(refusal: Refusal) -> ApplicationError:
    """A refusal on its way through Temporal, to a workflow or a caller."""
    ordinary = ApplicationErrorCategory.BENIGN  # a no is an answer, not a fault to be warned of
    return ApplicationError(refusal.message, refusal, type=Refused.__name__, non_retryable=True, category=ordinary)


def refusal_in(error: BaseException | None) -> Refusal | None:
    """The refusal that a failure from the other side of Temporal carries, if it is one."""
    if not isinstance(error, ApplicationError) or error.type != Refused.__name__:
        return None
    return Refusal.model_validate(error.details[0])
