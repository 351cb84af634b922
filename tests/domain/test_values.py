"""Small values: bounds, and complaints that name the field."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from amends import InvalidInput
from amends.money import MAX_AMOUNT, Money
from domain.values import Line, NotNegativeMoney, OrderLines, PricedLine, ShortText, total_of


def eur(amount: int) -> Money:
    return Money(amount=amount, currency="EUR")


@pytest.mark.parametrize("quantity", [0, -1, 1_000_001, 1.0, "3", True, None])
def test_a_quantity_is_a_whole_number_from_1_to_a_million(quantity: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        Line(sku="tea", quantity=quantity)
    assert set(caught.value.problems) == {"quantity"}


@pytest.mark.parametrize("quantity", [1, 1_000_000])
def test_the_bounds_of_a_quantity_are_fine(quantity: int) -> None:
    assert Line(sku="tea", quantity=quantity).quantity == quantity


@pytest.mark.parametrize("sku", ["", " tea", "tea\n", "a/b", "tea\x00", "é", "x" * 65, "-tea", "\ud800"])
def test_a_sku_is_safe_in_ids_and_urls(sku: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Line(sku=sku, quantity=1)
    assert set(caught.value.problems) == {"sku"}


def test_every_wrong_field_is_named_at_once_and_so_is_one_too_many() -> None:
    with pytest.raises(InvalidInput) as caught:
        PricedLine(sku="", quantity=0, unit_price=eur(0), colour="red")  # type: ignore[call-arg]
    assert set(caught.value.problems) == {"sku", "quantity", "unit_price", "colour"}


@pytest.mark.parametrize("amount", [0, -1])
def test_nothing_is_sold_for_nothing(amount: int) -> None:
    with pytest.raises(InvalidInput, match="unit_price: Value error, must be more than zero"):
        PricedLine(sku="tea", quantity=1, unit_price=eur(amount))


def test_values_do_not_change() -> None:
    line = Line(sku="tea", quantity=1)
    with pytest.raises(ValidationError, match="frozen"):
        line.quantity = 2  # type: ignore[misc]


def test_the_total_is_the_sum_of_quantity_times_price() -> None:
    lines = [
        PricedLine(sku="tea", quantity=3, unit_price=eur(250)),
        PricedLine(sku="cup", quantity=1, unit_price=eur(1_999)),
    ]
    assert total_of(lines) == eur(2_749)


def test_a_total_of_two_currencies_is_refused() -> None:
    dollars = Money(amount=1, currency="USD")
    lines = [
        PricedLine(sku="tea", quantity=1, unit_price=eur(1)),
        PricedLine(sku="cup", quantity=1, unit_price=dollars),
    ]
    with pytest.raises(InvalidInput, match="currency"):
        total_of(lines)


short_text: TypeAdapter[str] = TypeAdapter(ShortText)
not_negative: TypeAdapter[Money] = TypeAdapter(NotNegativeMoney)


@pytest.mark.parametrize("text", ["", "   ", "x" * 201, "a\x00b", "a\nb", "a\x7fb", "a\x85b", "\ud800"])
def test_a_short_text_has_1_to_200_characters_and_no_control_character(text: str) -> None:
    with pytest.raises(ValidationError):
        short_text.validate_python(text)


def test_a_short_text_is_trimmed_and_speaks_every_language() -> None:
    assert short_text.validate_python("  Grüner Tee, 緑茶 🍵 ") == "Grüner Tee, 緑茶 🍵"
    assert len(short_text.validate_python("x" * 200)) == 200


def test_money_taken_may_be_nothing_but_not_less() -> None:
    assert not_negative.validate_python(eur(0)) == eur(0)
    assert not_negative.validate_python(eur(MAX_AMOUNT)) == eur(MAX_AMOUNT)
    with pytest.raises(ValidationError, match="must not be below zero"):
        not_negative.validate_python(eur(-1))


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ((), "must hold at least one line"),
        ((Line(sku="tea", quantity=1), Line(sku="tea", quantity=2)), "must not name a product twice"),
        (tuple(Line(sku=f"s{n}", quantity=1) for n in range(101)), "at most 100"),
    ],
)
def test_what_is_ordered_has_1_to_100_lines_and_each_product_once(lines: tuple[Line, ...], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        TypeAdapter(OrderLines).validate_python(lines)
