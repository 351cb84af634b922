"""Small values that the shop's commands and events are made of.

The bounds stand on the commands. Events only record, with the plain types, so that a rule tightened tomorrow leaves
yesterday's facts readable.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import reduce
from operator import add
from typing import Annotated, TypeVar

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

from amends import Key, Money, Value
from amends.money import MAX_AMOUNT

__all__ = [
    "MAX_LINES",
    "Line",
    "NotNegativeMoney",
    "OrderLines",
    "PastMoment",
    "PositiveMoney",
    "PricedLine",
    "PricedLines",
    "Quantity",
    "ShortText",
    "each_product_once",
    "shows_all",
    "total_of",
]

MAX_LINES = 100
"""Most lines of one order."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What ends a line or turns its direction: who reads it sees another text than is there."""

_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Characters that show nothing though they count as printable."""

_SEEN = "LNPS"
"""Categories of characters that show something: letters, numbers, punctuation, symbols."""


def _positive(money: Money) -> Money:
    if money.amount <= 0:
        raise ValueError("must be more than zero")
    return money


def _not_negative(money: Money) -> Money:
    if money.amount < 0:
        raise ValueError("must not be below zero")
    return money


def shows_all(text: str) -> bool:
    """Whether each character of a text shows something, so that two that look the same are the same."""
    return text.isprintable() and not _UNSEEN.search(text)


def _no_control_characters(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("must not contain control characters")
    if not any(unicodedata.category(character)[0] in _SEEN for character in _UNSEEN.sub("", text)):
        raise ValueError("must show something")
    return text


def _not_in_the_future(moment: datetime) -> datetime:
    if moment > datetime.now(UTC):
        raise ValueError("must not be in the future")
    return moment


Quantity = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
"""How many pieces: a whole number from 1 to a million."""

PositiveMoney = Annotated[Money, AfterValidator(_positive)]
"""A price or a payment: more than nothing."""

NotNegativeMoney = Annotated[Money, AfterValidator(_not_negative)]
"""What has been taken or given back: nothing or more."""

ShortText = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_no_control_characters)
]
"""A name or a reason: 1 to 200 characters that show something, none of them a control character."""


PastMoment = Annotated[AwareDatetime, AfterValidator(_not_in_the_future)]
"""When something happened that is over, with its time zone; the clock is looked at when the value is made."""


class Line(Value):
    """So many pieces of one product.

    Args:
        sku: which product.
        quantity: pieces.
    """

    sku: Key
    quantity: Quantity


class PricedLine(Value):
    """So many pieces of one product, at the price of the day.

    Args:
        sku: which product.
        quantity: pieces.
        unit_price: for one piece, in minor units.
    """

    sku: Key
    quantity: Quantity
    unit_price: PositiveMoney


L = TypeVar("L", Line, PricedLine)


def each_product_once(lines: tuple[L, ...]) -> tuple[L, ...]:
    """Check that there is something to order, and that no product stands in two lines.

    Args:
        lines: with or without prices.

    Raises:
        ValueError: what is wrong, for pydantic to report under the field's name.
    """
    if not lines:
        raise ValueError("must hold at least one line")
    if len({line.sku for line in lines}) < len(lines):
        raise ValueError("must not name a product twice")
    return lines


OrderLines = Annotated[tuple[Line, ...], Field(max_length=MAX_LINES), AfterValidator(each_product_once)]
"""What somebody wants to order, before it is priced: 1 to 100 lines, each product once."""


def _add_up(lines: tuple[PricedLine, ...]) -> tuple[PricedLine, ...]:
    if len({line.unit_price.currency for line in lines}) > 1:
        raise ValueError("must all be in one currency")
    if sum(line.unit_price.amount * line.quantity for line in lines) > MAX_AMOUNT:
        raise ValueError("must not cost more than the shop can count")
    return lines


PricedLines = Annotated[
    tuple[PricedLine, ...], Field(max_length=MAX_LINES), AfterValidator(each_product_once), AfterValidator(_add_up)
]
"""What an order is about: 1 to 100 lines, each product once, all in one currency."""


def total_of(lines: Iterable[PricedLine]) -> Money:
    """What the lines cost together.

    Args:
        lines: at least one, all in one currency.

    Returns:
        the sum, in minor units.

    Raises:
        InvalidInput: the currencies differ.
    """
    return reduce(add, (line.unit_price * line.quantity for line in lines))
