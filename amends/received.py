"""What begins a workflow and can't be read: it is told at once, by field, instead of being tried for ever."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pydantic import TypeAdapter, ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.exceptions import ActivityError, ApplicationError

from amends.errors import AmendsError, InvalidInput
from amends.values import problems_of

__all__ = ["CheckedConverter", "beginning", "invalid", "invalid_in"]

JSON = b"json/plain"
"""How payloads are written that our types are read from."""

_BEGINS: ContextVar[bool] = ContextVar("begins", default=False)


class CheckedConverter(PydanticPayloadConverter):
    """Reads payloads as their types say.

    What can't be read fails a workflow's task, which is tried again: newer code may read it. But what a workflow begins
    with comes from outside, whatever language that is written in, and nothing has been done yet: so that fails the
    workflow itself, by `InvalidInput`. A workflow that is replayed has done something, so for that it is as before.
    """

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        """The values of payloads.

        Raises:
            ApplicationError: of type InvalidInput, at a workflow's begin.
        """
        try:
            values = super().from_payloads(payloads, type_hints)
            if _BEGINS.get() and type_hints is not None:
                for payload, hint, value in zip(payloads, type_hints, values, strict=False):
                    if (
                        payload.metadata.get("encoding") != JSON
                    ):  # nothing at all, or bytes: read whatever the type says
                        TypeAdapter(hint).validate_python(value)
            return values
        except ValidationError as error:
            if _BEGINS.get():
                raise invalid(InvalidInput(problems_of(error))) from None
            raise


@contextmanager
def beginning(begins: bool) -> Iterator[None]:
    """What is read in the block is what a workflow begins with, and nothing of it has run before."""
    token = _BEGINS.set(begins)
    try:
        yield
    finally:
        _BEGINS.reset(token)


def invalid(error: AmendsError) -> ApplicationError:
    """Input that can't be right, on its way through Temporal to whoever sent it; no retry mends it."""
    problems = error.problems if isinstance(error, InvalidInput) else {}
    return ApplicationError(str(error), problems, type=type(error).__name__, non_retryable=True)


def invalid_in(error: BaseException | None) -> InvalidInput | None:
    """The wrong fields that a failure from the other side of Temporal tells of, if it is one of these."""
    if isinstance(error, ActivityError):
        error = error.cause
    if not isinstance(error, ApplicationError) or error.type != InvalidInput.__name__:
        return None
    told = error.details[0] if error.details else None
    problems = told if isinstance(told, Mapping) and told else {"input": error.message}
    return InvalidInput({str(field): str(problem) for field, problem in problems.items()})
