"""What a projection may do to a column of each type, in memory and in SQL alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

from pydantic_core import to_jsonable_python
from sqlalchemy import types
from sqlalchemy.dialects import postgresql

__all__ = ["ADD", "APPEND", "GREATEST", "LEAST", "NAMES", "SET", "Kind", "Op", "apply", "compose", "kind_of"]

SET, ADD, APPEND, LEAST, GREATEST = "s", "+", "|", "<", ">"

NAMES = {SET: "set", ADD: "add", APPEND: "append", LEAST: "least", GREATEST: "greatest"}
"""What the operations are called in code."""

Op = tuple[str, Any]
"""What is done to a column: the operation and its operand."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What holds for all columns of one type.

    Args:
        wants: what a value must be, in words.
        sql: operation → SQL expression; {now} is the value the column has, {new} the operand.
        check: turns a value into the one that is kept, or raises TypeError or ValueError.
    """

    wants: str
    sql: dict[str, str]
    check: Callable[[Any], Any]

    def operand(self, op: str) -> Callable[[Any], Any]:
        """What turns an operation's value into its operand: to a JSON array, an array is appended."""
        check = self.check
        return (lambda value: [check(value)]) if op == APPEND and self is _JSON else check


def compose(first: Op, then: Op) -> Op | None:
    """One operation with the effect of two; None when there is none."""
    if then[0] == SET:
        return then
    if first[0] == SET:
        return SET, apply(then, first[1])
    return (first[0], apply(then, first[1])) if first[0] == then[0] else None


def apply(op: Op, value: Any) -> Any:
    """The value that an operation makes of another; PostgreSQL does the same by `Kind.sql`."""
    kind, operand = op
    if value is None or kind == SET:
        return operand
    if kind == LEAST:
        return min(value, operand)
    if kind == GREATEST:
        return max(value, operand)
    if isinstance(operand, list) and not isinstance(value, list):
        value = [value]
    return value + operand


def kind_of(column_type: types.TypeEngine[Any]) -> Kind:
    """The kind of a column.

    Raises:
        TypeError: projections can't write this type.
    """
    match column_type:
        case types.Integer():
            return _INTEGER
        case types.Float():
            return _FLOAT
        case types.Numeric(scale=None):
            return Kind("an int or Decimal", _NUMBERS, _decimal)
        case types.Numeric(scale=scale):
            unit = Decimal(1).scaleb(-int(scale or 0))
            # rounded before it is added: rounding sums would depend on how events fall into batches
            return Kind("an int or Decimal", _NUMBERS, lambda v: _decimal(v).quantize(unit, ROUND_HALF_UP))
        case types.Boolean():
            return _BOOLEAN
        case types.DateTime(timezone=aware):
            return _AWARE if aware else _NAIVE
        case types.Date():
            return _DATE
        case types.Uuid():
            return _UUID
        case postgresql.JSONB():
            return _JSON
        case types.String() if not isinstance(column_type, types.Enum):
            return _TEXT
        case _:
            raise TypeError(f"projections can't write columns of type {column_type!r}; JSONB holds anything")


def _is(*wanted: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        # exact types: a bool is no number, a datetime no date
        if type(value) not in wanted:
            raise TypeError
        return value

    return check


def _decimal(value: Any) -> Decimal:
    number = Decimal(_is(int, Decimal)(value))
    if not number.is_finite():
        raise ValueError
    return number


def _text(value: Any) -> str:
    text = value if type(value) is str else to_jsonable_python(value)
    if not isinstance(text, str):
        raise TypeError
    return text


def _moment(aware: bool) -> Callable[[Any], datetime]:
    def check(value: Any) -> datetime:
        if not isinstance(value, datetime) or (value.tzinfo is not None) is not aware:
            raise TypeError
        return value

    return check


_ONLY_SET = {SET: "{new}"}
_ORDERED = _ONLY_SET | {LEAST: "least({now}, {new})", GREATEST: "greatest({now}, {new})"}
_NUMBERS = _ORDERED | {ADD: "coalesce({now}, 0) + {new}"}

_INTEGER = Kind("an int", _NUMBERS, _is(int))
_FLOAT = Kind("a float, and float sums are not exact: take Numeric", _ORDERED, lambda v: float(_is(int, float)(v)))
_BOOLEAN = Kind("a bool", _ONLY_SET, _is(bool))
_AWARE = Kind("a datetime with time zone", _ORDERED, _moment(aware=True))
_NAIVE = Kind("a datetime without time zone", _ORDERED, _moment(aware=False))
_DATE = Kind("a date", _ORDERED, _is(date))
_UUID = Kind("a UUID", _ONLY_SET, lambda v: v if isinstance(v, UUID) else UUID(v))
_TEXT = Kind("a str", _ONLY_SET | {APPEND: "coalesce({now}, '') || {new}"}, _text)
_JSON = Kind("JSON data", _ONLY_SET | {APPEND: "coalesce({now}, '[]') || {new}"}, to_jsonable_python)
