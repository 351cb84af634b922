"""Money: whole minor units, one currency, no rounding."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amends import InvalidInput, Money
from amends.money import MAX_AMOUNT

currencies = st.sampled_from(["EUR", "JPY", "KWD", "USD", "GBP"])
small = st.integers(-(10**12), 10**12)


def eur(amount: int) -> Money:
    return Money(amount=amount, currency="EUR")


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (0, "EUR", "0.00 EUR"),
        (5, "EUR", "0.05 EUR"),
        (-5, "EUR", "-0.05 EUR"),
        (1_234_567, "EUR", "12,345.67 EUR"),
        (-100, "USD", "-1.00 USD"),
        (1_234, "JPY", "1,234 JPY"),
        (-1, "JPY", "-1 JPY"),
        (1_005, "KWD", "1.005 KWD"),
        (MAX_AMOUNT, "EUR", "10,000,000,000,000.00 EUR"),
    ],
)
def test_it_is_written_for_people(amount: int, currency: str, text: str) -> None:
    assert str(Money(amount=amount, currency=currency)) == text


@pytest.mark.parametrize("amount", [MAX_AMOUNT, -MAX_AMOUNT, 0])
def test_it_goes_as_far_as_the_bounds(amount: int) -> None:
    assert eur(amount).amount == amount


@pytest.mark.parametrize("amount", [MAX_AMOUNT + 1, -MAX_AMOUNT - 1, 1.0, "1", True, None])
def test_what_is_no_amount_is_invalid_and_names_the_field(amount: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        Money(amount=amount, currency="EUR")
    assert list(caught.value.problems) == ["amount"]


@pytest.mark.parametrize("currency", ["eur", "EURO", "XXX", "DEM", "", 978])
def test_what_is_no_currency_in_use_is_invalid_and_names_the_field(currency: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        Money(amount=1, currency=currency)
    assert list(caught.value.problems) == ["currency"]


def test_an_unknown_field_is_invalid() -> None:
    with pytest.raises(InvalidInput, match="cents"):
        Money(amount=1, currency="EUR", cents=2)  # type: ignore[call-arg]


def test_a_sum_or_product_past_the_bounds_is_invalid() -> None:
    with pytest.raises(InvalidInput, match="amount"):
        eur(MAX_AMOUNT) + eur(1)
    with pytest.raises(InvalidInput, match="amount"):
        eur(-MAX_AMOUNT) - eur(1)
    with pytest.raises(InvalidInput, match="amount"):
        eur(MAX_AMOUNT) * 2


def test_a_product_with_a_fraction_is_invalid_for_it_would_have_to_be_rounded() -> None:
    with pytest.raises(InvalidInput, match="amount"):
        eur(3) * 0.5  # type: ignore[operator]


def test_two_currencies_don_t_mix() -> None:
    with pytest.raises(InvalidInput, match="EUR and USD"):
        eur(1) + Money(amount=1, currency="USD")
    with pytest.raises(InvalidInput, match="EUR and USD"):
        eur(1) - Money(amount=1, currency="USD")


def test_it_can_t_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        eur(1).amount = 2  # type: ignore[misc]


@given(small, small, currencies)
def test_adding_and_taking_away_come_back(first: int, second: int, currency: str) -> None:
    one, other = Money(amount=first, currency=currency), Money(amount=second, currency=currency)
    assert (one + other) - other == one
    assert one + other == other + one


@given(small, st.integers(0, 100), currencies)
def test_a_product_is_a_repeated_sum(amount: int, times: int, currency: str) -> None:
    money, total = Money(amount=amount, currency=currency), Money(amount=0, currency=currency)
    for _ in range(times):
        total += money
    assert money * times == total


@given(st.integers(-MAX_AMOUNT, MAX_AMOUNT), currencies)
def test_it_survives_json_and_its_digits_are_the_amount(amount: int, currency: str) -> None:
    money = Money(amount=amount, currency=currency)
    assert Money.model_validate_json(money.model_dump_json()) == money
    number, _, code = str(money).partition(" ")
    assert (int(number.replace(",", "").replace(".", "")), code) == (amount, currency)
