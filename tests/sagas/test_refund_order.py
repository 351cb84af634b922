"""Returns: goods come back, some or all, the money for them goes back once, and the books agree after each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from temporalio.client import RPCError
from temporalio.service import RPCStatusCode

from amends import InvalidInput, Money
from amends.embedded import EmbeddedTemporal
from amends.errors import CommandIdReused, Refused
from app import app
from client import OrderRefund, UnknownRefund
from domain.order import OrderNotCompleted, TooManyReturned, UnknownOrder
from domain.product import ChangePrice, DiscontinueProduct
from domain.values import Line
from read_models import order_history
from tests.sagas.shopping import ON_THE_SHELF, card, name, transfer
from tests.sagas.till import Till, open_till, refund_ended

BACK = ["order.goods_returned", "payment.refunded", "order.return_completed"]


def eur(amount: int) -> Money:
    return Money(amount=amount, currency="EUR")


@pytest.fixture(scope="module")
async def till(
    postgres_url: str, template: str, temporal: EmbeddedTemporal, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Till]:
    """A shop of this module."""
    async with open_till(app, postgres_url, template, temporal, tmp_path_factory.mktemp("amends")) as till:
        yield till


# In full, in part


async def test_given_a_completed_order_when_all_of_it_comes_back_then_it_is_refunded_and_on_the_shelf_again(
    till: Till,
) -> None:
    placed, lines = await till.completed(2, 3)
    assert await till.shelf(*lines) == [8, 7]
    refund = await till.shop.refund_order(placed.order_id)
    assert refund.amount == eur(1250)
    await refund_ended(till, refund, "refunded", None, 1250)
    row = await till.row(placed.order_id)
    assert (row.status, row.total, row.paid, row.refunded, row.returned) == ("refunded", 1250, 1250, 1250, 1250)
    assert await till.afterwards(placed.order_id) == ["stock.committed", "stock.committed", *BACK]
    assert await till.shelf(*lines) == [ON_THE_SHELF, ON_THE_SHELF]
    totals = await till.gateway.totals("EUR", [placed.order_id])
    assert (totals.taken, totals.refunded) == (eur(1250), eur(1250))


async def test_given_a_completed_order_when_it_comes_back_bit_by_bit_then_each_bit_is_refunded(till: Till) -> None:
    placed, [tea, cup] = await till.completed(2, 3)
    first = await till.shop.refund_order(placed.order_id, [Line(sku=tea.sku, quantity=1)])
    await refund_ended(till, first, "refunded", None, 250)
    row = await till.row(placed.order_id)
    assert (row.status, row.refunded, row.returned) == ("completed", 250, 250)
    second = await till.shop.refund_order(
        placed.order_id, [Line(sku=cup.sku, quantity=2), Line(sku=tea.sku, quantity=1)]
    )
    await refund_ended(till, second, "refunded", None, 750)
    assert await till.shelf(tea, cup) == [ON_THE_SHELF, 9]
    rest = await till.shop.refund_order(placed.order_id)
    await refund_ended(till, rest, "refunded", None, 250)
    row = await till.row(placed.order_id)
    assert (row.status, row.refunded, row.returned) == ("refunded", 1250, 1250)
    assert await till.afterwards(placed.order_id) == ["stock.committed", "stock.committed", *BACK * 3]


async def test_given_goods_that_can_not_be_sold_again_when_they_come_back_then_the_money_goes_and_the_shelf_stays(
    till: Till,
) -> None:
    placed, [tea] = await till.completed(4)
    refund = await till.shop.refund_order(placed.order_id, [Line(sku=tea.sku, quantity=3)], restock=False)
    await refund_ended(till, refund, "refunded", None, 750)
    assert await till.shelf(tea) == [6]


@pytest.mark.parametrize("paid_by", [transfer("tok_transfer"), card(mode="authorise")])
async def test_given_an_order_paid_otherwise_when_it_comes_back_then_it_is_refunded_too(
    till: Till, paid_by: Any
) -> None:
    placed = await till.place(paid_by)
    assert (await placed.result()).status == "completed"
    await refund_ended(till, await till.shop.refund_order(placed.order_id), "refunded", None, 1250)


async def test_given_another_price_and_no_product_any_more_when_goods_come_back_then_the_price_of_the_order_counts(
    till: Till,
) -> None:
    placed, [tea] = await till.completed(2)
    await till.shop.execute(ChangePrice(sku=tea.sku, price=eur(9999)))
    await till.shop.execute(DiscontinueProduct(sku=tea.sku))
    await refund_ended(till, await till.shop.refund_order(placed.order_id, [tea]), "refunded", None, 500)


async def test_given_a_return_when_its_events_are_read_then_each_bears_the_actor_of_who_asked(till: Till) -> None:
    placed, [tea] = await till.completed(1)
    refund = await till.shop.refund_order(placed.order_id, [tea], actor="Grace at the counter")
    await refund.result()
    happened = await till.shop.query(order_history.timeline_of(placed.order_id))
    assert {row.actor for row in happened if row.event in BACK} == {"Grace at the counter"}


# Refused


async def refused(till: Till, error: type[Refused], order_id: str, lines: Sequence[Line] | None = None) -> Refused:
    """Assert that a return is refused, that nothing has changed, and that the same request is refused again."""
    before, id = await till.facts(), name("refund")
    for _ in range(2):
        with pytest.raises(error) as refusal:
            await till.shop.refund_order(order_id, lines, request_id=id)
    outcome = await till.shop.refund_result(id)
    assert (outcome.status, outcome.reason, outcome.amount) == ("refused", error.__name__, None)
    assert await till.facts() == before
    return refusal.value


async def test_given_no_such_order_when_something_of_it_comes_back_then_unknown(till: Till) -> None:
    unknown = name("nobody")
    refusal = await refused(till, UnknownOrder, unknown)
    assert refusal.facts == {"order_id": unknown}


async def test_given_an_order_under_way_or_cancelled_when_something_of_it_comes_back_then_refused(till: Till) -> None:
    placed = await till.place(transfer("tok_transfer_never"))
    await till.waiting(await till.taker(placed.order_id))
    refusal = await refused(till, OrderNotCompleted, placed.order_id)
    assert refusal.facts == {"order_id": placed.order_id, "status": "placed"}
    await till.shop.cancel(placed.order_id)
    await placed.result()
    refusal = await refused(till, OrderNotCompleted, placed.order_id)
    assert refusal.facts == {"order_id": placed.order_id, "status": "cancelled"}
    await till.balances()


@pytest.mark.parametrize("before", [0, 1, 2])
async def test_given_what_came_back_before_when_more_comes_than_is_left_then_refused(till: Till, before: int) -> None:
    placed, [tea] = await till.completed(2)
    if before:
        first = await till.shop.refund_order(placed.order_id, [Line(sku=tea.sku, quantity=before)])
        await first.result()
    refusal = await refused(till, TooManyReturned, placed.order_id, [Line(sku=tea.sku, quantity=3 - before)])
    assert refusal.facts == {"order_id": placed.order_id, "sku": tea.sku, "wanted": 3 - before, "left": 2 - before}
    await till.balances()


async def test_given_all_has_come_back_when_the_rest_comes_back_then_nothing_is_left(till: Till) -> None:
    placed, _ = await till.completed(1)
    await (await till.shop.refund_order(placed.order_id)).result()
    await refused(till, TooManyReturned, placed.order_id)
    await till.balances()


async def test_given_a_product_that_was_not_ordered_when_it_comes_back_then_refused(till: Till) -> None:
    placed, _ = await till.completed(1)
    [other] = await till.lines(1)
    refusal = await refused(till, TooManyReturned, placed.order_id, [other])
    assert refusal.facts == {"order_id": placed.order_id, "sku": other.sku, "wanted": 1, "left": 0}


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ("no lines", "lines"),
        ("one product twice", "lines"),
        ("quantity 0", "quantity"),
        ("bad order id", "order_id"),
        ("bad request id", "request_id"),
    ],
)
async def test_given_bad_input_when_something_comes_back_then_told_which_field_and_nothing_is_started(
    till: Till, bad: str, field: str
) -> None:
    before, id = (await till.facts(), await till.commands()), "no good" if bad == "bad request id" else name("refund")

    async def give_back() -> None:
        order_id = "no good" if bad == "bad order id" else "o1"
        lines = [] if bad == "no lines" else [Line(sku="tea", quantity=0 if bad == "quantity 0" else 1)]
        await till.shop.refund_order(order_id, lines * (2 if bad == "one product twice" else 1), request_id=id)

    with pytest.raises(InvalidInput) as problem:
        await give_back()
    assert set(problem.value.problems) == {field}
    with pytest.raises(RPCError) as missing:
        await till.handle(f"refund-{id}").describe()
    assert missing.value.status == RPCStatusCode.NOT_FOUND
    assert (await till.facts(), await till.commands()) == before


async def test_given_no_such_return_when_asked_about_then_unknown(till: Till) -> None:
    with pytest.raises(UnknownRefund):
        await till.shop.refund_result(name("nothing"))


# Again, at once


@pytest.mark.parametrize("when", ["one after the other", "side by side", "after the end"])
async def test_given_a_request_id_when_returned_again_with_it_then_it_is_one_return_refunded_once(
    till: Till, when: str
) -> None:
    placed, [tea] = await till.completed(3)
    id, some = name("refund"), [Line(sku=tea.sku, quantity=1)]

    async def give_back() -> tuple[Any, ...]:
        refund = await till.shop.refund_order(placed.order_id, some, request_id=id)
        return refund.refund_id, refund.amount, refund.position

    if when == "side by side":
        answers = await asyncio.gather(*(give_back() for _ in range(5)))
    else:
        answers = [await give_back()]
        if when == "after the end":
            await till.shop.refund_result(id)
        answers.append(await give_back())
    assert len(set(map(str, answers))) == 1
    outcome = await till.shop.refund_result(id)
    assert (outcome.status, outcome.amount) == ("refunded", eur(250))
    assert (await till.row(placed.order_id)).refunded == 250
    await till.balances()


@pytest.mark.parametrize("other", ["lines", "order", "restock"])
async def test_given_a_request_id_of_a_return_when_reused_for_another_one_then_told(till: Till, other: str) -> None:
    placed, [tea] = await till.completed(3)
    id, some = name("refund"), [Line(sku=tea.sku, quantity=1)]
    first = await till.shop.refund_order(placed.order_id, some, request_id=id)
    order_id = name("order") if other == "order" else placed.order_id
    lines = [Line(sku=tea.sku, quantity=2)] if other == "lines" else some
    with pytest.raises(CommandIdReused):
        await till.shop.refund_order(order_id, lines, request_id=id, restock=other != "restock")
    await refund_ended(till, first, "refunded", None, 250)


async def test_given_several_returns_of_the_whole_order_when_made_at_once_then_one_of_them_gets_the_money(
    till: Till,
) -> None:
    placed, lines = await till.completed(2, 3)
    returning = [till.shop.refund_order(placed.order_id, lines) for _ in range(5)]
    answers = await asyncio.gather(*returning, return_exceptions=True)
    accepted = [answer for answer in answers if isinstance(answer, OrderRefund)]
    assert len(accepted) == 1
    assert all(isinstance(answer, OrderRefund | TooManyReturned) for answer in answers), answers
    await refund_ended(till, accepted[0], "refunded", None, 1250)
    assert (await till.row(placed.order_id)).status == "refunded"


async def test_given_returns_of_a_piece_each_when_made_at_once_then_as_many_are_refunded_as_there_were_pieces(
    till: Till,
) -> None:
    placed, [tea] = await till.completed(4)
    piece = [Line(sku=tea.sku, quantity=1)]
    returning = [till.shop.refund_order(placed.order_id, piece) for _ in range(7)]
    answers = await asyncio.gather(*returning, return_exceptions=True)
    accepted = [answer for answer in answers if isinstance(answer, OrderRefund)]
    assert len(accepted) == 4
    outcomes = await asyncio.gather(*(refund.result() for refund in accepted))
    assert {outcome.status for outcome in outcomes} == {"refunded"}
    row = await till.row(placed.order_id)
    assert (row.status, row.paid, row.refunded, row.returned) == ("refunded", 1000, 1000, 1000)
    assert await till.shelf(tea) == [ON_THE_SHELF]
    await till.balances()
