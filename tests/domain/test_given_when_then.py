"""The helper itself: it fails when it should, and says why in words."""

import pytest

from amends import Claim
from amends.testing import given
from domain.order import Cancel, Complete, Order, OrderCompleted, OrderEnded, OrderExists, UnknownOrder
from domain.product import ProductDiscontinued

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
