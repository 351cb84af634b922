"""Values: what messages are made of; immutable, closed, and told as `InvalidInput` when they can't be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from amends.errors import InvalidInput

__all__ = ["MASK", "Personal", "Value", "bad_texts", "personal_in", "problems_of", "redacted"]

T = TypeVar("T")

MASK = "[personal]"
"""What stands for personal data wherever they must not be seen."""


_HALF_A_PAIR = re.compile("[\ud800-\udfff]")
"""A surrogate: a string of Python can hold it, UTF-8 can't."""


class _PersonalMark:
    """Marks a field as personal data of a person."""


Personal = Annotated[T, _PersonalMark()]
"""A personal field, `Personal[str]`: stays in the person's own stream, masked in the command log and in logs."""


class Value(BaseModel):
    """Immutable data; unknown fields are refused, and bad input raises `InvalidInput` that names each field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise InvalidInput(problems_of(error)) from None

    # pydantic then reads nested and received values without this constructor, and names the whole path itself
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def redacted(self) -> dict[str, Any]:
        """The value as plain JSON data with its personal fields masked, fit for logs and audit."""
        return redacted(self)

    def __repr_args__(self) -> Any:
        personal = _personal_fields(type(self))
        for name, value in super().__repr_args__():
            yield name, MASK if name in personal else value


def redacted(model: BaseModel) -> dict[str, Any]:
    """A model as plain JSON data with its personal fields masked."""
    personal = _personal_fields(type(model))
    return {name: MASK if name in personal else _redacted(value) for name, value in model}


def personal_in(value: Any) -> Iterator[Any]:
    """What stands in the personal fields of a value and of everything inside it."""
    match value:
        case BaseModel():
            personal = _personal_fields(type(value))
            for name, part in value:
                yield from (part,) if name in personal else personal_in(part)
        case Mapping():
            for part in value.values():
                yield from personal_in(part)
        case list() | tuple():
            for part in value:
                yield from personal_in(part)


def problems_of(error: ValidationError) -> dict[str, str]:
    """What pydantic found, as field path → complaint; the refused value itself stays out of it."""
    found = error.errors(include_input=False)
    # names of fields that there are not, too, are what somebody has handed in: they may be as long as a book
    return {".".join(str(part)[:64] for part in each["loc"])[:500] or "input": each["msg"] for each in found}


def bad_texts(value: Any, path: str = "") -> dict[str, str]:
    """Texts that PostgreSQL can't hold, for a NUL character or half a surrogate pair, as field path → complaint."""
    match value:
        case str() if "\x00" in value:
            return {path or "input": "text can't hold a NUL character"}
        case str():
            return {path or "input": "text can't hold half a surrogate pair"} if _HALF_A_PAIR.search(value) else {}
        case BaseModel():
            return bad_texts(dict(value), path)
        case Mapping():
            parts = list(value.items())
        case list() | tuple() | set() | frozenset():
            parts = list(enumerate(value))
        case _:
            return {}
    found: dict[str, str] = {}
    for key, part in parts:
        found |= bad_texts(part, f"{path}.{str(key)[:64]}".lstrip("."))
    return found


@cache
def _personal_fields(model: type[BaseModel]) -> frozenset[str]:
    """Names of the fields that are marked; looking for the marks anew costs more than writing the command."""
    return frozenset(name for name, field in model.model_fields.items() if _is_personal(field))


def _is_personal(field: FieldInfo) -> bool:
    return any(isinstance(mark, _PersonalMark) for mark in field.metadata) or _has_mark(field.annotation)


def _has_mark(annotation: Any) -> bool:
    """Whether the mark stands anywhere in an annotation, `Personal[str] | None` or a tuple of them included."""
    if get_origin(annotation) is Annotated and any(isinstance(m, _PersonalMark) for m in annotation.__metadata__):
        return True
    return any(_has_mark(part) for part in get_args(annotation))


def _redacted(value: Any) -> Any:
    match value:
        case BaseModel():
            return redacted(value)
        case Mapping():
            return {str(key): _redacted(part) for key, part in value.items()}
        case list() | tuple():
            return [_redacted(part) for part in value]
        case _:
            return to_jsonable_python(value)
