"""Watching an order: all that happens to it, as it happens, until it is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from activities import sandbox_gateway
from amends import Money, Position
from amends.records import START
from amends.settings import Settings
from client import Shop
from domain.order import Complete, Place, UnknownOrder
from domain.values import PricedLine
from read_models import order_history
from read_models.order_changes import OrderChange
from tests.conftest import RunWorker
from tests.engine.readside_shop import fetch, until
from tests.sagas.shopping import Market, card, name, transfer
from workflows import payment

KILL_READERS = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and application_name = 'amends-reader'
"""


@pytest.fixture
async def market(settings: Settings, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Market]:
    """A shop whose transfers are confirmed soon."""
    monkeypatch.setattr(sandbox_gateway, "SETTLING_SECONDS", 0.2)
    monkeypatch.setattr(payment, "FIRST_LOOK", timedelta(seconds=0.3))
    assert settings.database_url is not None
    async with run_worker(), await Shop.connect(settings, actor="Ada's browser") as shop:
        yield Market(shop, settings.database_url.get_secret_value())


async def watched(market: Market, order_id: str, after: Position | str = START) -> list[OrderChange]:
    async with asyncio.timeout(60):
        return [change async for change in market.shop.watch(order_id, after)]


async def happened(market: Market, order_id: str) -> list[tuple[str, str | None]]:
    """By the timeline, in the order of the feed."""
    rows = await fetch(
        market.url,
        "select event, detail from views.order_timeline where order_id = %s order by xid, position",
        order_id,
    )
    return [(event, detail) for event, detail in rows]


async def test_given_an_order_when_watched_from_the_start_then_all_of_it_is_told_and_the_watch_ends_with_it(
    market: Market,
) -> None:
    order = await market.place(card())
    changes = await watched(market, order.order_id)
    assert (await market.shop.result(order.order_id)).status == "completed"
    told = [change.event for change in changes]
    assert (told[0], told[-1], told.count("stock.committed")) == ("order.placed", "stock.committed", 2)
    assert [(change.event, change.detail) for change in changes] == await happened(market, order.order_id)
    positions = [change.position for change in changes]
    assert positions == sorted(positions)
    # and: one who comes later gets the same; one who has seen some of it, the rest; one who has seen all, nothing
    assert await watched(market, order.order_id) == changes
    for seen in (0, 3, len(changes) - 1):
        for after in (changes[seen].position, changes[seen].cursor):
            assert await watched(market, order.order_id, after) == changes[seen + 1 :]


async def test_given_an_order_that_is_undone_when_watched_then_the_watch_ends_with_its_cancellation(
    market: Market,
) -> None:
    order = await market.place(card("tok_declined"))
    changes = await watched(market, order.order_id)
    assert changes[-1].event == "order.cancelled"
    assert (await market.shop.result(order.order_id)).status == "cancelled"
    assert [(change.event, change.detail) for change in changes] == await happened(market, order.order_id)


async def test_given_connections_killed_while_an_order_is_watched_then_nothing_is_left_out_or_told_twice(
    market: Market,
) -> None:
    order = await market.place(transfer())
    changes: list[OrderChange] = []
    async with asyncio.timeout(60):
        async for change in market.shop.watch(order.order_id):
            changes.append(change)
            await fetch(market.url, KILL_READERS)
    assert [(change.event, change.detail) for change in changes] == await happened(market, order.order_id)
    assert (await market.shop.result(order.order_id)).status == "completed"


async def test_given_a_completed_order_when_watched_for_ever_then_what_comes_back_is_told_too(market: Market) -> None:
    order = await market.place(card())
    outcome = await market.shop.result(order.order_id)
    told: list[str] = []

    async def watch() -> None:
        async for change in market.shop.watch(order.order_id, outcome.position, forever=True):
            told.append(change.event)

    watching = asyncio.create_task(watch())
    refund = await market.shop.refund_order(order.order_id)
    assert (await refund.result()).status == "refunded"

    async def returned() -> bool:
        return "order.return_completed" in told

    try:
        await until(returned)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert "payment.refunded" in told
    assert "order.placed" not in told


async def test_given_an_order_whose_goods_are_never_sent_when_watched_then_the_watch_ends_all_the_same(
    market: Market,
) -> None:
    """An order that was taken over from elsewhere is complete without a saga that sends anything."""
    order_id, customer_id = name("order"), await market.customer()
    line = PricedLine(sku=await market.product(), quantity=1, unit_price=Money(amount=250, currency="EUR"))
    await market.shop.execute(Place(order_id=order_id, customer_id=customer_id, lines=(line,)))
    await market.shop.execute(Complete(order_id=order_id))
    assert [change.event for change in await watched(market, order_id)] == ["order.placed", "order.completed"]


async def test_given_no_such_order_when_watched_then_unknown_order(market: Market) -> None:
    with pytest.raises(UnknownOrder):
        await watched(market, name("order"))


async def test_given_what_a_client_did_itself_when_it_asks_then_only_the_projections_asked_are_waited_for(
    market: Market,
) -> None:
    """Every answer carries a position; a query waits for those who keep its views, not for everybody."""
    order = await market.place(transfer())
    cancelled_at = await market.shop.cancel(order.order_id)
    assert cancelled_at >= order.position > START
    outcome = await market.shop.result(order.order_id)
    assert outcome.position > cancelled_at
    row = await market.shop.query(order_history.order(order.order_id))
    assert row is not None
    assert row.status == "cancelled"
    fresh = await market.shop.at_least(outcome.position, 15, "order_timeline", key=order.order_id)
    assert (fresh.fresh, fresh.projection) == (True, "order_history")
    assert (await market.shop.at_least(outcome.position, 15)).fresh
