"""Orders of another system: history with sums and times that fit, and nothing that can still be done to them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from amends import Claim, InvalidInput, Money
from amends.testing import given
from domain.order import (
    Cancel,
    Complete,
    CompleteReturn,
    ImportOrder,
    Order,
    OrderEnded,
    OrderExists,
    OrderImported,
    OrderIsImported,
    OrderPlaced,
    Place,
    ReturnGoods,
    ReturnNotOpen,
)
from domain.past_order import DoesNotAddUp, EndedBeforePlaced
from domain.values import PricedLine

THEN = datetime(2019, 3, 1, 10, tzinfo=UTC)


def euros(cents: int) -> Money:
    return Money(amount=cents, currency="EUR")


LINES = (PricedLine(sku="TEA", quantity=2, unit_price=euros(450)),)


def past(**changes: Any) -> ImportOrder:
    fields: dict[str, Any] = {
        "order_id": "o1",
        "customer_id": "ann",
        "lines": LINES,
        "status": "completed",
        "paid": euros(900),
        "refunded": euros(0),
        "placed_at": THEN,
        "ended_at": THEN + timedelta(days=1),
    }
    return ImportOrder(**fields | changes)


def history(order: ImportOrder) -> OrderImported:
    return OrderImported(**dict(order) | {"total": euros(900)})


imported = history(past())
placed = OrderPlaced(order_id="o1", customer_id="ann", lines=LINES, total=euros(900))


@pytest.mark.parametrize(
    "order",
    [
        past(),
        past(total=euros(900)),
        past(refunded=euros(899)),
        past(status="refunded", refunded=euros(900)),
        past(status="cancelled", reason="too late", refunded=euros(900)),
        past(status="cancelled", paid=euros(0)),
        past(status="cancelled", paid=euros(100), refunded=euros(100)),
        past(ended_at=THEN),
    ],
)
def test_an_order_whose_sums_and_times_fit_is_history(order: ImportOrder) -> None:
    case = given(Order).when(order).then(history(order))
    case.then_claims(Claim("order", "o1", OrderEnded(order_id="o1")))


@pytest.mark.parametrize(
    ("order", "field", "told", "wanted"),
    [
        (past(total=euros(901)), "total", "9.01 EUR", "the sum of the lines, 9.00 EUR"),
        (past(paid=euros(899)), "paid", "8.99 EUR", "exactly 9.00 EUR"),
        (past(paid=Money(amount=900, currency="USD")), "paid", "9.00 USD", "exactly 9.00 EUR"),
        (past(refunded=euros(900)), "refunded", "9.00 EUR", "less than 9.00 EUR"),
        (past(refunded=Money(amount=0, currency="USD")), "refunded", "0.00 USD", "less than 9.00 EUR"),
        (past(status="refunded", refunded=euros(1)), "refunded", "0.01 EUR", "exactly 9.00 EUR"),
        (past(status="cancelled"), "refunded", "0.00 EUR", "all of 9.00 EUR of 9.00 EUR"),
        (past(status="cancelled", paid=euros(901), refunded=euros(901)), "paid", "9.01 EUR", "at most 9.00 EUR"),
    ],
)
def test_sums_that_don_t_fit_are_refused_with_their_field(
    order: ImportOrder, field: str, told: str, wanted: str
) -> None:
    facts = {"order_id": "o1", "field": field, "status": order.status, "told": told, "wanted": wanted}
    given(Order).when(order).then_refused(DoesNotAddUp, **facts)


def test_an_order_does_not_end_before_it_was_placed() -> None:
    early = past(ended_at=THEN - timedelta(seconds=1))
    times = {"placed_at": "2019-03-01T10:00:00+00:00", "ended_at": "2019-03-01T09:59:59+00:00"}
    given(Order).when(early).then_refused(EndedBeforePlaced, order_id="o1", **times)


@pytest.mark.parametrize("field", ["placed_at", "ended_at"])
@pytest.mark.parametrize("moment", [datetime(2019, 3, 1), datetime(2999, 1, 1, tzinfo=UTC)])
def test_times_have_a_zone_and_are_over(field: str, moment: datetime) -> None:
    with pytest.raises(InvalidInput, match=field):
        past(**{field: moment})


@pytest.mark.parametrize(
    "happened", [imported, OrderPlaced(order_id="o1", customer_id="a", lines=LINES, total=euros(900))]
)
def test_an_order_that_is_there_is_not_imported(happened: OrderImported | OrderPlaced) -> None:
    status = "imported" if happened is imported else "placed"
    given(Order, happened).when(past()).then_refused(OrderExists, order_id="o1", status=status)


@pytest.mark.parametrize(
    "command",
    [
        Complete(order_id="o1"),
        Cancel(order_id="o1", reason="changed my mind"),
        ReturnGoods(order_id="o1", return_id="r1", lines=LINES),
    ],
)
def test_an_imported_order_can_not_be_ended_or_sent_back_here(command: Cancel | Complete | ReturnGoods) -> None:
    given(Order, imported).when(command).then_refused(OrderIsImported, order_id="o1")


def test_an_imported_order_is_not_placed_again_and_has_no_returns() -> None:
    case = given(Order, imported)
    case.when(Place(order_id="o1", customer_id="ann", lines=LINES)).then_refused(
        OrderExists, order_id="o1", status="imported"
    )
    case.when(CompleteReturn(order_id="o1", return_id="r1")).then_refused(ReturnNotOpen, order_id="o1", return_id="r1")
    with pytest.raises(OrderIsImported):
        case.state.goods("o1", None)
