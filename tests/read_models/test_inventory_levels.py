"""Stock levels: what every event does to a product's row, and to that of a replenishment."""

from datetime import UTC, datetime

from amends.testing import given
from domain.replenishment import ReplenishmentCancelled, ReplenishmentDelivered, ReplenishmentOpened
from domain.stock import (
    ReorderPointSet,
    StockCommitted,
    StockConfirmed,
    StockLapsed,
    StockRanLow,
    StockReceived,
    StockReleased,
    StockReserved,
)
from read_models.inventory_levels import inventory, stock, supplies

received = StockReceived(sku="tea", quantity=10)
reserved = StockReserved(sku="tea", reservation_id="r1", quantity=4, hold=60)
opened = ReplenishmentOpened(replenishment_id="p1", sku="tea", quantity=50)


def test_goods_that_came_in_are_on_hand() -> None:
    given(inventory).when(received, received).then_row(stock, "tea", received=20, on_hand=20, reserved=0, committed=0)


def test_reserved_goods_are_still_on_hand_confirmed_or_not() -> None:
    confirmed = StockConfirmed(sku="tea", reservation_id="r1", quantity=4)
    case = given(inventory).when(received, reserved).then_row(stock, "tea", on_hand=10, reserved=4)
    case.when(confirmed).then_row(stock, "tea", on_hand=10, reserved=4)


def test_released_and_lapsed_goods_are_no_longer_reserved() -> None:
    for end in (StockReleased, StockLapsed):
        case = given(inventory).when(received, reserved, end(sku="tea", reservation_id="r1", quantity=4))
        case.then_row(stock, "tea", received=10, on_hand=10, reserved=0, committed=0)


def test_committed_goods_have_left() -> None:
    case = given(inventory).when(received, reserved, StockCommitted(sku="tea", reservation_id="r1", quantity=4))
    case.then_row(stock, "tea", received=10, on_hand=6, reserved=0, committed=4)


def test_a_product_knows_how_much_is_enough() -> None:
    case = given(inventory).when(ReorderPointSet(sku="tea", at=5, quantity=50))
    case.then_row(stock, "tea", reorder_at=5, on_hand=0)
    low = StockRanLow(sku="tea", available=4, quantity=50)
    case.when(low, ReorderPointSet(sku="tea", at=7, quantity=50)).then_row(stock, "tea", reorder_at=7, on_order=0)


def test_what_is_on_order_is_shown_until_it_comes_whatever_comes() -> None:
    began, ended = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 9, tzinfo=UTC)
    case = given(inventory).when(opened, recorded_at=began)
    case.then_row(stock, "tea", on_order=50, on_hand=0)
    case.then_row(supplies, "p1", sku="tea", status="open", ordered=50, delivered=0, opened_at=began, ended_at=None)
    delivered = ReplenishmentDelivered(replenishment_id="p1", sku="tea", quantity=48, ordered=50)
    case = case.when(delivered, recorded_at=ended)
    case.then_row(stock, "tea", on_order=0, received=0, on_hand=0)
    case.then_row(supplies, "p1", status="delivered", delivered=48, opened_at=began, ended_at=ended, reason=None)


def test_what_was_called_off_is_no_longer_on_order() -> None:
    cancelled = ReplenishmentCancelled(replenishment_id="p1", sku="tea", ordered=50, reason="DeliveryOverdue")
    case = given(inventory).when(opened, cancelled).then_row(stock, "tea", on_order=0)
    case.then_row(supplies, "p1", status="cancelled", delivered=0, reason="DeliveryOverdue")
