"""How the text of a column, or the value that a database has there, becomes the value of a field."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import MAX_PREC, Context, Decimal, InvalidOperation
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from pydantic_core import from_json

from amends.money import EXPONENTS

__all__ = ["CONVERTERS", "OUTSIDE", "Conversion", "Converter"]


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a converter needs to know besides the cell; see `FieldMapping`."""

    currency: str = ""
    decimal: str = "."
    thousands: str = ""
    format: str | None = None
    zone: str | None = None


Converter = Callable[[Any, Conversion], Any]
"""Cell and circumstances → the field's value; raises ValueError that says what the cell must be."""

_YES, _NO = {"true", "t", "yes", "y", "1"}, {"false", "f", "no", "n", "0"}


OUTSIDE = "is not within the years 1 to 9999 in UTC"
"""What is wrong with a moment that has no time in UTC here."""

EXACT = Context(prec=MAX_PREC)
"""Arithmetic that keeps every digit, where the usual one rounds to 28."""

MAX_MAGNITUDE = 30
"""Largest power of ten in a number."""


@cache
def _written(decimal: str, thousands: str) -> re.Pattern[str]:
    """How a number is written with these separators."""
    point, separator = re.escape(decimal), re.escape(thousands)
    grouped = rf"[0-9]{{1,3}}(?:{separator}[0-9]{{3}})+|" if thousands else ""
    number = rf"(?P<whole>{grouped}[0-9]*)(?:{point}(?P<fraction>[0-9]*))?"
    return re.compile(rf"(?P<sign>[+-]?)(?=[0-9]|{point}[0-9]){number}")


def _text(cell: Any, how: Conversion) -> str:
    return str(cell)


def _integer(cell: Any, how: Conversion) -> int:
    number = _number(cell, how)
    if number != number.to_integral_value():
        raise ValueError("must be a whole number")
    return int(number)


def _number(cell: Any, how: Conversion) -> Decimal:
    """A number as it is written there, exactly; between digits nothing but the separator, in groups of three."""
    text = str(cell)
    if isinstance(cell, str):
        written = _written(how.decimal, how.thousands).fullmatch(text)
        if written is None:
            raise ValueError("must be a number")
        whole = written["whole"].replace(how.thousands, "") if how.thousands else written["whole"]
        text = f"{written['sign']}{whole}.{written['fraction'] or '0'}"
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError("must be a number") from None
    if not number.is_finite() or number.adjusted() > MAX_MAGNITUDE:
        raise ValueError("must be a number")
    return number


def _money(cell: Any, how: Conversion) -> dict[str, Any]:
    """An amount in whole units with a fraction, "12.50", as minor units of its currency; never rounded."""
    if how.currency not in EXPONENTS:
        raise ValueError(f"has {how.currency!r} for a currency, which is no ISO 4217 currency in use")
    minor = _number(cell, how).scaleb(EXPONENTS[how.currency], EXACT)
    if minor != minor.to_integral_value():
        raise ValueError(f"has more decimal places than {how.currency} has")
    return {"amount": int(minor), "currency": how.currency}


def _boolean(cell: Any, how: Conversion) -> bool:
    text = str(cell).lower()
    if text not in _YES | _NO:
        raise ValueError("must be true or false, yes or no, 1 or 0")
    return text in _YES


def _datetime(cell: Any, how: Conversion) -> datetime:
    """A moment; one without a zone is one of the zone that the mapping names, else nobody knows when it was."""
    if isinstance(cell, datetime):
        moment = cell
    else:
        try:
            moment = datetime.strptime(str(cell), how.format) if how.format else datetime.fromisoformat(str(cell))
        except ValueError:
            raise ValueError(f"must be a time as {how.format or '2031-05-01T10:00:00+02:00'}") from None
    if moment.tzinfo is None:
        if how.zone is None:
            raise ValueError("has no time zone; give the mapping's field a zone")
        moment = moment.replace(tzinfo=ZoneInfo(how.zone))
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(OUTSIDE) from None


def _date(cell: Any, how: Conversion) -> date:
    if isinstance(cell, date) and not isinstance(cell, datetime):
        return cell
    try:
        return datetime.strptime(str(cell), how.format or "%Y-%m-%d").date()
    except ValueError:
        raise ValueError(f"must be a date as {how.format or '2031-05-01'}") from None


def _json(cell: Any, how: Conversion) -> Any:
    if not isinstance(cell, str):
        return cell  # the database has it as such
    try:
        return from_json(cell, allow_inf_nan=False)
    except ValueError as error:
        raise ValueError(f"is no JSON: {error}") from None


CONVERTERS: dict[str, Converter] = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "money": _money,
    "datetime": _datetime,
    "date": _date,
    "json": _json,
}
"""The converters, by the name that mappings use."""
