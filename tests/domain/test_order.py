"""Orders: placed once, ended once."""

from typing import Any

import pytest
from hypothesis import given as forall
from hypothesis import strategies as st

from amends import Claim, InvalidInput
from amends.money import MAX_AMOUNT, Money
from amends.testing import given
from domain.order import (
    Cancel,
    Complete,
    Order,
    OrderCancelled,
    OrderCommand,
    OrderCompleted,
    OrderEnded,
    OrderEvent,
    OrderExists,
    OrderIsCancelled,
    OrderIsCompleted,
    OrderPlaced,
    Place,
    UnknownOrder,
)
from domain.values import PricedLine

TEA = PricedLine(sku="tea", quantity=2, unit_price=Money(amount=250, currency="EUR"))
CUP = PricedLine(sku="cup", quantity=1, unit_price=Money(amount=1_000, currency="EUR"))
TOTAL = Money(amount=1_500, currency="EUR")

place = Place(order_id="o1", customer_id="c1", lines=(TEA, CUP))
placed = OrderPlaced(order_id="o1", customer_id="c1", lines=(TEA, CUP), total=TOTAL)
complete, completed = Complete(order_id="o1"), OrderCompleted(order_id="o1")
cancel, cancelled = Cancel(order_id="o1", reason="too dear"), OrderCancelled(order_id="o1", reason="too dear")


def test_an_order_is_placed_with_its_total_and_claims_its_id() -> None:
    given(Order).when(place).then(placed).then_claims(Claim("order", "o1", OrderEnded(order_id="o1")))


@pytest.mark.parametrize(
    ("events", "status"),
    [([placed], "placed"), ([placed, completed], "completed"), ([placed, cancelled], "cancelled")],
)
def test_an_order_is_placed_once(events: list[OrderEvent], status: str) -> None:
    given(Order, *events).when(place).then_refused(OrderExists, order_id="o1", status=status)


def test_a_placed_order_is_completed() -> None:
    given(Order, placed).when(complete).then(completed).then_claims()


def test_a_placed_order_is_cancelled() -> None:
    given(Order, placed).when(cancel).then(cancelled).then_claims()


def test_ending_it_the_same_way_again_changes_nothing() -> None:
    given(Order, placed, completed).when(complete).then_nothing()
    given(Order, placed, cancelled).when(cancel).then_nothing()
    given(Order, placed, cancelled).when(Cancel(order_id="o1", reason="another one")).then_nothing()


def test_a_cancelled_order_is_not_completed() -> None:
    given(Order, placed, cancelled).when(complete).then_refused(OrderIsCancelled, order_id="o1")


def test_a_completed_order_is_not_cancelled() -> None:
    given(Order, placed, completed).when(cancel).then_refused(OrderIsCompleted, order_id="o1")


def test_what_was_never_placed_is_not_completed() -> None:
    given(Order).when(complete).then_refused(UnknownOrder, order_id="o1")
    given(Order).when_each(cancel, complete).then_refused(UnknownOrder, order_id="o1")


def test_a_cancel_that_comes_first_leaves_a_tombstone() -> None:
    tombstone = Claim("order", "o1", None)
    case = given(Order).when(cancel).then().then_claims(tombstone)
    case.when(cancel).then().then_claims(tombstone)
    case.when(place).then_refused(OrderEnded, order_id="o1")


def line(sku: str = "tea", quantity: int = 1, amount: int = 1, currency: str = "EUR") -> dict[str, Any]:
    return {"sku": sku, "quantity": quantity, "unit_price": {"amount": amount, "currency": currency}}


@pytest.mark.parametrize(
    ("lines", "field", "problem"),
    [
        ([], "lines", "at least one line"),
        ([line(f"s{n}") for n in range(101)], "lines", "at most 100"),
        ([line(), line("cup"), line()], "lines", "twice"),
        ([line(), line("cup", currency="USD")], "lines", "one currency"),
        ([line(quantity=1_000_000, amount=MAX_AMOUNT)], "lines", "more than the shop can count"),
        ([line(), line("cup", quantity=0)], "lines.1.quantity", "greater than or equal to 1"),
        ([line(amount=0)], "lines.0.unit_price", "more than zero"),
        ([line(currency="EUX")], "lines.0.unit_price.currency", "no ISO 4217 currency"),
        ([line(sku="a b")], "lines.0.sku", "pattern"),
        (None, "lines", "tuple"),
    ],
)
def test_lines_that_make_no_order_are_told_by_their_field(lines: Any, field: str, problem: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Place(order_id="o1", customer_id="c1", lines=lines)
    assert list(caught.value.problems) == [field]
    assert problem in caught.value.problems[field]


def test_a_hundred_lines_up_to_the_greatest_total_are_fine() -> None:
    most = MAX_AMOUNT // 100
    order = Place(order_id="o1", customer_id="c1", lines=[line(f"s{n}", amount=most) for n in range(100)])
    given(Order).when(order).then(
        OrderPlaced(**order.model_dump(), total=Money(amount=MAX_AMOUNT, currency="EUR")),
    )


@pytest.mark.parametrize("reason", ["", "x" * 201, "a\x00b"])
def test_a_reason_is_short_and_printable(reason: str) -> None:
    with pytest.raises(InvalidInput, match="reason"):
        Cancel(order_id="o1", reason=reason)


commands: st.SearchStrategy[OrderCommand] = st.sampled_from([place, complete, cancel])


@forall(st.lists(commands, max_size=12))
def test_whatever_is_asked_for_an_order_is_placed_once_and_ends_once(asked: list[OrderCommand]) -> None:
    case, story = given(Order), []
    for command in asked:
        case = case.when(command)
        story += [type(event) for event in case.events]
    possible = [[], [OrderPlaced], [OrderPlaced, OrderCompleted], [OrderPlaced, OrderCancelled]]
    assert story in possible
