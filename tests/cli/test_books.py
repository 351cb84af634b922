"""The demo's invariants can fail: each is shown a set of books that breaks it."""

from __future__ import annotations

from typing import Any

import pytest

from amends import Position
from examples.demo.books import Books, Order, Pieces, check
from examples.demo.load import Result
from read_models.inventory_levels import LevelRow
from read_models.order_history import MoneyRow
from workflows.place_order import OrderOutcome

RESULTS = [Result(OrderOutcome(order_id="a", status="completed", reason=None, position=Position(1, 1)), 0.1)]


def order(status: str, endings: int, order_id: str = "a") -> Order:
    return Order(order_id=order_id, status=status, endings=endings, currency="EUR")


def books(**changes: Any) -> Books:
    good = {
        "levels": [LevelRow(sku="tea", received=10, on_hand=8, reserved=0, committed=2, available=8)],
        "money": [MoneyRow(currency="EUR", taken=500, refunded=100, completed=420, returned=20)],
        "pieces": [Pieces(sku="tea", completed=2)],
        "orders": [order("completed", 1)],
        "ledger": {"EUR": (500, 100)},
    }
    return Books.model_validate({**good, **changes})


def test_good_books_balance() -> None:
    assert set(check(books(), RESULTS).values()) == {True}


def test_orders_of_others_that_are_under_way_break_nothing() -> None:
    under_way = books(
        orders=[order("completed", 1), order("placed", 0, "theirs")],
        pieces=[Pieces(sku="tea", completed=2, open=3)],
        levels=[LevelRow(sku="tea", received=10, on_hand=8, reserved=3, committed=2, available=5)],
    )
    assert set(check(under_way, RESULTS).values()) == {True}


@pytest.mark.parametrize(
    ("wrong", "broken"),
    [
        ({"orders": [order("completed", 2)]}, ["every order ended in exactly one final state"]),
        ({"orders": [order("placed", 0)]}, ["every order ended in exactly one final state"]),
        ({"orders": [order("cancelled", 1)]}, ["every order ended in exactly one final state"]),
        ({"orders": []}, ["every order ended in exactly one final state"]),
        (
            {"money": [MoneyRow(currency="EUR", taken=500, refunded=0, completed=400, returned=0)]},
            ["money taken - refunded = total of completed orders - returned", "the payment provider's ledger agrees"],
        ),
        (
            {"money": [MoneyRow(currency="EUR", taken=500, refunded=100, completed=420, returned=0)]},
            ["money taken - refunded = total of completed orders - returned"],
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
        ({"pieces": [Pieces(sku="tea", completed=3)]}, ["committed units = units of completed orders"]),
    ],
)
def test_books_that_do_not_balance_are_found_out(wrong: dict[str, Any], broken: list[str]) -> None:
    assert [name for name, holds in check(books(**wrong), RESULTS).items() if not holds] == broken
