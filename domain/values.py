"""Small values that the shop's commands and events are made of.

The bounds stand on the commands. Events only record, with the plain types, so that a rule tightened tomorrow leaves
yesterday's facts readable.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field, StringConstraints

from amends import Key, Money, Value

__all__ = [
    "MAX_LINES",
    "Line",
    "NotNegativeMoney",
    "OrderLines",
    "PositiveMoney",
    "PricedLine",
    "Quantity",
    "ShortText",
    "each_product_once",
    "total_of",
]

MAX_LINES = 100
"""Most lines of one order."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _positive(money: Money) -> Money:
    if money.amount <= 0:
        raise ValueError("must be more than zero")
    return money


def _not_negative(money: Money) -> Money:
    if money.amount < 0:
        raise ValueError("must not be below zero")
    return money


def _no_control_characters(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("must not contain control characters")
    return text


Quantity = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
"""How many pieces: a whole number from 1 to a million."""

PositiveMoney = Annotated[Money, AfterValidator(_positive)]
"""A price or a payment: more than nothing."""

NotNegativeMoney = Annotated[Money, AfterValidator(_not_negative)]
"""What has been taken or given back: nothing or more."""

ShortText = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_no_control_characters)
]
"""A name or a reason: 1 to 200 characters, none of them a control character."""


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
