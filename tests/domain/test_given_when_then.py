"""The helper itself: it fails when it should, and says why in words."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import Field, field_serializer

from amends import Claim, Event, ProcessManager, Recorded, Start
from amends.errors import InvalidInput
from amends.testing import given
from domain.order import Cancel, Complete, Order, OrderCompleted, OrderEnded, OrderExists, UnknownOrder
from domain.product import ProductDiscontinued
from tests.engine.bells import Knocked, Left, Noise, OpenDoor, Opened, Rang, Visit, WaitBehindDoor, doorman
from tests.engine.readside_shop import Dropped, Placed, order_list

complete, completed = Complete(order_id="o1"), OrderCompleted(order_id="o1")


def test_it_tells_what_was_expected_and_what_came_instead() -> None:
    with pytest.raises(AssertionError, match=r"(?s)expected:\s+OrderCompleted.*but it was refused:\s+UnknownOrder"):
        given(Order).when(complete).then(completed)
    with pytest.raises(AssertionError, match=r"(?s)expected:\s+OrderCompleted.*but got:\s+nothing"):
        given(Order, completed).when(complete).then(completed)


def test_it_tells_another_refusal_or_other_facts() -> None:
    case = given(Order).when(complete)
    with pytest.raises(AssertionError, match=r"(?s)expected OrderExists.*but got  UnknownOrder"):
        case.then_refused(OrderExists, order_id="o1")
    with pytest.raises(AssertionError, match=r"(?s)'o2'.*but got .*'o1'"):
        case.then_refused(UnknownOrder, order_id="o2")
    with pytest.raises(AssertionError, match="but it was done"):
        given(Order, completed).when(complete).then_refused(UnknownOrder, order_id="o1")


def test_it_tells_other_claims_and_compares_their_refusals_too() -> None:
    case = given(Order).when(Cancel(order_id="o1", reason="no"))
    with pytest.raises(AssertionError, match="claims order o1, otherwise no complaint"):
        case.then_nothing()
    with pytest.raises(AssertionError, match="otherwise OrderEnded with"):
        case.then_claims(Claim("order", "o1", OrderEnded(order_id="o1")))


def test_it_takes_only_events_of_the_aggregate() -> None:
    with pytest.raises(AssertionError, match="Order has no event ProductDiscontinued"):
        given(Order, ProductDiscontinued(sku="tea"))


rang = Rang(bell="front", order_id="o1")
greeting = doorman("greeting")


def test_it_tells_what_a_process_manager_was_to_do_and_what_it_did_instead() -> None:
    case = given(greeting).when(rang)
    case.then_starts(OpenDoor, Visit(bell="front"))
    case.then_starts(
        OpenDoor, Visit(bell="front"), labels={"bell": "front"}, attributes={"OrderId": "o1"}, summary="Open front"
    )
    with pytest.raises(AssertionError, match=r"(?s)expected:.*bell='back'.*but got:.*bell='front'"):
        case.then_starts(OpenDoor, Visit(bell="back"))
    others: list[dict[str, Any]] = [{"labels": {}}, {"attributes": {"OrderId": "o2"}}, {"summary": "Open"}]
    for other in others:
        with pytest.raises(AssertionError, match="but got"):
            case.then_starts(OpenDoor, Visit(bell="front"), **other)
    with pytest.raises(AssertionError, match=r"(?s)expected:.*Signal.*but got:.*Start"):
        case.then_signals("w1", WaitBehindDoor.left)
    with pytest.raises(AssertionError, match=r"(?s)expected:\s+nothing\s+but got:.*Start"):
        case.then_nothing()


def test_it_tells_signals_apart_by_whom_they_are_for_and_what_they_say() -> None:
    case = given(greeting).when(Knocked(bell="front", waiting="w1", times=2))
    case.then_signals("w1", WaitBehindDoor.knocked, Noise(times=2))
    for workflow_id, times in (("w2", 2), ("w1", 3)):
        with pytest.raises(AssertionError, match="but got"):
            case.then_signals(workflow_id, WaitBehindDoor.knocked, Noise(times=times))
    given(greeting).when(Left(bell="front", waiting="w1")).then_signals("w1", WaitBehindDoor.left)


def test_it_asks_for_all_that_several_events_lead_to_in_order_and_for_nothing_where_nobody_cares() -> None:
    given(greeting).when(Opened(bell="front")).then_nothing()
    given(greeting).when(rang).when(Opened(bell="front")).then_nothing()
    case = given(doorman("greeting", doors=2)).when(rang)
    opening = case.reactions[0]
    case.then(opening, opening)
    with pytest.raises(AssertionError, match="but got"):
        case.then_starts(OpenDoor, Visit(bell="front"))


def test_it_gives_a_process_manager_the_facts_that_are_told() -> None:
    heard: list[tuple[Any, ...]] = []
    manager = ProcessManager("listening")

    @manager.on(Rang)
    def rung(event: Rang, fact: Recorded) -> None:
        heard.append((event, fact.actor, fact.correlation_id, fact.recorded_at))

    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    given(manager).when(rang, actor="ann", correlation_id="order-o1", recorded_at=noon).then_nothing()
    assert heard == [(rang, "ann", "order-o1", noon)]


def test_it_notices_what_does_not_survive_its_way_as_json() -> None:
    manager = ProcessManager("forgetting")
    manager.on(Rang)(lambda event, fact: Start(OpenDoor, Forgetful(bell=event.bell)))
    with pytest.raises(AssertionError, match=r"(?s)sent:.*bell='front'.*but arrived:.*bell='gone'"):
        given(manager).when(rang)
    with pytest.raises(AssertionError, match=r"(?s)written:.*times=1.*but read back:.*times=0"):
        given(greeting).when(ForgetfulEvent(times=1))


class Forgetful(Visit):
    @field_serializer("bell")
    def _gone(self, bell: str) -> str:
        return "gone"


class ForgetfulEvent(Event, name="given_when_then.forgetful"):
    times: int = Field(0, exclude=True)


listing = order_list()
(orders,) = listing.tables
first, second = Placed(order_id="o1", total=12), Placed(order_id="o1", total=7)


def test_it_knows_the_rows_of_a_projection_after_all_that_has_happened() -> None:
    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    case = given(listing, first).when(second, recorded_at=noon)
    case.then_row(orders, "o1", status="placed", total=19, placed=2, totals=[12, 7], at=noon)
    case.then_no_row(orders, "o2")
    case.when(Dropped(order_id="o1")).then_no_row(orders, "o1")
    case.when(Dropped(order_id="o1"), second).then_row(orders, "o1", total=7)
    given(listing).then_no_row(orders, "o1")


def test_it_tells_which_column_of_which_row_is_another() -> None:
    case = given(listing, first)
    with pytest.raises(AssertionError, match=r"(?s)expected \{'total': 13\}.*got  \{'total': 12\}.*readside_order"):
        case.then_row(orders, "o1", total=13)
    with pytest.raises(AssertionError, match=r"expected a row \('o2',\) in readside_order_v1, but there are .*'o1'"):
        case.then_row(orders, "o2", total=12)
    with pytest.raises(AssertionError, match=r"expected no row \('o1',\) in readside_order_v1, but got .*'total': 12"):
        case.then_no_row(orders, "o1")
    with pytest.raises(InvalidInput, match=r"readside_order\.colour: no such column"):
        case.then_row(orders, "o1", colour="red")
    with pytest.raises(InvalidInput, match=r"its key is \(order_id\), not 2 values"):
        case.then_row(orders, ("o1", 1), total=12)
    with pytest.raises(AssertionError, match="is no table of projection 'readside_orders'"):
        case.then_row(next(iter(order_list().tables)), "o1")
