"""What a typed query may be asked: filters and limits are checked by what its function says that it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar

from pydantic import BeforeValidator, ConfigDict, ValidationError, create_model

from amends.errors import InvalidInput
from amends.query import Query
from amends.values import bad_texts, problems_of

__all__ = ["LARGEST", "PAGE", "AnyText", "Limit", "checked", "limit_problem", "unaskable"]

P = ParamSpec("P")
T = TypeVar("T")

PAGE = 50
"""Rows of an answer, unless told otherwise."""

LARGEST = 1000
"""Most rows of an answer."""

_INTEGERS = range(-(2**63), 2**63)
"""Those of PostgreSQL."""


def limit_problem(limit: Any) -> str | None:
    """What is wrong with a limit; None when it is one."""
    if type(limit) is int and 1 <= limit <= LARGEST:
        return None
    told = "one of another size" if isinstance(limit, int) and limit not in _INTEGERS else f"{limit!r:.50}"
    return f"must be a whole number from 1 to {LARGEST}, not {told}"


def _limit(limit: Any) -> int:
    if problem := limit_problem(limit):
        raise ValueError(problem)
    return int(limit)


Limit = Annotated[int, BeforeValidator(_limit)]
"""How many rows are wanted at most, 1 to 1000."""


class _Anything:
    """Marks a text that may hold anything."""


AnyText = Annotated[str, _Anything()]
"""What somebody has typed: a function that takes it bears whatever is in it, and asks for what can be asked for."""


def checked(ask: Callable[P, Query[T]]) -> Callable[P, Query[T]]:
    """Have a function of typed queries refuse what can't be asked, naming the argument in `InvalidInput`.

    That is what its annotations don't allow (nothing is converted), and what PostgreSQL could not be told: text with a
    NUL character or half a surrogate pair, numbers and times beyond its own.

    Args:
        ask: takes filters, limits and cursors, and makes a query of them.
    """
    signature = inspect.signature(ask, eval_str=True)
    fields: dict[str, Any] = {name: (each.annotation, None) for name, each in signature.parameters.items()}
    anything = {name for name, each in signature.parameters.items() if each.annotation == AnyText}
    arguments = create_model(ask.__name__, __config__=ConfigDict(strict=True), **fields)

    @wraps(ask)
    def asked(*args: P.args, **kwargs: P.kwargs) -> Query[T]:
        given = signature.bind(*args, **kwargs).arguments
        problems = unaskable({name: value for name, value in given.items() if name not in anything})
        try:
            arguments(**given)
        except ValidationError as error:
            problems = problems_of(error) | problems
        if problems:
            raise InvalidInput({field: problem.removeprefix("Value error, ") for field, problem in problems.items()})
        return ask(*args, **kwargs)

    return asked


def unaskable(value: Any, path: str = "") -> dict[str, str]:
    """Values that PostgreSQL could not be told, as field path → complaint.

    Args:
        value: anything, and what is in it.
        path: where it stands.
    """
    match value:
        case int() if value not in _INTEGERS:
            return {path: "must be a number of at most 64 bits"}
        case datetime(tzinfo=tzinfo) if tzinfo is not None:
            try:
                value.astimezone(UTC)
            except OverflowError:
                return {path: "must be a time from year 1 to 9999 in UTC"}
            return {}
        case Mapping():
            parts = list(value.items())
        case list() | tuple() | set() | frozenset():
            parts = list(enumerate(value))
        case _:
            return bad_texts(value, path)
    found: dict[str, str] = {}
    for key, part in parts:
        found |= unaskable(part, f"{path}.{str(key)[:64]}".lstrip("."))
    return found
