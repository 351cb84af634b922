"""The demo's invariants can fail: each is shown a set of books that breaks it."""

from __future__ import annotations

from typing import Any

import pytest

from amends import Position
from examples.demo.books import Books, check
from examples.demo.load import Result
from read_models.inventory_levels import LevelRow
from read_models.order_history import MoneyRow
from workflows.place_order import OrderOutcome

RESULTS = [Result(OrderOutcome(order_id="a", status="completed", reason=None, position=Position(1, 1)), 0.1)]


def books(**changes: Any) -> Books:
    good = {
        "levels": [LevelRow(sku="tea", received=10, on_hand=8, reserved=0, committed=2, available=8)],
        "money": [MoneyRow(currency="EUR", taken=500, refunded=100, completed=400)],
        "sold": {"tea": 2},
        "endings": {"a": ("completed", 1)},
        "ledger": {"EUR": (500, 100)},
    }
    return Books.model_validate({**good, **changes})


def test_good_books_balance() -> None:
    assert set(check(books(), RESULTS).values()) == {True}


@pytest.mark.parametrize(
    ("wrong", "broken"),
    [
        ({"endings": {"a": ("completed", 2)}}, ["every order ended in exactly one final state"]),
        ({"endings": {"a": ("placed", 0)}}, ["every order ended in exactly one final state"]),
        ({"endings": {"a": ("cancelled", 1)}}, ["every order ended in exactly one final state"]),
        ({"endings": {}}, ["every order ended in exactly one final state"]),
        (
            {"money": [MoneyRow(currency="EUR", taken=500, refunded=0, completed=400)]},
            ["money taken - refunded = total of completed orders", "the payment provider's ledger agrees"],
        ),
        ({"ledger": {"EUR": (600, 200)}}, ["the payment provider's ledger agrees"]),
        (
            {"levels": [LevelRow(sku="tea", received=10, on_hand=8, reserved=1, committed=2, available=7)]},
            ["on hand, reserved and committed balance for each SKU"],
        ),
        (
            {"levels": [LevelRow(sku="tea", received=10, on_hand=7, reserved=0, committed=2, available=7)]},
            ["on hand, reserved and committed balance for each SKU"],
        ),
        ({"sold": {"tea": 3}}, ["committed units = units of completed orders"]),
    ],
)
def test_books_that_do_not_balance_are_found_out(wrong: dict[str, Any], broken: list[str]) -> None:
    assert [name for name, holds in check(books(**wrong), RESULTS).items() if not holds] == broken
