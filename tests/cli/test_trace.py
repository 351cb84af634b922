"""`amends trace`: the tree of one piece of business, from the log alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from activities import sandbox_gateway
from amends import Recorded
from amends.changes import Rows
from amends.database import open_pool
from amends.errors import NothingRecorded
from amends.projection import Projection
from amends.repair import Resolve
from amends.settings import Settings
from amends.trace import Asked, Trace, trace_of
from app import app
from client import PlacedOrder, Shop
from domain.order import OrderPlaced
from domain.stock import SetReorderPoint
from domain.values import Line
from tests.cli.typing_in import amends
from tests.conftest import RunWorker
from tests.sagas.given import until
from tests.sagas.shopping import Market, card, transfer
from tests.sagas.test_parking import parked, repair
from tests.sagas.travels import Trips, book, child, phone, travelling, undone
from tests.sagas.trips import Trip
from workflows import payment
from workflows.payment import PaymentMethod

PRICE, PLACE, REQUEST, CHARGE = (
    "look up the prices",
    "place the order over 5.00 EUR",
    "request 5.00 EUR",
    "charge by card",
)


def url_of(settings: Settings) -> str:
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()


@pytest.fixture
async def market(settings: Settings, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Market]:
    """The shop with a worker; the provider settles at once."""
    monkeypatch.setattr(sandbox_gateway, "SETTLING_SECONDS", 0.1)
    monkeypatch.setattr(payment, "FIRST_LOOK", timedelta(seconds=0.2))
    async with run_worker(), await Shop.connect(settings, actor="ann") as shop:
        yield Market(shop, url_of(settings))


@pytest.fixture
async def trips(settings: Settings, run_worker: RunWorker) -> AsyncIterator[Trips]:
    async with travelling(settings, run_worker) as trips:
        yield trips


async def ordered(market: Market, method: PaymentMethod, sku: str, quantity: int = 2) -> PlacedOrder:
    """An order that has ended, and has been read by all."""
    order = await market.place(method, [Line(sku=sku, quantity=quantity)])
    await order.result()
    fresh = await market.shop.at_least(await market.shop.client.reader.head(), 15)
    assert fresh.fresh, fresh
    return order


async def traced(id: str, settings: Settings) -> dict[str, Any]:
    shown = await amends("trace", id, "--json", settings=settings)
    assert shown.exit_code == 0, shown.output
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def asked(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What a workflow and its children asked for, in order."""
    for part in workflow["parts"]:
        if "parts" in part:
            yield from asked(part)
        else:
            yield part


async def test_given_an_order_when_traced_then_its_steps_events_and_readers_are_told_in_order(
    market: Market, settings: Settings
) -> None:
    # given
    sku = await market.product()
    order = await ordered(market, card(), sku)
    id = f"order-{order.order_id}"

    # when
    told = await traced(id, settings)

    # then: one workflow, ended well
    [saga] = told["workflows"]
    assert told["id"] == saga["id"] == id
    assert (saga["process"], saga["status"], saga["reason"]) == ("PlaceOrder", "Completed", None)
    assert datetime.fromisoformat(saga["started_at"]) < datetime.fromisoformat(saga["ended_at"])

    # and: its steps in order, each with how it went
    steps = list(asked(saga))
    assert [step["title"] for step in steps] == [
        PRICE,
        PLACE,
        REQUEST,
        CHARGE,
        "record the payment",
        f"reserve 2 × {sku}",
        "complete the order",
        f"commit 2 × {sku}",
    ]
    assert {(step["kind"], step["outcome"], step["attempt"], step["actor"]) for step in steps} == {
        ("step", "done", 1, "ann")
    }
    assert [step["title"] for step in steps if step["pivot"]] == ["complete the order"]
    assert [step["stream"] for step in steps[:4]] == [None, id, f"payment-{order.order_id}", None]
    assert all(step["started_at"] <= step["ended_at"] for step in steps)

    # and: the events each led to, with those who have read them
    led = {step["title"]: [(event["name"], event["version"]) for event in step["led"]] for step in steps}
    assert led[PRICE] == led[CHARGE] == []
    assert led[PLACE] == [("order.placed", 1)]
    assert led["complete the order"] == [("order.completed", 2)]
    [placed] = steps[1]["led"]
    assert placed["read"] == ["order_history", "sales"]
    assert placed["unread"] == []
    [reserved] = steps[5]["led"]
    assert set(reserved["read"]) == {
        *("order_history", "inventory_levels", "inventory_movements", "product_catalog"),
        "leasing",
    }
    readers = {reader[0]: reader for reader in told["readers"]}
    assert {"order_history", "inventory_levels", "sales", "leasing", "replenishing"} <= readers.keys()
    assert all(reader[2] >= reserved["position"] for reader in readers.values())


async def test_given_an_order_with_a_child_when_traced_then_the_child_is_a_branch_in_its_place(
    market: Market, settings: Settings
) -> None:
    # given: a transfer has a life of its own
    sku = await market.product()
    order = await ordered(market, transfer(), sku)
    id = f"order-{order.order_id}"

    # when
    told = await traced(id, settings)

    # then
    [saga] = told["workflows"]
    assert saga["status"] == "Completed"
    [child] = [part for part in saga["parts"] if "parts" in part]
    assert (child["id"], child["process"], child["status"]) == (f"{id}/payment", "Payment", "Completed")
    assert [step["title"] for step in asked(child)][:2] == [REQUEST, "charge by transfer"]
    titles = [part.get("title", part.get("id")) for part in saga["parts"]]
    assert titles.index(PLACE) < titles.index(f"{id}/payment") < titles.index("complete the order")

    # and: people see it as one
    lines = (await amends("trace", id, settings=settings)).stdout.splitlines()
    assert lines[0].startswith(f"{id}  PlaceOrder  Completed")
    [branch] = [line for line in lines if f"{id}/payment  Payment" in line]
    assert branch.startswith("├── ")
    assert "child workflow" in branch
    [charge] = [line for line in lines if "charge by transfer" in line]
    assert charge.startswith("│   ├── ✔ charge by transfer  payment.charge")

    # and: every name that belongs to it leads to it
    for name in (order.order_id, f"payment-{order.order_id}", f"{id}/payment", f"{id}/order.place:{order.order_id}"):
        assert (await traced(name, settings))["id"] == id, name


async def test_given_an_order_that_is_undone_when_traced_then_the_no_and_the_undos_are_told(
    market: Market, settings: Settings
) -> None:
    # given: paid by card, and then out of stock
    sku = await market.product(stock=1)
    order = await ordered(market, card(), sku)
    id = f"order-{order.order_id}"

    # when
    [saga] = (await traced(id, settings))["workflows"]

    # then
    assert (saga["status"], saga["reason"]) == ("Compensated", "OutOfStock")
    *_, refused, refund, cancel = saga["parts"]
    assert (refused["title"], refused["outcome"], refused["refusal"]) == (f"reserve 2 × {sku}", "refused", "OutOfStock")
    assert refused["led"] == []
    assert [(undo["kind"], undo["title"]) for undo in (refund, cancel)] == [("undo", REQUEST), ("undo", PLACE)]
    # and: what a call sent on its own behalf stands with it
    assert (refund["name"], refund["stream"], refund["led"]) == ("payment.refund", None, [])
    [sent] = refund["sent"]
    assert [event["name"] for event in sent["led"]] == ["payment.refunded"]

    # and: people can tell them apart
    shown = (await amends("trace", id, settings=settings)).stdout
    [no] = [line for line in shown.splitlines() if f"reserve 2 × {sku}" in line]
    assert "✘" in no
    assert "OutOfStock: " in no
    assert f"↩ {PLACE}  order.cancel → {id}" in shown
    assert "When it did so is not recorded" in shown


async def test_given_a_name_of_several_or_of_nothing_when_traced_then_that_is_told(
    market: Market, settings: Settings
) -> None:
    # given: two orders of one thing
    sku = await market.product()
    first, second = [await ordered(market, card(), sku) for _ in range(2)]

    for name in (sku, f"stock-{sku}"):
        # when
        shown = await amends("trace", name, settings=settings)
        # then: it says which there are
        assert shown.exit_code == 2
        told = shown.stderr.replace("\n", "")
        assert "InvalidInput: id: " in told
        assert f"order-{first.order_id}" in told
        assert f"order-{second.order_id}" in told

    shown = await amends("trace", "order-nothing", settings=settings)
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "NothingRecorded" in shown.stderr


async def test_given_an_event_that_started_another_saga_when_traced_then_it_is_named_and_says_why_it_runs(
    market: Market, settings: Settings
) -> None:
    # given: an order after which something has run low
    sku = await market.product(stock=10)
    await market.shop.execute(SetReorderPoint(sku=sku, at=9, quantity=5))
    order = await ordered(market, card(), sku)

    async def replenishing() -> str:
        told = await traced(f"order-{order.order_id}", settings)
        started = [name for step in asked(told["workflows"][0]) for event in step["led"] for name in event["started"]]
        return started[0] if started else ""

    # when
    other = await until("the replenishment has begun", replenishing)

    # then
    told = await traced(other, settings)
    assert other.startswith("replenishing-")
    assert other.endswith(told["workflows"][0]["causation_id"])
    assert told["workflows"][0]["status"] == "Running"


async def test_given_a_reader_that_has_not_come_so_far_when_traced_then_the_event_is_unread(
    market: Market, settings: Settings
) -> None:
    order = await ordered(market, card(), await market.product())
    never = Projection("never_started", version=1)

    @never.on(OrderPlaced)
    def placed(event: OrderPlaced, fact: Recorded, rows: Rows) -> None:
        raise AssertionError("it is never run")

    async with open_pool(market.url, "writer", 1) as log, open_pool(market.url, "reader", 1) as views:
        found: Trace = await trace_of(log, views, app.aggregates, [*app.projections, never], (), order.order_id)
        [event] = [event for part in found.workflows[0].parts if isinstance(part, Asked) for event in part.led][:1]
        assert (event.name, event.read, event.unread) == (
            *("order.placed", ("order_history", "sales")),
            ("never_started",),
        )
        with pytest.raises(NothingRecorded):
            await trace_of(log, views, app.aggregates, (), (), "nothing")
        with pytest.raises(NothingRecorded):
            await trace_of(log, views, (), (), (), order.order_id)


async def test_given_a_saga_that_needs_attention_when_traced_then_what_is_parked_and_what_people_did_is_told(
    trips: Trips, settings: Settings
) -> None:
    # given: an undo that can't be done
    handle = await trips.start(book("hotel"), child("leg", phone("taxi")), book("stuck car"), book("full cruise"))
    await parked(handle)

    # when
    [saga] = (await found(handle.id, settings)).workflows
    # then
    assert (saga.status, saga.ended_at) == ("NeedsAttention", None)
    assert ("repair", "saga.park", "book stuck car") in kinds(saga.parts)

    # when: somebody sees to it
    await repair(handle, Resolve(actor="Grace", reason="the agency called back", done="sold it"))
    await undone(handle)
    [saga] = (await found(handle.id, settings)).workflows
    # then
    assert saga.status == "Compensated"
    [resolved] = [part for part in saga.parts if isinstance(part, Asked) and part.name == "saga.resolve"]
    assert (resolved.actor, resolved.message) == ("Grace", "the agency called back")


async def found(id: str, settings: Settings) -> Trace:
    async with open_pool(url_of(settings), "writer", 1) as log, open_pool(url_of(settings), "reader", 1) as views:
        return await trace_of(log, views, [Trip], (), (), id)


def kinds(parts: Any) -> set[tuple[str, str, str | None]]:
    return {(part.kind, part.name, part.title) for part in parts if isinstance(part, Asked)}
