"""What goes wrong on the way of a return: the provider knows better, is away, is slow; somebody cancels or resets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from activities.gateway import GatewayUnavailable, Refund, RefundResult
from activities.provider_payments import ProviderPayments
from activities.returns import NothingPaid
from activities.sandbox_gateway import SandboxGateway
from amends import Money
from amends.app import App, Resources
from amends.embedded import EmbeddedTemporal
from amends.policies import CALL
from app import app
from domain.order import Complete, Place
from domain.values import Line, PricedLine
from read_models import order_history
from tests.sagas.given import reset
from tests.sagas.shopping import ON_THE_SHELF, name
from tests.sagas.till import Till, open_till, refund_ended


def eur(amount: int) -> Money:
    return Money(amount=amount, currency="EUR")


@pytest.fixture(scope="module")
async def till(
    postgres_url: str, template: str, temporal: EmbeddedTemporal, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Till]:
    """A shop of this module."""
    async with open_till(app, postgres_url, template, temporal, tmp_path_factory.mktemp("amends")) as till:
        yield till


@pytest.fixture(scope="module")
async def unbalanced(
    postgres_url: str, template: str, temporal: EmbeddedTemporal, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Till]:
    """Another shop, with gifts, and money given back by hand: its books do not balance."""
    async with open_till(app, postgres_url, template, temporal, tmp_path_factory.mktemp("unbalanced")) as till:
        yield till


async def test_given_an_order_that_nobody_paid_when_it_comes_back_then_there_is_nothing_to_refund(
    unbalanced: Till,
) -> None:
    order_id, sku = name("order"), await unbalanced.product()
    gift = PricedLine(sku=sku, quantity=1, unit_price=eur(250))
    await unbalanced.shop.execute(Place(order_id=order_id, customer_id="ada", lines=(gift,)))
    await unbalanced.shop.execute(Complete(order_id=order_id))
    before = await unbalanced.facts()
    with pytest.raises(NothingPaid) as refusal:
        await unbalanced.shop.refund_order(order_id)
    assert refusal.value.facts == {"order_id": order_id}
    assert await unbalanced.facts() == before


async def test_given_money_that_the_provider_gave_back_by_hand_when_goods_come_back_then_no_more_goes_than_was_paid(
    unbalanced: Till,
) -> None:
    till = unbalanced
    placed, [tea] = await till.completed(2)
    await till.gateway.refund(name("by-hand"), Refund(payment_id=placed.order_id, currency="EUR", amount=eur(250)))
    # more than is left can't be given back, so the goods are not taken
    everything = await (await till.shop.refund_order(placed.order_id)).result()
    assert (everything.status, everything.reason, everything.amount) == ("withdrawn", "RefundExceedsCharge", None)
    withdrawn = ["order.goods_returned", "order.return_withdrawn"]
    assert await till.afterwards(placed.order_id) == ["stock.committed", *withdrawn]
    assert await till.shelf(tea) == [8]
    # what can be given back, is, and our books learn of the rest
    piece = await (await till.shop.refund_order(placed.order_id, [Line(sku=tea.sku, quantity=1)])).result()
    assert (piece.status, piece.amount) == ("refunded", eur(250))
    row = await till.row(placed.order_id)
    assert (row.status, row.paid, row.refunded, row.returned) == ("completed", 500, 500, 250)
    assert await till.shelf(tea) == [9]


async def test_given_a_return_that_is_over_when_its_workflow_is_reset_then_nothing_happens_twice(till: Till) -> None:
    placed, lines = await till.completed(2, 3)
    some = await till.shop.refund_order(placed.order_id, [Line(sku=lines[0].sku, quantity=1)])
    await some.result()
    refund = await till.shop.refund_order(placed.order_id)
    first = await refund_ended(till, refund, "refunded", None, 1000)
    before = await till.facts()
    await reset(till.shop.client.temporal, till.handle(f"refund-{refund.refund_id}"))
    again = await till.shop.refund_result(refund.refund_id)
    assert (again.status, again.amount) == (first.status, first.amount)
    after = await till.facts()
    assert after[1] == before[1], "no key that the provider has not seen"
    assert after[3] == before[3]
    assert await till.shelf(*lines) == [ON_THE_SHELF, ON_THE_SHELF]
    await till.balances()


class Away(SandboxGateway):
    """A provider that can't be reached for a while, having acted or not."""

    seen = 0

    async def refund(self, key: str, request: Refund) -> RefundResult:
        Away.seen += 1
        if Away.seen % 4 == 1:
            raise GatewayUnavailable("It is not there")
        given = await super().refund(key, request)
        if Away.seen % 4:
            raise GatewayUnavailable("It has done it, and says nothing")
        return given


def away(resources: Resources) -> list[object]:
    others = [each for each in app.activities(resources) if not isinstance(each, ProviderPayments)]
    return [ProviderPayments(Away(resources.pool), resources.handler), *others]


async def test_given_a_provider_that_is_away_longer_than_a_call_may_take_when_goods_come_back_then_they_are_refunded(
    postgres_url: str,
    template: str,
    temporal: EmbeddedTemporal,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hasty: Any = replace(CALL, first_pause=timedelta(seconds=0.2), deadline=timedelta(seconds=0.3))
    distant: App = replace(app, activities=away)
    async with open_till(distant, postgres_url, template, temporal, tmp_path_factory.mktemp("away")) as till:
        placed, _ = await till.completed(2)
        monkeypatch.setattr("amends.conduct.CALL", hasty)
        refund = await till.shop.refund_order(placed.order_id)
        await refund_ended(till, refund, "refunded", None, 500)
        assert Away.seen == 4
        assert (await till.gateway.totals("EUR")).refunded == eur(500)


class Slow(SandboxGateway):
    """A provider that takes its time with refunds: until a test says so."""

    asked = asyncio.Event()
    ready = asyncio.Event()

    async def refund(self, key: str, request: Refund) -> RefundResult:
        Slow.asked.set()
        await Slow.ready.wait()
        return await super().refund(key, request)


def slow(resources: Resources) -> list[object]:
    others = [each for each in app.activities(resources) if not isinstance(each, ProviderPayments)]
    return [ProviderPayments(Slow(resources.pool), resources.handler), *others]


@pytest.fixture
async def slow_till(
    postgres_url: str, template: str, temporal: EmbeddedTemporal, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Till]:
    """A shop with that provider."""
    Slow.asked.clear()
    Slow.ready.clear()
    app_: App = replace(app, activities=slow)
    async with open_till(app_, postgres_url, template, temporal, tmp_path_factory.mktemp("slow")) as till:
        yield till


async def test_given_a_return_under_way_when_the_books_are_read_then_it_is_left_out_until_it_is_over(
    slow_till: Till,
) -> None:
    placed, _ = await slow_till.completed(2)
    refund = await slow_till.shop.refund_order(placed.order_id)
    await Slow.asked.wait()
    assert await slow_till.shop.query(order_history.money(ended=True)) == []
    [row] = await slow_till.shop.query(order_history.money())
    assert (row.taken, row.refunded, row.completed, row.returned) == (500, 0, 500, 0)
    Slow.ready.set()
    await refund_ended(slow_till, refund, "refunded", None, 500)
    [row] = await slow_till.shop.query(order_history.money(ended=True))
    assert (row.taken, row.refunded, row.completed, row.returned) == (500, 500, 500, 500)


async def test_given_a_refund_under_way_when_the_return_is_cancelled_then_it_goes_on(slow_till: Till) -> None:
    placed, [tea] = await slow_till.completed(2)
    refund = await slow_till.shop.refund_order(placed.order_id)
    await Slow.asked.wait()
    await slow_till.handle(f"refund-{refund.refund_id}").cancel()
    Slow.ready.set()
    await refund_ended(slow_till, refund, "refunded", None, 500)
    assert await slow_till.shelf(tea) == [ON_THE_SHELF]
