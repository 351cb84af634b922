"""Replenishments: each ends once, delivered or cancelled, and an id works once."""

import pytest

from amends import Claim
from amends.testing import given
from domain.replenishment import (
    CancelReplenishment,
    DeliveryDiffers,
    OpenReplenishment,
    RecordDelivery,
    Replenishment,
    ReplenishmentCancelled,
    ReplenishmentDelivered,
    ReplenishmentEnded,
    ReplenishmentExists,
    ReplenishmentOpened,
    UnknownReplenishment,
)

open_it = OpenReplenishment(replenishment_id="p1", sku="tea", quantity=50)
opened = ReplenishmentOpened(replenishment_id="p1", sku="tea", quantity=50)
deliver = RecordDelivery(replenishment_id="p1", quantity=48)
delivered = ReplenishmentDelivered(replenishment_id="p1", sku="tea", quantity=48, ordered=50)
cancel = CancelReplenishment(replenishment_id="p1", reason="DeliveryOverdue")
cancelled = ReplenishmentCancelled(replenishment_id="p1", sku="tea", ordered=50, reason="DeliveryOverdue")

ended = ReplenishmentEnded(replenishment_id="p1")
claimed = Claim("replenishment", "p1", ended)
tombstone = Claim("replenishment", "p1", None)


def test_pieces_are_put_on_order() -> None:
    given(Replenishment).when(open_it).then(opened).then_claims(claimed)


def test_the_same_again_while_it_is_open_is_no_second_one() -> None:
    given(Replenishment, opened).when(open_it).then_nothing()


@pytest.mark.parametrize("change", [{"sku": "salt"}, {"quantity": 51}])
def test_another_one_under_the_same_id_is_refused(change: dict[str, object]) -> None:
    other = open_it.model_copy(update=change)
    given(Replenishment, opened).when(other).then_refused(ReplenishmentExists, replenishment_id="p1", status="open")


@pytest.mark.parametrize(("end", "status"), [(delivered, "delivered"), (cancelled, "cancelled")])
def test_an_ended_one_does_not_come_back(end: ReplenishmentDelivered | ReplenishmentCancelled, status: str) -> None:
    case = given(Replenishment, opened, end).when(open_it)
    case.then_refused(ReplenishmentExists, replenishment_id="p1", status=status)


def test_what_came_is_recorded_beside_what_was_ordered() -> None:
    given(Replenishment, opened).when(deliver).then(delivered).then_claims()


def test_a_delivery_counts_once() -> None:
    case = given(Replenishment, opened).when_each(deliver, deliver).then_nothing()
    other = RecordDelivery(replenishment_id="p1", quantity=2)
    case.when(other).then_refused(DeliveryDiffers, replenishment_id="p1", told=2, recorded=48)


def test_what_was_never_opened_or_is_called_off_is_not_delivered() -> None:
    given(Replenishment).when(deliver).then_refused(UnknownReplenishment, replenishment_id="p1")
    given(Replenishment, opened, cancelled).when(deliver).then_refused(ReplenishmentEnded, replenishment_id="p1")


def test_it_is_called_off_once() -> None:
    given(Replenishment, opened).when(cancel).then(cancelled).then_claims()
    given(Replenishment, opened).when_each(cancel, cancel).then_nothing()


def test_a_cancellation_that_comes_first_leaves_a_tombstone() -> None:
    case = given(Replenishment).when(cancel).then().then_claims(tombstone)
    case.when(open_it).then_refused(ReplenishmentEnded, replenishment_id="p1")


def test_what_was_delivered_is_not_called_off() -> None:
    given(Replenishment, opened, delivered).when(cancel).then_nothing()
