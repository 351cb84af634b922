"""Orders: placed once, ended once, and no more comes back than was bought."""

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
    CompleteReturn,
    GoodsReturned,
    Order,
    OrderCancelled,
    OrderCommand,
    OrderCompleted,
    OrderEnded,
    OrderEvent,
    OrderExists,
    OrderIsCancelled,
    OrderIsCompleted,
    OrderNotCompleted,
    OrderPlaced,
    Place,
    PriceDiffers,
    ReturnCompleted,
    ReturnExists,
    ReturnGoods,
    ReturnNotOpen,
    ReturnWithdrawn,
    TooManyReturned,
    UnknownOrder,
    WithdrawReturn,
)
from domain.values import Line, PricedLine, total_of

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


# Returns

COMPLETED: list[OrderEvent] = [placed, completed]


def tea(quantity: int) -> PricedLine:
    return TEA.model_copy(update={"quantity": quantity})


def bring_back(*lines: PricedLine, id: str = "r1") -> ReturnGoods:
    return ReturnGoods(order_id="o1", return_id=id, lines=lines)


def came_back(*lines: PricedLine, id: str = "r1") -> GoodsReturned:
    return GoodsReturned(order_id="o1", return_id=id, lines=lines, amount=total_of(lines))


def paid_back(amount: int, *, everything: bool = False, id: str = "r1") -> ReturnCompleted:
    money = Money(amount=amount, currency="EUR")
    return ReturnCompleted(order_id="o1", return_id=id, amount=money, everything=everything)


def withdraw(id: str = "r1") -> WithdrawReturn:
    return WithdrawReturn(order_id="o1", return_id=id, reason="no refund")


def pay_back(id: str = "r1") -> CompleteReturn:
    return CompleteReturn(order_id="o1", return_id=id)


withdrawn = ReturnWithdrawn(order_id="o1", return_id="r1", reason="no refund")


def test_goods_of_a_completed_order_come_back_at_their_price_and_the_return_claims_its_id() -> None:
    claim = Claim("order.return", "o1/r1", ReturnExists(order_id="o1", return_id="r1"))
    case = given(Order, *COMPLETED).when(bring_back(tea(1))).then(came_back(tea(1))).then_claims(claim)
    assert case.events[0].amount == Money(amount=250, currency="EUR")  # type: ignore[attr-defined]


@pytest.mark.parametrize(("events", "status"), [([placed], "placed"), ([placed, cancelled], "cancelled")])
def test_nothing_comes_back_of_an_order_that_is_not_completed(events: list[OrderEvent], status: str) -> None:
    given(Order, *events).when(bring_back(TEA)).then_refused(OrderNotCompleted, order_id="o1", status=status)
    with pytest.raises(OrderNotCompleted):
        given(Order, *events).state.goods("o1", None)


def test_nothing_comes_back_of_what_was_never_ordered() -> None:
    given(Order).when(bring_back(TEA)).then_refused(UnknownOrder, order_id="o1")
    with pytest.raises(UnknownOrder):
        given(Order).state.goods("o1", None)


def test_no_more_comes_back_than_was_ordered() -> None:
    facts = {"order_id": "o1", "sku": "tea", "wanted": 3, "left": 2}
    given(Order, *COMPLETED).when(bring_back(CUP, tea(3))).then_refused(TooManyReturned, **facts)


@pytest.mark.parametrize("before", [[came_back(tea(1))], [came_back(tea(1)), paid_back(250)]])
def test_what_came_back_before_counts_whether_it_is_paid_back_or_not(before: list[OrderEvent]) -> None:
    again = bring_back(tea(2), id="r2")
    facts = {"order_id": "o1", "sku": "tea", "wanted": 2, "left": 1}
    case = given(Order, *COMPLETED, *before)
    case.when(again).then_refused(TooManyReturned, **facts)
    case.when(bring_back(tea(1), id="r2")).then(came_back(tea(1), id="r2"))


def test_what_was_withdrawn_can_come_back_again() -> None:
    case = given(Order, *COMPLETED, came_back(TEA), withdrawn)
    case.when(bring_back(TEA, id="r2")).then(came_back(TEA, id="r2"))


def test_what_is_not_part_of_the_order_does_not_come_back() -> None:
    pot = TEA.model_copy(update={"sku": "pot"})
    facts = {"order_id": "o1", "sku": "pot", "wanted": 2, "left": 0}
    given(Order, *COMPLETED).when(bring_back(pot)).then_refused(TooManyReturned, **facts)


def test_the_price_is_the_orders_and_not_the_callers() -> None:
    dear = TEA.model_copy(update={"unit_price": Money(amount=9_999, currency="EUR")})
    facts = {"order_id": "o1", "sku": "tea", "price": "2.50 EUR", "told": "99.99 EUR"}
    given(Order, *COMPLETED).when(bring_back(dear)).then_refused(PriceDiffers, **facts)


def test_the_same_return_again_is_no_second_one() -> None:
    case = given(Order, *COMPLETED).when(bring_back(tea(1)))
    case.when(bring_back(tea(1))).then_nothing()
    case.when(bring_back(CUP)).then_refused(ReturnExists, order_id="o1", return_id="r1")


@pytest.mark.parametrize("end", [withdraw(), pay_back()])
def test_a_return_id_works_once(end: OrderCommand) -> None:
    case = given(Order, *COMPLETED).when_each(bring_back(tea(1)), end)
    case.when(bring_back(tea(1))).then_refused(ReturnExists, order_id="o1", return_id="r1")


def test_a_return_is_completed_once_its_money_is_back() -> None:
    case = given(Order, *COMPLETED, came_back(tea(1))).when(pay_back()).then(paid_back(250)).then_claims()
    assert case.state.returning == {}
    case.when(pay_back()).then_refused(ReturnNotOpen, order_id="o1", return_id="r1")


def test_the_last_return_says_that_everything_is_back() -> None:
    case = given(Order, *COMPLETED).when_each(bring_back(tea(1)), bring_back(tea(1), CUP, id="r2"))
    case = case.when(pay_back("r2")).then(paid_back(1_250, id="r2"))
    case.when(pay_back()).then(paid_back(250, everything=True))


def test_a_return_that_is_not_paid_back_is_withdrawn() -> None:
    case = given(Order, *COMPLETED, came_back(TEA)).when(withdraw()).then(withdrawn).then_claims()
    assert case.state.returned == {"tea": 0}
    case.when(pay_back()).then_refused(ReturnNotOpen, order_id="o1", return_id="r1")


def test_a_withdrawal_that_comes_first_leaves_a_tombstone() -> None:
    tombstone = Claim("order.return", "o1/r1", None)
    case = given(Order, *COMPLETED).when(withdraw()).then().then_claims(tombstone)
    case.when(bring_back(TEA)).then_refused(ReturnExists, order_id="o1", return_id="r1")


def test_a_withdrawal_after_the_money_is_back_takes_nothing_back() -> None:
    given(Order, *COMPLETED, came_back(TEA), paid_back(500)).when(withdraw()).then()


def test_goods_are_looked_up_with_the_price_of_the_order() -> None:
    order = given(Order, *COMPLETED).state
    assert order.goods("o1", [Line(sku="cup", quantity=1), Line(sku="tea", quantity=1)]) == (CUP, tea(1))
    with pytest.raises(TooManyReturned):
        order.goods("o1", [Line(sku="pot", quantity=1)])


def test_all_that_is_left_is_what_has_not_come_back() -> None:
    assert given(Order, *COMPLETED).state.goods("o1", None) == (TEA, CUP)
    assert given(Order, *COMPLETED, came_back(tea(1), CUP)).state.goods("o1", None) == (tea(1),)
    everything = given(Order, *COMPLETED, came_back(TEA, CUP))
    facts = {"order_id": "o1", "sku": "tea", "wanted": 2, "left": 0}
    assert everything.state.goods("o1", None) == (TEA, CUP)
    everything.when(bring_back(TEA, CUP, id="r2")).then_refused(TooManyReturned, **facts)


ids = st.sampled_from(["r1", "r2", "r3"])
goods = st.lists(st.sampled_from([tea(1), TEA, tea(3), CUP]), min_size=1, max_size=2, unique_by=lambda line: line.sku)
returns: st.SearchStrategy[OrderCommand] = st.one_of(
    st.builds(lambda lines, id: bring_back(*lines, id=id), goods, ids),
    st.builds(withdraw, ids),
    st.builds(pay_back, ids),
)


@forall(st.lists(returns, max_size=20))
def test_whatever_is_returned_no_more_money_is_due_than_was_paid(asked: list[OrderCommand]) -> None:
    case, due = given(Order, *COMPLETED), {}
    for command in asked:
        case = case.when(command)
        for event in case.events:
            match event:
                case GoodsReturned(return_id=id, amount=amount):
                    due[id] = amount.amount
                case ReturnWithdrawn(return_id=id):
                    del due[id]
                case ReturnCompleted(return_id=id, amount=amount, everything=everything):
                    assert due[id] == amount.amount
                    assert not everything or sum(due.values()) == TOTAL.amount
    assert sum(due.values()) <= TOTAL.amount
    assert all(0 <= count <= {"tea": 2, "cup": 1}[sku] for sku, count in case.state.returned.items())
