"""What the shop does by itself: which event starts which process, without a server."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from amends import Event
from amends.testing import given
from domain.stock import ReorderPointSet, StockLapsed, StockRanLow, StockReceived, StockReserved
from workflows.lease import Lease, ReservationLease
from workflows.reactions import leasing, replenishing, workflow_of
from workflows.replenish import Replenish, ReplenishRequest

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
EVENT = UUID("01234567-89ab-cdef-0123-456789abcdef")


def test_goods_held_for_a_time_have_a_lease_from_the_moment_of_their_reservation() -> None:
    held = StockReserved(sku="tea", reservation_id="o1", quantity=4, hold=3600)
    given(leasing).when(held, recorded_at=NOON).then_starts(
        ReservationLease,
        Lease(sku="tea", reservation_id="o1", until=NOON + timedelta(hours=1)),
        labels={"sku": "tea", "reservation_id": "o1"},
        attributes={"OrderId": "o1"},
        summary="4 × tea for o1",
    )


@pytest.mark.parametrize(
    "event",
    [
        StockReserved(sku="tea", reservation_id="o1", quantity=4),
        StockLapsed(sku="tea", reservation_id="o1", quantity=4),
        StockRanLow(sku="tea", available=4, quantity=50),
    ],
)
def test_nothing_else_has_a_lease(event: Event) -> None:
    given(leasing).when(event).then_nothing()


def test_what_has_run_low_is_replenished_under_the_events_id() -> None:
    low = StockRanLow(sku="tea", available=4, quantity=50)
    given(replenishing).when(low, event_id=EVENT).then_starts(
        Replenish,
        ReplenishRequest(replenishment_id=str(EVENT), sku="tea", quantity=50),
        labels={"sku": "tea", "replenishment_id": str(EVENT)},
        summary="50 × tea, 4 left",
    )
    assert workflow_of(str(EVENT)) == f"replenishing-{EVENT}"


@pytest.mark.parametrize(
    "event", [ReorderPointSet(sku="tea", at=5, quantity=50), StockReceived(sku="tea", quantity=50)]
)
def test_nothing_else_is_replenished(event: Event) -> None:
    given(replenishing).when(event).then_nothing()
