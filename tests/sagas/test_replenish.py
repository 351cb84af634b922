"""Replenishing: what runs low is ordered once, awaited for days, chased, and put on the shelf once, or called off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from datetime import timedelta

import pytest

from activities.sandbox_supplier import LEAD_DAYS, LEAD_DAYS_CHASED
from activities.suppliers import NotSupplied
from amends import InvalidInput
from amends.client import Client
from amends.embedded import EmbeddedTemporal
from amends.errors import NoAnswer
from amends.repair import Resolve
from app import app
from client import Shop
from domain.replenishment import CancelReplenishment, DeliveryDiffers, ReplenishmentEnded, UnknownReplenishment
from domain.stock import OutOfStock, ReceiveStock
from domain.values import Line
from tests.sagas.given import Handle, replays, reset, saga_status, until
from tests.sagas.shopping import card, name
from tests.sagas.stockroom import Stockroom, open_stockroom
from workflows import replenish
from workflows.reactions import replenishing, workflow_of
from workflows.replenish import CHASES, SUPPLIER, Replenish, ReplenishRequest

DAYS_UNTIL_GIVEN_UP = timedelta(days=LEAD_DAYS + CHASES * LEAD_DAYS_CHASED)


@pytest.fixture(scope="module")
async def room(
    postgres_url: str, template: str, temporal: EmbeddedTemporal, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stockroom]:
    """A shop of this module."""
    async with open_stockroom(app, postgres_url, template, temporal, tmp_path_factory.mktemp("amends")) as room:
        yield room


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supplier that can't be reached is asked again sooner."""
    monkeypatch.setattr(replenish, "SUPPLIER", replace(SUPPLIER, first_pause=timedelta(seconds=0.3)))


async def ended(room: Stockroom, id: str, status: str, delivered: int, reason: str | None) -> Handle:
    """Wait for a replenishment's end, and assert that everybody tells the same of it."""
    saga = room.replenishing(id)
    outcome = await saga.result()
    assert (outcome["status"], outcome["delivered"], outcome["reason"]) == (status, delivered, reason)
    assert await saga_status(saga) == ("Completed" if status == "delivered" else "Compensated")
    [row] = [row for row in await room.fresh_replenishments() if row.replenishment_id == id]
    assert (row.status, row.delivered, row.reason) == (status, delivered, reason)
    assert row.ended_at is not None
    await room.stock_balances(row.sku)
    await replays([saga], app.workflows)
    return saga


# What starts it


async def test_given_a_product_that_runs_low_when_many_orders_come_then_more_is_ordered_once(room: Stockroom) -> None:
    sku, customer = await room.product(), await room.customer()
    await room.reorder(sku, at=8)
    line = Line(sku=sku, quantity=1)
    placing = (room.shop.place_order(customer, [line], card(), request_id=name("order")) for _ in range(8))
    outcomes = await asyncio.gather(*[placed.result() for placed in await asyncio.gather(*placing)])
    assert {outcome.status for outcome in outcomes} == {"completed"}
    id = await room.on_order(sku)
    assert (await room.happened(sku)).count("stock.ran_low") == 1
    level = await room.level(sku)
    assert (level.available, level.on_order, level.low) == (2, 50, True)
    await room.shop.delivery_arrived(id, await room.supplier.deliver(id))
    await ended(room, id, "delivered", 50, None)
    await room.passed(replenishing.name, room.shop.client.seen)
    assert len(await room.supplier.orders_of([sku])) == len(await room.replenishments(sku)) == 1
    level = await room.level(sku)
    assert (level.available, level.on_order, level.low) == (52, 0, False)


async def test_given_no_reorder_point_when_everything_is_sold_then_nothing_is_ordered(room: Stockroom) -> None:
    sku = await room.product()
    await room.reserve(sku, 10)
    await room.passed(replenishing.name, room.shop.client.seen)
    assert await room.happened(sku) == ["stock.reserved"]
    assert await room.supplier.orders_of([sku]) == []


async def test_given_more_is_wanted_than_there_is_when_the_delivery_has_come_then_it_can_be_had(
    room: Stockroom,
) -> None:
    sku = await room.low()
    with pytest.raises(OutOfStock):
        await room.reserve(sku, 11)
    id = await room.on_order(sku)
    await room.shop.delivery_arrived(id, await room.supplier.deliver(id))
    await room.reserve(sku, 11)
    await ended(room, id, "delivered", 50, None)


# The delivery


async def test_given_a_delivery_on_time_then_it_is_on_the_shelf_as_soon_as_its_teller_is_answered(
    room: Stockroom,
) -> None:
    sku = await room.low()
    id = await room.on_order(sku)
    await room.skip(room.replenishing(id), timedelta(days=LEAD_DAYS - 1))
    [row] = await room.replenishments(sku)
    assert (row.replenishment_id, row.status, row.ordered, row.ended_at) == (id, "open", 50, None)
    assert (await room.level(sku)).on_order == 50
    position = await room.shop.delivery_arrived(id, await room.supplier.deliver(id))
    assert room.shop.client.seen == position
    level = await room.level(sku)
    assert (level.received, level.available, level.on_order) == (60, 60, 0)
    await ended(room, id, "delivered", 50, None)
    [order] = await room.supplier.orders_of([sku])
    assert order.chased == 0


async def test_given_a_late_delivery_then_the_supplier_is_chased_until_it_comes(room: Stockroom) -> None:
    sku = await room.low()
    id = await room.on_order(sku)
    saga = room.replenishing(id)
    await room.chased(sku, 0)
    await room.skip(saga, timedelta(days=LEAD_DAYS))
    await room.chased(sku, 1)
    await room.skip(saga, timedelta(days=LEAD_DAYS_CHASED))
    await room.chased(sku, 2)
    await room.shop.delivery_arrived(id, await room.supplier.deliver(id))
    await ended(room, id, "delivered", 50, None)
    await room.chased(sku, 2)


async def test_given_no_delivery_however_often_it_was_chased_then_the_order_is_cancelled_at_the_supplier(
    room: Stockroom,
) -> None:
    sku = await room.low()
    id = await room.on_order(sku)
    saga = room.replenishing(id)
    await room.skip(saga)
    await ended(room, id, "cancelled", 0, "DeliveryOverdue")
    waited = await room.clock(saga) - (await saga.describe()).start_time
    assert DAYS_UNTIL_GIVEN_UP <= waited < DAYS_UNTIL_GIVEN_UP + timedelta(days=1)
    [order] = await room.supplier.orders_of([sku])
    assert (order.status, order.chased, order.delivered) == ("cancelled", CHASES, 0)
    level = await room.level(sku)
    assert (level.received, level.on_order, level.low) == (10, 0, True)
    with pytest.raises(NotSupplied):
        await room.supplier.deliver(id)


@pytest.mark.parametrize("quantity", [3, 49, 51, 1_000])
async def test_given_another_quantity_than_ordered_then_what_came_is_on_the_shelf(
    room: Stockroom, quantity: int
) -> None:
    sku = await room.low()
    id = await room.on_order(sku)
    await room.shop.delivery_arrived(id, await room.supplier.deliver(id, quantity))
    await ended(room, id, "delivered", quantity, None)
    level = await room.level(sku)
    assert level.available == 10 + quantity
    if level.low:  # three are not enough, so more is on order
        assert await room.on_order(sku, 2) != id


async def test_given_a_delivery_that_is_told_before_anybody_waits_for_it_then_it_is_received(room: Stockroom) -> None:
    sku = await room.product()
    await room.supplier.lose_answers(sku, 3)
    await room.reorder(sku, at=14)
    id = await room.on_order(sku)
    await room.shop.delivery_arrived(id, await room.supplier.deliver(id))
    assert (await room.level(sku)).available == 60
    await ended(room, id, "delivered", 50, None)


@pytest.mark.parametrize("when", ["side by side", "one after the other", "after the end"])
async def test_given_a_delivery_that_is_told_twice_then_it_is_received_once(room: Stockroom, when: str) -> None:
    sku = await room.low()
    id = await room.on_order(sku)
    await room.supplier.deliver(id)
    if when == "side by side":
        positions = await asyncio.gather(*(room.shop.delivery_arrived(id, 50) for _ in range(4)))
    else:
        positions = [await room.shop.delivery_arrived(id, 50)]
        if when == "after the end":
            await ended(room, id, "delivered", 50, None)
        positions.append(await room.shop.delivery_arrived(id, 50))
    assert len(set(positions)) == 1
    await ended(room, id, "delivered", 50, None)
    assert (await room.level(sku)).received == 60


async def test_given_a_delivery_when_another_one_is_told_then_it_is_refused_and_can_be_received_by_itself(
    room: Stockroom,
) -> None:
    sku = await room.product()
    await room.supplier.lose_answers(sku, 3)
    await room.reorder(sku, at=14)
    id = await room.on_order(sku)
    first = asyncio.create_task(room.shop.delivery_arrived(id, await room.supplier.deliver(id, 30)))
    saga = room.replenishing(id)

    async def told() -> bool:
        events = (await saga.fetch_history()).events
        return any(event.HasField("workflow_execution_update_accepted_event_attributes") for event in events)

    await until("the first delivery", told)
    with pytest.raises(DeliveryDiffers) as differs:
        await room.shop.delivery_arrived(id, 20)
    assert differs.value.facts == {"replenishment_id": id, "told": 20}
    await first
    await ended(room, id, "delivered", 30, None)
    with pytest.raises(ReplenishmentEnded):
        await room.shop.delivery_arrived(id, 20)
    await room.shop.execute(ReceiveStock(sku=sku, quantity=20))
    assert (await room.level(sku)).received == 60


@pytest.mark.parametrize("when", ["while it waits", "after the end"])
async def test_given_a_replenishment_when_its_workflow_begins_again_then_it_orders_and_receives_once(
    room: Stockroom, when: str
) -> None:
    sku = await room.low()
    id = await room.on_order(sku)
    saga = room.replenishing(id)
    await room.waiting(saga)
    if when == "while it waits":
        await reset(room.shop.client.temporal, saga)
        await room.waiting(saga)
    await room.shop.delivery_arrived(id, await room.supplier.deliver(id))
    await ended(room, id, "delivered", 50, None)
    if when == "after the end":
        await reset(room.shop.client.temporal, saga)
        await ended(room, id, "delivered", 50, None)
    assert len(await room.supplier.orders_of([sku])) == 1
    assert (await room.level(sku)).received == 60


@pytest.mark.parametrize(
    ("id", "quantity", "field"),
    [("no good", 1, "replenishment_id"), ("", 1, "replenishment_id"), ("p1", 0, "quantity"), ("p1", 10**7, "quantity")],
)
async def test_given_bad_input_when_a_delivery_is_told_then_told_which_field(
    room: Stockroom, id: str, quantity: int, field: str
) -> None:
    with pytest.raises(InvalidInput) as problem:
        await room.shop.delivery_arrived(id, quantity)
    assert set(problem.value.problems) == {field}


async def test_given_no_such_replenishment_when_a_delivery_is_told_then_unknown(room: Stockroom) -> None:
    with pytest.raises(UnknownReplenishment) as refusal:
        await room.shop.delivery_arrived("nothing", 5)
    assert refusal.value.facts == {"replenishment_id": "nothing"}


async def test_given_no_worker_when_a_delivery_is_told_then_its_teller_knows_that_nobody_has_answered(
    room: Stockroom,
) -> None:
    id, client = name("replenishment"), room.shop.client
    request = ReplenishRequest(replenishment_id=id, sku=name("sku"), quantity=50)
    saga = await client.temporal.start_workflow(Replenish.run, request, id=workflow_of(id), task_queue=name("nobody"))
    settings = client.settings.model_copy(update={"answer_seconds": 0.3})
    impatient = Shop(Client(client.temporal, client.reader, settings, "warehouse", client.keys))
    with pytest.raises(NoAnswer):
        await impatient.delivery_arrived(id, 50)
    await saga.terminate()


async def test_given_a_replenishment_that_ends_while_its_delivery_is_told_then_that_is_said(room: Stockroom) -> None:
    id, temporal = name("replenishment"), room.shop.client.temporal
    request = ReplenishRequest(replenishment_id=id, sku=name("sku"), quantity=50)
    saga = await temporal.start_workflow(Replenish.run, request, id=workflow_of(id), task_queue=name("nobody"))
    telling = asyncio.create_task(room.shop.delivery_arrived(id, 50))
    for _ in range(20):  # the server takes a connection's requests in turn, so that it has been told by then
        await saga.describe()
    await saga.terminate()
    with pytest.raises(ReplenishmentEnded):
        await telling


# A difficult supplier


async def test_given_a_product_that_the_supplier_does_not_sell_then_nothing_is_on_order_until_it_is_asked_for_anew(
    room: Stockroom,
) -> None:
    sku = await room.product()
    await room.supplier.refuse(sku)
    await room.reorder(sku, at=14)
    [refused] = await until("the replenishment", lambda: room.replenishments(sku))
    await ended(room, refused.replenishment_id, "cancelled", 0, "NotSupplied")
    assert await room.supplier.orders_of([sku]) == []
    # a supplier that says no is not asked again by every order
    await room.reserve(sku, 1)
    await room.passed(replenishing.name, room.shop.client.seen)
    assert len(await room.replenishments(sku)) == 1
    await room.supplier.refuse(sku, False)
    await room.reorder(sku, at=14)
    id = await room.on_order(sku)
    await room.shop.delivery_arrived(id, await room.supplier.deliver(id))
    await ended(room, id, "delivered", 50, None)


async def test_given_a_supplier_whose_answers_get_lost_then_it_is_asked_again_and_acts_once(room: Stockroom) -> None:
    sku = await room.product()
    await room.supplier.lose_answers(sku, 2)
    await room.reorder(sku, at=14)
    id = await room.on_order(sku)
    saga = room.replenishing(id)
    await room.waiting(saga)
    await room.supplier.lose_answers(sku, 1)
    await room.skip(saga, timedelta(days=LEAD_DAYS))
    await room.chased(sku, 1)
    await room.waiting(saga, 2)
    await room.supplier.lose_answers(sku, 1)
    await saga.cancel()
    await ended(room, id, "cancelled", 0, "cancelled_by_operator")
    [order] = await room.supplier.orders_of([sku])
    assert (order.status, order.chased) == ("cancelled", 1)


async def test_given_an_order_of_which_nobody_knows_whether_it_was_taken_then_the_supplier_is_asked_and_it_goes_on(
    room: Stockroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = replace(SUPPLIER, first_pause=timedelta(seconds=0.1), deadline=timedelta(seconds=1))
    monkeypatch.setattr(replenish, "SUPPLIER", hasty)
    sku = await room.product()
    await room.supplier.lose_answers(sku, 1_000)
    await room.reorder(sku, at=14)
    id = await room.on_order(sku)
    saga = room.replenishing(id)
    await room.waiting(saga)
    await room.supplier.lose_answers(sku, 0)
    await room.shop.delivery_arrived(id, await room.supplier.deliver(id))
    await ended(room, id, "delivered", 50, None)


# Called off


async def test_given_a_replenishment_that_somebody_cancels_then_the_supplier_knows_and_a_delivery_is_refused(
    room: Stockroom,
) -> None:
    sku = await room.low()
    id = await room.on_order(sku)
    saga = room.replenishing(id)
    await room.waiting(saga)
    await saga.cancel()
    await ended(room, id, "cancelled", 0, "cancelled_by_operator")
    [order] = await room.supplier.orders_of([sku])
    assert order.status == "cancelled"
    with pytest.raises(ReplenishmentEnded) as refusal:
        await room.shop.delivery_arrived(id, 50)
    assert refusal.value.facts == {"replenishment_id": id, "told": 50}
    assert (await room.level(sku)).received == 10


@pytest.mark.parametrize("first", ["delivery", "cancellation"])
async def test_given_a_delivery_and_a_cancellation_at_once_then_the_goods_are_received_or_their_teller_knows(
    room: Stockroom, first: str
) -> None:
    skus = [await room.low() for _ in range(4)]

    async def race(sku: str) -> None:
        id = await room.on_order(sku)
        saga = room.replenishing(id)
        await room.waiting(saga)
        telling: Awaitable[object] = room.shop.delivery_arrived(id, 50)
        racing = [telling, saga.cancel()]
        order = racing if first == "delivery" else racing[::-1]
        ends = await asyncio.gather(*order, return_exceptions=True)
        told = ends[order.index(telling)]
        outcome = await saga.result()
        level = await room.level(sku)
        if isinstance(told, ReplenishmentEnded):
            assert (outcome["status"], level.received) == ("cancelled", 10)
        else:
            assert not isinstance(told, BaseException)
            assert (outcome["status"], level.received) == ("delivered", 60)

    await asyncio.gather(*(race(sku) for sku in skus))


async def test_given_a_replenishment_that_was_called_off_by_hand_when_its_delivery_is_told_then_refused_and_undone(
    room: Stockroom,
) -> None:
    sku = await room.low()
    id = await room.on_order(sku)
    await room.shop.execute(CancelReplenishment(replenishment_id=id, reason="not needed"))
    with pytest.raises(ReplenishmentEnded):
        await room.shop.delivery_arrived(id, 50)
    saga = room.replenishing(id)
    outcome = await saga.result()
    assert (outcome["status"], outcome["reason"]) == ("cancelled", "ReplenishmentEnded")
    [order] = await room.supplier.orders_of([sku])
    assert order.status == "cancelled"
    await room.stock_balances(sku)


async def test_given_goods_that_were_sent_but_never_told_of_when_given_up_then_it_waits_for_somebody_to_look_for_them(
    room: Stockroom,
) -> None:
    sku = await room.low()
    id = await room.on_order(sku)
    saga = room.replenishing(id)
    await room.supplier.deliver(id)
    await room.skip(saga, DAYS_UNTIL_GIVEN_UP + timedelta(days=1))

    async def parked() -> bool:
        return await saga_status(saga) == "NeedsAttention"

    await until("the parked undo", parked)
    with pytest.raises(ReplenishmentEnded):
        await room.shop.delivery_arrived(id, 50)
    await room.shop.execute(ReceiveStock(sku=sku, quantity=50))
    found = Resolve(actor="warehouse", reason="found in the yard", done="received by hand")
    await saga.execute_update(Resolve.update, found)
    outcome = await saga.result()
    assert (outcome["status"], outcome["reason"]) == ("cancelled", "DeliveryOverdue")
    level = await room.level(sku)
    assert (level.received, level.on_order) == (60, 0)
