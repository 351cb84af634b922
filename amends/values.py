"""Values: what messages are made of; immutable, closed, and told as `InvalidInput` when they can't be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import core_schema, to_jsonable_python

from amends.errors import InvalidInput

__all__ = [
    "FORGOTTEN",
    "MASK",
    "SEALED",
    "SHORTEST",
    "Personal",
    "Value",
    "bad_texts",
    "carries_personal",
    "changed_personal",
    "check_marks",
    "is_sealed",
    "personal_in",
    "posing_texts",
    "problems_of",
    "redacted",
]

T = TypeVar("T")

MASK = "[personal]"
"""What stands for personal data wherever they must not be seen."""

SHORTEST = 4
"""Personal texts of so many characters are masked inside other texts too; shorter ones only where they stand alone."""

FORGOTTEN = "[forgotten]"
"""What stands for personal data whose key was destroyed."""

SEALED = "sealed:1:"
"""How a text begins that stands, encrypted, for personal data; see `amends.sealing`."""

_HALF_A_PAIR = re.compile("[\ud800-\udfff]")
"""A surrogate: a string of Python can hold it, UTF-8 can't."""


def is_sealed(value: Any) -> bool:
    """Whether a value stands, encrypted, for another one."""
    return isinstance(value, str) and value.startswith(SEALED)


class _PersonalMark:
    """Marks a field as personal data of a person; takes, besides what the field takes, the same in sealed form."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        inner = handler(source)
        plain = None if inner["type"] == "str" else core_schema.wrap_serializer_function_ser_schema(_as_it_is)
        return core_schema.no_info_wrap_validator_function(_unless_sealed, inner, serialization=plain)


def _unless_sealed(value: Any, check: Callable[[Any], Any]) -> Any:
    return value if is_sealed(value) else check(value)


def _as_it_is(value: Any, dump: Callable[[Any], Any]) -> Any:
    return value if is_sealed(value) else dump(value)


Personal = Annotated[T, _PersonalMark()]
"""A personal field: stays in the person's own stream, encrypted there, and masked in the command log and in logs.

Limits stand inside, `Personal[Annotated[str, Field(max_length=200)]]`, for they are those of the clear text.
"""


class Value(BaseModel):
    """Immutable data; unknown fields are refused, and bad input raises `InvalidInput` that names each field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        super().__pydantic_init_subclass__(**_)
        check_marks(cls)

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


def check_marks(model: type[BaseModel], *, lasts: bool = False) -> None:
    """See that what a class marks as personal can be sealed, and forgotten where it is kept.

    Args:
        model: the class, as it is declared.
        lasts: whether it is kept for ever, so that `FORGOTTEN` may come to stand there.

    Raises:
        TypeError: a mark stands inside a container, or a field that is kept takes no text.
    """
    for name, field in model.model_fields.items():
        if not _is_personal(field):
            continue
        where = f"{model.__qualname__}.{name}"
        if not any(isinstance(mark, _PersonalMark) for mark in field.metadata) and not _outside(field.annotation):
            raise TypeError(f"{where}: the mark of personal data stands outside, e.g. Personal[tuple[str, ...]]")
        if lasts:
            try:
                TypeAdapter(field.rebuild_annotation()).validate_python(FORGOTTEN)
            except ValidationError:
                raise TypeError(
                    f"{where}: it has to take the text {FORGOTTEN!r}, which stands there once the person is forgotten: "
                    "Personal[str], with the rules in the command"
                ) from None


def _outside(annotation: Any) -> bool:
    """Whether the mark is on the whole of what a field takes."""
    annotation = _unaliased(annotation)
    if get_origin(annotation) is Annotated:
        return any(isinstance(mark, _PersonalMark) for mark in annotation.__metadata__)
    parts = [part for part in get_args(annotation) if part is not type(None)]
    return get_origin(annotation) in (Union, UnionType) and all(map(_outside, parts))


def _unaliased(annotation: Any) -> Any:
    """What a `type` alias stands for."""
    while (meant := getattr(annotation, "__value__", None)) is not None:
        annotation = meant
    return annotation


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
        case list() | tuple() | set() | frozenset():
            for part in value:
                yield from personal_in(part)


_carriers: dict[type, bool] = {}
"""Which classes have personal fields; looking for them anew costs more than writing the event."""


def carries_personal(kind: type) -> bool:
    """Whether values of a class have personal fields, or may have values inside that do."""
    if kind not in _carriers:
        _carriers[kind] = _may_carry(kind, frozenset())
    return _carriers[kind]


def changed_personal(value: Any, data: Any, change: Callable[[Any], Any]) -> Any:
    """A value's JSON data, with what stands in personal fields of it and of everything inside it changed.

    Args:
        value: model, or what holds models.
        data: the same as JSON data.
        change: takes and returns JSON data.
    """
    match value:
        case BaseModel() if isinstance(data, Mapping):
            personal, inside = _personal_fields(type(value)), dict(value)
            return {
                name: change(part) if name in personal else changed_personal(inside.get(name), part, change)
                for name, part in data.items()
            }
        case Mapping():
            pairs = zip(value.values(), data.items(), strict=True)
            return {name: changed_personal(one, part, change) for one, (name, part) in pairs}
        case list() | tuple() | set() | frozenset():
            return [changed_personal(one, part, change) for one, part in zip(value, data, strict=True)]
        case _:
            return data


def problems_of(error: ValidationError) -> dict[str, str]:
    """What pydantic found, as field path → complaint; the refused value itself stays out of it."""
    found = error.errors(include_input=False)
    # names of fields that there are not, too, are what somebody has handed in: they may be as long as a book
    return {".".join(str(part)[:64] for part in each["loc"])[:500] or "input": each["msg"] for each in found}


def bad_texts(value: Any, path: str = "") -> dict[str, str]:
    """Texts that PostgreSQL can't hold, for a NUL character or half a surrogate pair, as field path → complaint."""

    def complaint(text: str) -> str | None:
        if "\x00" in text:
            return "text can't hold a NUL character"
        return "text can't hold half a surrogate pair" if _HALF_A_PAIR.search(text) else None

    return _found(value, path, complaint)


def posing_texts(value: Any) -> dict[str, str]:
    """Texts that look as if they were sealed, as field path → complaint: those of others could be sent as one's own."""
    return _found(value, "", lambda text: f"text can't begin with {SEALED!r}" if is_sealed(text) else None)


def _found(value: Any, path: str, complaint: Callable[[str], str | None]) -> dict[str, str]:
    match value:
        case str():
            problem = complaint(value)
            return {} if problem is None else {path or "input": problem}
        case BaseModel():
            return _found(dict(value), path, complaint)
        case Mapping():
            parts = list(value.items())
        case list() | tuple() | set() | frozenset():
            parts = list(enumerate(value))
        case _:
            return {}
    found: dict[str, str] = {}
    for key, part in parts:
        found |= _found(part, f"{path}.{str(key)[:64]}".lstrip("."), complaint)
    return found


@cache
def _personal_fields(model: type[BaseModel]) -> frozenset[str]:
    """Names of the fields that are marked; looking for the marks anew costs more than writing the command."""
    return frozenset(name for name, field in model.model_fields.items() if _is_personal(field))


def _may_carry(kind: Any, within: frozenset[Any]) -> bool:
    kind = _unaliased(kind)
    if kind in (Any, object, BaseModel):
        return True
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = kind.model_fields.values()
        return kind not in within and any(_is_personal(f) or _may_carry(f.annotation, within | {kind}) for f in fields)
    return any(_may_carry(part, within) for part in get_args(kind) if part is not Ellipsis)


def _is_personal(field: FieldInfo) -> bool:
    return any(isinstance(mark, _PersonalMark) for mark in field.metadata) or _has_mark(field.annotation)


def _has_mark(annotation: Any) -> bool:
    """Whether the mark stands anywhere in an annotation, `Personal[str] | None` or a tuple of them included."""
    annotation = _unaliased(annotation)
    if get_origin(annotation) is Annotated and any(isinstance(m, _PersonalMark) for m in annotation.__metadata__):
        return True
    return any(_has_mark(part) for part in get_args(annotation))


def _redacted(value: Any) -> Any:
    match value:
        case BaseModel():
            return redacted(value)
        case Mapping():
            return {str(key): _redacted(part) for key, part in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_redacted(part) for part in value]
        case _:
            return to_jsonable_python(value)
