"""Orders as people ask about them: the rows after what has happened."""

from datetime import UTC, datetime, timedelta

import pytest

from amends import Money
from amends.testing import given
from domain.order import (
    GoodsReturned,
    OrderCancelled,
    OrderCompleted,
    OrderImported,
    OrderPlaced,
    ReturnCompleted,
    ReturnWithdrawn,
)
from domain.payment import PaymentAuthorised, PaymentFailed, PaymentProcessed, PaymentRefunded, PaymentRequested
from domain.stock import StockCommitted, StockReleased, StockReserved
from domain.values import PricedLine
from read_models.order_history import history, orders, timeline

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def euros(cents: int) -> Money:
    return Money(amount=cents, currency="EUR")


lines = (PricedLine(sku="TEA", quantity=2, unit_price=euros(450)),)
placed = OrderPlaced(order_id="o1", customer_id="ann", lines=lines, total=euros(900))
asked = PaymentRequested(payment_id="o1", order_id="o1", customer_id="ann", amount=euros(900), method="card")
held = PaymentAuthorised(payment_id="o1", order_id="o1", amount=euros(900), provider_ref="p1")
paid = PaymentProcessed(payment_id="o1", order_id="o1", amount=euros(900), provider_ref="p1")
refunded = PaymentRefunded(payment_id="o1", order_id="o1", amount=euros(900))
reserved = StockReserved(sku="TEA", reservation_id="o1", quantity=2)
committed = StockCommitted(sku="TEA", reservation_id="o1", quantity=2)
completed = OrderCompleted(order_id="o1")
returned = GoodsReturned(order_id="o1", return_id="r1", lines=lines, amount=euros(900))


def test_given_nothing_when_an_order_is_placed_then_its_row_says_who_what_how_much_and_when() -> None:
    given(history).when(placed, recorded_at=NOON).then_row(
        orders,
        "o1",
        customer_id="ann",
        status="placed",
        reason=None,
        lines=[{"sku": "TEA", "quantity": 2, "unit_price": {"amount": 450, "currency": "EUR"}}],
        currency="EUR",
        total=900,
        paid=0,
        refunded=0,
        endings=0,
        placed_at=NOON,
        paid_at=None,
        ended_at=None,
    )


def test_given_an_order_when_it_is_paid_and_completed_then_its_row_says_when() -> None:
    later = NOON + timedelta(seconds=3)
    case = given(history, placed, asked, held).when(paid, recorded_at=NOON).when(reserved)
    case.when(completed, recorded_at=later).when(committed).then_row(
        orders, "o1", status="completed", paid=900, refunded=0, endings=1, paid_at=NOON, ended_at=later
    )


def test_given_a_paid_order_when_it_is_undone_then_it_is_cancelled_for_a_reason_and_the_money_is_back() -> None:
    released = StockReleased(sku="TEA", reservation_id="o1", quantity=2)
    cancelled = OrderCancelled(order_id="o1", reason="OutOfStock")
    case = given(history, placed, paid, reserved, released, refunded).when(cancelled, recorded_at=NOON)
    case.then_row(
        orders, "o1", status="cancelled", reason="OutOfStock", paid=900, refunded=900, endings=1, ended_at=NOON
    )


def test_given_a_completed_order_when_goods_come_back_then_it_is_refunded_only_once_everything_has() -> None:
    case = given(history, placed, paid, completed).when(returned)
    case.then_row(orders, "o1", status="completed", open_returns=1, returned=0)
    some = ReturnCompleted(order_id="o1", return_id="r1", amount=euros(450), everything=False)
    case.when(some).then_row(orders, "o1", status="completed", open_returns=0, returned=450)
    everything = ReturnCompleted(order_id="o1", return_id="r1", amount=euros(900), everything=True)
    case.when(everything).then_row(orders, "o1", status="refunded", open_returns=0, returned=900, endings=1)
    withdrawn = ReturnWithdrawn(order_id="o1", return_id="r1", reason="kept after all")
    case.when(withdrawn).then_row(orders, "o1", status="completed", open_returns=0, returned=0)


@pytest.mark.parametrize(
    ("status", "paid", "refunded", "returned"),
    [("completed", 900, 450, 450), ("refunded", 900, 900, 900), ("cancelled", 900, 900, 0)],
)
def test_given_nothing_when_an_order_of_another_system_is_imported_then_its_row_has_the_times_of_then(
    status: str, paid: int, refunded: int, returned: int
) -> None:
    then = NOON - timedelta(days=900)
    imported = OrderImported(
        order_id="o1",
        customer_id="ann",
        lines=lines,
        total=euros(900),
        status=status,
        reason=None,
        paid=euros(paid),
        refunded=euros(refunded),
        placed_at=then,
        ended_at=then + timedelta(days=1),
    )
    case = given(history).when(imported, recorded_at=NOON)
    case.then_row(
        orders,
        "o1",
        customer_id="ann",
        status=status,
        total=900,
        currency="EUR",
        paid=paid,
        refunded=refunded,
        returned=returned,
        endings=1,
        open_returns=0,
        placed_at=then,
        ended_at=then + timedelta(days=1),
    )
    case.then_row(timeline, ("o1", 1), event="order.imported", detail=f"{status}, 9.00 EUR", at=NOON)


def test_given_an_order_when_things_happen_to_it_then_its_timeline_tells_each_in_words() -> None:
    failed = PaymentFailed(payment_id="o1", order_id="o1", reason="card_expired")
    case = given(history, placed, asked, failed, reserved).when(completed, actor="ann's browser", recorded_at=NOON)
    case.then_row(timeline, ("o1", 1), event="order.placed", detail="9.00 EUR", actor="test")
    case.then_row(timeline, ("o1", 2), event="payment.requested", detail="9.00 EUR by card")
    case.then_row(timeline, ("o1", 3), event="payment.failed", detail="card_expired")
    case.then_row(timeline, ("o1", 4), event="stock.reserved", detail="2 × TEA")
    case.then_row(timeline, ("o1", 5), event="order.completed", detail=None, actor="ann's browser", at=NOON)


def test_given_an_order_when_another_one_is_placed_then_it_stays_as_it_is() -> None:
    other = placed.model_copy(update={"order_id": "o2", "customer_id": "bob"})
    case = given(history, placed, paid).when(other)
    case.then_row(orders, "o1", customer_id="ann", paid=900).then_row(orders, "o2", customer_id="bob", paid=0)
    case.then_no_row(timeline, ("o1", 3)).then_row(timeline, ("o2", 3), event="order.placed")
