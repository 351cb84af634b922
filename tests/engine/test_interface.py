"""What views promise: a column may be added at the end, and nothing else may happen to them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from amends.errors import InvalidInput
from amends.interface import MARKER, PublicView, ViewColumn, compare, promise, reference

ID, TOTAL, AT = (
    ViewColumn("order_id", "text", "The order."),
    ViewColumn("total", "bigint", "In cents, a|b."),
    ViewColumn("at", "timestamp with time zone", "When."),
)
ORDERS = PublicView("orders", "One row an order.", (ID, TOTAL))
STOCK = PublicView("stock", "One row a product.", (ID,))
PROMISED = promise([ORDERS, STOCK])


def changed(*columns: ViewColumn) -> list[PublicView]:
    return [replace(ORDERS, columns=columns), STOCK]


def test_given_the_views_as_promised_when_compared_then_nothing_is_broken_or_added() -> None:
    difference = compare(PROMISED, [ORDERS, STOCK])
    assert (difference.broken, difference.added) == ((), ())
    assert json.loads(PROMISED) == {"orders": ["order_id text", "total bigint"], "stock": ["order_id text"]}


def test_given_a_column_at_the_end_and_a_new_view_when_compared_then_they_are_added_and_nothing_is_broken() -> None:
    difference = compare(PROMISED, [*changed(ID, TOTAL, AT), PublicView("more", "More.", (ID,))])
    assert difference.broken == ()
    assert difference.added == ("views.more", "views.orders.at timestamp with time zone")


@pytest.mark.parametrize(
    ("views", "sentence"),
    [
        (changed(ID), "views.orders.total is gone"),
        (changed(ID, replace(TOTAL, name="sum")), "views.orders.total is gone"),
        (changed(ID, replace(TOTAL, type="numeric")), "views.orders.total was bigint, and is numeric"),
        (changed(TOTAL, ID), "views.orders.order_id has moved: new columns go to the end"),
        (changed(ID, AT, TOTAL), "views.orders.total has moved: new columns go to the end"),
        ([ORDERS], "views.stock is gone"),
    ],
)
def test_given_a_column_dropped_renamed_retyped_or_moved_when_compared_then_it_is_broken(
    views: list[PublicView], sentence: str
) -> None:
    assert compare(PROMISED, views).broken == (sentence,)


@pytest.mark.parametrize("text", ["{", "[]", '{"orders": "order_id"}', '{"orders": [1]}'])
def test_given_something_else_than_a_promise_when_compared_then_invalid_input(text: str) -> None:
    with pytest.raises(InvalidInput, match="promised"):
        compare(text, [ORDERS])


def test_given_a_page_when_the_reference_is_written_then_what_people_wrote_stays_and_the_rest_is_new() -> None:
    page = reference(f"# Mine\n\n{MARKER}\nold", [ORDERS])
    assert page.startswith(f"# Mine\n\n{MARKER}\n\n## The views\n")
    assert "old" not in page
    assert "| `total` | bigint | In cents, a\\|b. |\n" in page
    assert reference(page, [ORDERS]) == page
    with pytest.raises(InvalidInput, match="has no line"):
        reference("# Mine", [ORDERS])
