"""Every way an order can end, with its sub-processes mounted in every way; the books agree after each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal, get_args
from uuid import uuid4

import pytest
from pydantic import SecretStr
from temporalio.client import RPCError
from temporalio.service import RPCStatusCode
from temporalio.testing import TimeSkipper

from activities import sandbox_gateway
from amends import InvalidInput, Money, Position, Refused
from amends.client import Client, fingerprint_of
from amends.connect import connect
from amends.embedded import EmbeddedTemporal
from amends.errors import CommandIdReused, NoAnswer
from amends.policies import CALL
from amends.projection_workflow import start_projections
from amends.settings import Settings
from amends.visibility import MEMO, SagaMemo
from amends.worker import open_worker
from app import app
from client import Shop, TooLate
from domain.order import UnknownOrder
from domain.product import ChangePrice, DiscontinueProduct, ProductIsDiscontinued
from domain.stock import LapseStock, ReceiveStock
from domain.values import Line
from read_models import inventory_levels, order_history
from tests.sagas.given import replays, reset, rows, saga_status, until
from tests.sagas.shopping import ON_THE_SHELF, Market, card, name, new_database, transfer
from workflows import payment
from workflows.payment import PaymentMethod
from workflows.place_order import OrderOutcome, OrderRequest, PlaceOrder

Mount = Literal["as_written", "inline", "child"]

REFUNDED = "select refunded::int from gateway.charges where payment_id = %s"

PLACED = ["order.placed", "payment.requested"]
RESERVED = ["stock.reserved", "stock.reserved"]
COMPLETED = [*PLACED, "payment.processed", *RESERVED, "order.completed", "stock.committed", "stock.committed"]
UNPAID = [*PLACED, "payment.failed", "order.cancelled"]
PAID = [*PLACED, "payment.processed"]
RESERVED = ["stock.reserved", "stock.reserved"]
GIVEN_BACK = ["payment.refunded", "order.cancelled"]
RELEASED = ["stock.released", "stock.released"]
HELD = ["order.placed", *RESERVED, "payment.requested"]
TRANSFERRED = [
    *[*HELD, "payment.processed", "stock.confirmed", "stock.confirmed"],
    *["order.completed", "stock.committed", "stock.committed"],
]
NOT_TRANSFERRED = [*HELD, "payment.failed", *RELEASED, "order.cancelled"]

ACTORS = "select distinct actor from amends.events where correlation_id = %s"


@pytest.fixture(scope="module")
async def open_shop(
    postgres_url: str, template: str, temporal: EmbeddedTemporal, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Settings]:
    """A shop of this module, with a worker in this process."""
    settings = Settings(
        home=tmp_path_factory.mktemp("amends"),
        database_url=SecretStr(new_database(postgres_url, template)),
        temporal_address=temporal.address,
        task_queue=f"test-{uuid4().hex}",
        drain_seconds=5,
    )
    client = await connect(settings)
    async with open_worker(app, settings, client) as worker:
        running = asyncio.create_task(worker.run())
        await start_projections(client, app.projections, settings.task_queue)
        yield settings
        await worker.shutdown()
        await running


async def market_of(settings: Settings, mount: Mount) -> AsyncIterator[Market]:
    assert settings.database_url is not None
    async with await Shop.connect(settings.model_copy(update={"mount": mount}), actor="Ada's browser") as shop:
        yield Market(shop, settings.database_url.get_secret_value())


@pytest.fixture(params=get_args(Mount))
async def market(request: pytest.FixtureRequest, open_shop: Settings) -> AsyncIterator[Market]:
    """The shop, seen by a client that mounts sub-processes in one of the ways."""
    async for market in market_of(open_shop, request.param):
        yield market


@pytest.fixture
async def any_market(open_shop: Settings) -> AsyncIterator[Market]:
    """The shop, for what has nothing to do with how sub-processes are mounted."""
    async for market in market_of(open_shop, "as_written"):
        yield market


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider answers and settles sooner, and is asked sooner."""
    monkeypatch.setattr(sandbox_gateway, "SLOW_SECONDS", 0.4)
    monkeypatch.setattr(sandbox_gateway, "SETTLING_SECONDS", 0.2)
    monkeypatch.setattr(payment, "FIRST_LOOK", timedelta(seconds=0.3))
    monkeypatch.setattr("amends.conduct.CALL", replace(CALL, first_pause=timedelta(seconds=0.05)))


async def ended(
    market: Market, order_id: str, status: str, reason: str | None, story: Sequence[str], *, paid: bool, charges: int
) -> OrderOutcome:
    """Wait for an order's end and assert that everybody tells the same of it."""
    outcome = await market.shop.result(order_id)
    assert (outcome.status, outcome.reason) == (status, reason)
    row = await market.shop.status(order_id)
    assert (row.status, row.reason, row.total) == (status, reason, row.paid if paid else row.total)
    assert row.paid - row.refunded == (row.total if status == "completed" else 0)
    assert row.ended_at is not None
    assert await market.timeline(order_id) == list(story)
    assert await market.charges(order_id) == charges
    assert await saga_status(market.saga(order_id)) == ("Completed" if status == "completed" else "Compensated")
    await market.balances()
    await replays([market.saga(order_id)], app.workflows)
    return outcome


async def put_back(market: Market, lines: Collection[Line]) -> None:
    """Assert that nothing has left the shelves."""
    levels = await market.shop.query(inventory_levels.levels([line.sku for line in lines]))
    assert {level.available for level in levels} == {ON_THE_SHELF}


# Every way to end


@pytest.mark.parametrize("token", ["tok_ok", "tok_timeout_before", "tok_timeout_after"])
async def test_given_goods_and_a_good_card_when_ordered_then_completed_and_paid_once(
    market: Market, token: str
) -> None:
    lines = await market.lines(2, 3)
    placed = await market.place(card(token), lines)
    await ended(market, placed.order_id, "completed", None, COMPLETED, paid=True, charges=1)
    levels = await market.shop.query(inventory_levels.levels([line.sku for line in lines]))
    assert {level.sku: level.committed for level in levels} == {line.sku: line.quantity for line in lines}


@pytest.mark.parametrize("told", ["by signal", "by looking"])
async def test_given_a_transfer_when_it_settles_then_completed_and_paid_once(market: Market, told: str) -> None:
    placed = await market.place(transfer())
    if told == "by signal":
        await until("the transfer's time", lambda: market.due(placed.order_id))
        await market.shop.payment_settled(placed.order_id)
    await ended(market, placed.order_id, "completed", None, TRANSFERRED, paid=True, charges=1)


@pytest.mark.parametrize("method", [card("tok_declined"), card("tok_insufficient"), transfer("tok_transfer_fails")])
async def test_given_a_payment_that_is_declined_when_ordered_then_cancelled(
    market: Market, method: PaymentMethod
) -> None:
    lines = await market.lines(2, 3)
    placed = await market.place(method, lines)
    story = UNPAID if method.kind == "card" else NOT_TRANSFERRED
    await ended(market, placed.order_id, "cancelled", "PaymentDeclined", story, paid=False, charges=1)
    await put_back(market, lines)


@pytest.mark.parametrize("method", [card(), transfer()])
async def test_given_one_of_three_out_of_stock_when_ordered_then_the_rest_goes_back_and_the_money_too(
    market: Market, method: PaymentMethod
) -> None:
    lines = await market.lines(2, ON_THE_SHELF + 1, 3)
    placed = await market.place(method, lines)
    if method.kind == "card":
        story = [*PAID, *RESERVED, *RELEASED, *GIVEN_BACK]
    else:  # the goods come first
        story = ["order.placed", *RESERVED, *RELEASED, "order.cancelled"]
    paid = method.kind == "card"
    await ended(market, placed.order_id, "cancelled", "OutOfStock", story, paid=paid, charges=int(paid))
    await put_back(market, lines)


@pytest.mark.parametrize("by", ["cancelled_by_customer", "cancelled_by_operator"])
async def test_given_a_pending_transfer_when_cancelled_then_it_is_void(market: Market, by: str) -> None:
    placed = await market.place(transfer("tok_transfer_never"))
    await until("the charge", lambda: market.charging(placed.order_id))
    if by == "cancelled_by_customer":
        await market.shop.cancel(placed.order_id)
    else:
        await market.saga(placed.order_id).cancel()
    await ended(market, placed.order_id, "cancelled", by, NOT_TRANSFERRED, paid=False, charges=1)


async def test_given_a_completed_transfer_when_its_workflow_is_reset_then_its_money_is_kept(
    any_market: Market,
) -> None:
    placed = await any_market.place(transfer())
    await placed.result()
    saga = any_market.saga(placed.order_id)
    await reset(any_market.shop.client.temporal, saga)

    async def over() -> bool:
        return (await saga.describe()).close_time is not None or await saga_status(saga) == "NeedsAttention"

    await until("the next run is over", over)
    assert await rows(any_market.url, REFUNDED, placed.order_id) == [(0,)]


async def test_given_no_worker_when_cancelled_then_its_customer_knows_that_nobody_has_answered(market: Market) -> None:
    order_id, client = name("order"), market.shop.client
    request = OrderRequest(order_id=order_id, customer_id="c", lines=tuple(await market.lines(1)), payment=card())
    saga = await client.temporal.start_workflow(
        PlaceOrder.run, request, id=f"order-{order_id}", task_queue=name("nobody")
    )
    settings = client.settings.model_copy(update={"answer_seconds": 0.3})
    impatient = Shop(Client(client.temporal, client.reader, settings, "customer", client.keys))
    with pytest.raises(NoAnswer):
        await impatient.cancel(order_id)
    await saga.terminate()


async def test_given_an_order_that_ends_while_its_cancellation_is_on_its_way_then_too_late(market: Market) -> None:
    order_id, temporal = name("order"), market.shop.client.temporal
    request = OrderRequest(order_id=order_id, customer_id="c", lines=tuple(await market.lines(1)), payment=card())
    saga = await temporal.start_workflow(PlaceOrder.run, request, id=f"order-{order_id}", task_queue=name("nobody"))
    cancelling = asyncio.create_task(market.shop.cancel(order_id))
    for _ in range(20):  # the server takes a connection's requests in turn, so that it has the cancellation by then
        await saga.describe()
    await saga.terminate()
    with pytest.raises(TooLate):
        await cancelling


async def test_given_a_cancelled_order_when_its_cancellation_is_told_again_then_that_is_no_refusal(
    market: Market,
) -> None:
    placed = await market.place(transfer("tok_transfer_never"))
    await until("the charge", lambda: market.charging(placed.order_id))
    await market.shop.cancel(placed.order_id)
    await market.shop.cancel(placed.order_id)
    await placed.result()
    await market.shop.cancel(placed.order_id)
    await ended(market, placed.order_id, "cancelled", "cancelled_by_customer", NOT_TRANSFERRED, paid=False, charges=1)


@pytest.mark.parametrize("by", ["cancelled_by_customer", "cancelled_by_operator"])
async def test_given_a_slow_charge_under_way_when_cancelled_then_the_money_comes_back(market: Market, by: str) -> None:
    lines = await market.lines(2, 3)
    placed = await market.place(card("tok_slow"), lines)
    await until("the charge", lambda: market.charging(placed.order_id))
    if by == "cancelled_by_customer":
        await market.shop.cancel(placed.order_id)
    else:
        await market.saga(placed.order_id).cancel()
    # a cancellation waits for the next step that the history knows beforehand, so the goods are reserved in between
    inline = market.shop.client.settings.mount != "child"
    story = [*PAID, *RESERVED, "stock.released", "stock.released", *GIVEN_BACK] if inline else [*PAID, *GIVEN_BACK]
    await ended(market, placed.order_id, "cancelled", by, story, paid=True, charges=1)
    await put_back(market, lines)


async def test_given_a_transfer_that_never_settles_when_three_days_are_over_then_overdue(
    market: Market, open_shop: Settings
) -> None:
    known = market.shop.client
    skipping = TimeSkipper(known.temporal)
    patient = Shop(Client(skipping.client, known.reader, known.settings, "patience", known.keys))
    placed = await patient.place_order(
        await market.customer(), await market.lines(2, 3), transfer("tok_transfer_never")
    )
    await ended(market, placed.order_id, "cancelled", "PaymentOverdue", NOT_TRANSFERRED, paid=False, charges=1)
    inline = market.shop.client.settings.mount == "inline"
    waiting = market.saga(placed.order_id if inline else f"{placed.order_id}/payment")
    waited = await skipping.get_current_time(waiting) - (await waiting.describe()).start_time
    assert waited >= timedelta(days=3)


async def test_given_a_transfer_that_comes_when_the_goods_have_lapsed_then_it_goes_back(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.sandbox_gateway.SETTLING_SECONDS", 1.5)
    [line] = lines = await market.lines(2)
    placed = await market.place(transfer(), lines)
    await until("the charge", lambda: market.charging(placed.order_id))
    await market.shop.execute(LapseStock(sku=line.sku, reservation_id=placed.order_id))
    story = [
        *["order.placed", "stock.reserved", "payment.requested", "stock.lapsed", "payment.processed"],
        *GIVEN_BACK,
    ]
    await ended(market, placed.order_id, "cancelled", "ReservationLapsed", story, paid=True, charges=1)
    await put_back(market, lines)


class Hasty(Shop):
    """A client whose check has just been passed when the product is discontinued."""

    async def _check(self, request: OrderRequest) -> None:
        await super()._check(request)
        await self.execute(DiscontinueProduct(sku=request.lines[0].sku))


async def test_given_a_product_discontinued_after_the_check_when_ordered_then_refused_and_nothing_is_placed(
    market: Market,
) -> None:
    order_id = name("order")
    hasty = Hasty(market.shop.client)
    lines = await market.lines(2, 3)
    with pytest.raises(ProductIsDiscontinued) as refusal:
        await hasty.place_order(await market.customer(), lines, card(), request_id=order_id)
    assert refusal.value.facts == {"sku": lines[0].sku}
    outcome = await market.shop.result(order_id)
    assert (outcome.status, outcome.reason) == ("refused", "ProductIsDiscontinued")
    with pytest.raises(UnknownOrder):
        await market.shop.status(order_id)
    assert await market.charges(order_id) == 0
    assert await market.timeline(order_id) == []
    await market.balances()


async def test_given_a_price_change_after_ordering_when_completed_then_the_price_of_the_order_counts(
    any_market: Market,
) -> None:
    lines = await any_market.lines(2)
    placed = await any_market.place(card("tok_slow"), lines)
    await any_market.shop.execute(ChangePrice(sku=lines[0].sku, price=Money(amount=9999, currency="EUR")))
    await placed.result()
    assert (await any_market.shop.status(placed.order_id)).paid == 500


async def test_given_an_order_when_completed_then_every_event_bears_the_clients_actor(market: Market) -> None:
    placed = await market.place(card())
    await placed.result()
    assert await rows(market.url, ACTORS, f"order-{placed.order_id}") == [("Ada's browser",)]


# Too late, unknown, again


async def test_given_an_order_that_has_ended_when_cancelled_then_too_late(market: Market) -> None:
    completed, cancelled = await market.place(card()), await market.place(card("tok_declined"))
    for placed in (completed, cancelled):
        before = await placed.result()
        with pytest.raises(TooLate) as refusal:
            await market.shop.cancel(placed.order_id)
        assert refusal.value.facts == {"order_id": placed.order_id}
        assert await placed.result() == before


async def test_given_no_such_order_when_asked_about_then_unknown(any_market: Market) -> None:
    shop, unknown = any_market.shop, name("nobody")
    for asking in (shop.cancel(unknown), shop.result(unknown), shop.status(unknown), shop.payment_settled(unknown)):
        with pytest.raises(UnknownOrder) as refusal:
            await asking
        assert refusal.value.facts == {"order_id": unknown}


async def test_given_a_cancelled_order_when_cancelled_again_then_it_ends_once(any_market: Market) -> None:
    placed = await any_market.place(transfer("tok_transfer_never"))
    await until("the charge", lambda: any_market.charging(placed.order_id))
    cancelling = [any_market.shop.cancel(placed.order_id) for _ in range(5)]
    answers = await asyncio.gather(*cancelling, return_exceptions=True)
    assert all(isinstance(answer, Position | TooLate) for answer in answers)
    assert any(isinstance(answer, Position) and answer >= placed.position for answer in answers)
    await ended(
        any_market, placed.order_id, "cancelled", "cancelled_by_customer", NOT_TRANSFERRED, paid=False, charges=1
    )


@pytest.mark.parametrize("when", ["one after the other", "side by side", "after the end"])
async def test_given_a_request_id_when_ordered_again_with_it_then_it_is_one_order_paid_once(
    market: Market, when: str
) -> None:
    order_id, customer, lines = name("order"), await market.customer(), await market.lines(2, 3)

    async def order() -> tuple[str, Any]:
        placed = await market.shop.place_order(customer, lines, card(), request_id=order_id)
        return placed.order_id, placed.position

    if when == "side by side":
        answers = await asyncio.gather(*(order() for _ in range(5)))
    else:
        answers = [await order()]
        if when == "after the end":
            await market.shop.result(order_id)
        answers.append(await order())
    assert len(set(answers)) == 1
    await ended(market, order_id, "completed", None, COMPLETED, paid=True, charges=1)


async def test_given_a_refused_order_when_ordered_again_with_its_id_then_it_is_refused_again(
    any_market: Market,
) -> None:
    order_id, customer, lines = name("order"), await any_market.customer(), await any_market.lines(2)
    for shop in (Hasty(any_market.shop.client), Unchecked(any_market.shop.client)):
        with pytest.raises(ProductIsDiscontinued):
            await shop.place_order(customer, lines, card(), request_id=order_id)


class Unchecked(Shop):
    """A client that leaves all checks to the saga."""

    async def _check(self, request: OrderRequest) -> None:
        return


async def test_given_a_completed_order_when_repeated_after_its_product_was_discontinued_then_it_is_the_first_order(
    any_market: Market,
) -> None:
    order_id, customer, lines = name("order"), await any_market.customer(), await any_market.lines(2)
    first = await any_market.shop.place_order(customer, lines, card(), request_id=order_id)
    await first.result()
    await any_market.shop.execute(DiscontinueProduct(sku=lines[0].sku))
    again = await any_market.shop.place_order(customer, lines, card(), request_id=order_id)
    assert again.position == first.position


async def test_given_a_request_id_of_an_order_when_reused_for_a_different_order_then_it_is_not_taken_for_the_first(
    any_market: Market,
) -> None:
    order_id, customer = name("order"), await any_market.customer()
    await any_market.shop.place_order(customer, await any_market.lines(2), card(), request_id=order_id)
    with pytest.raises(CommandIdReused):
        await any_market.shop.place_order(customer, await any_market.lines(7), card(), request_id=order_id)


async def test_given_an_order_when_asked_for_its_status_right_away_then_it_is_there(any_market: Market) -> None:
    placed = await any_market.place(transfer("tok_transfer_never"))
    row = await any_market.shop.status(placed.order_id)
    assert (row.status, row.total, row.paid, row.ended_at) == ("placed", 1250, 0, None)
    await any_market.shop.cancel(placed.order_id)
    await placed.result()


# Single commands


@pytest.mark.parametrize("when", ["one after the other", "side by side"])
async def test_given_a_request_id_when_a_command_is_executed_again_with_it_then_it_acts_once(
    any_market: Market, when: str
) -> None:
    command, id = ReceiveStock(sku=await any_market.product(stock=0), quantity=4), name("request")
    if when == "side by side":
        running = [any_market.shop.execute(command, request_id=id) for _ in range(5)]
        receipts = await asyncio.gather(*running)
    else:
        receipts = [await any_market.shop.execute(command, request_id=id) for _ in range(2)]
    assert len({receipt.position for receipt in receipts}) == 1
    [level] = await any_market.shop.query(inventory_levels.levels([command.sku]))
    assert level.received == 4


async def test_given_a_request_id_when_reused_for_another_kind_of_command_then_told(any_market: Market) -> None:
    sku, id = await any_market.product(), name("request")
    await any_market.shop.execute(ReceiveStock(sku=sku, quantity=4), request_id=id)
    with pytest.raises(CommandIdReused):
        await any_market.shop.execute(DiscontinueProduct(sku=sku), request_id=id)


@pytest.mark.parametrize("other", ["product", "product that ends alike", "quantity"])
async def test_given_a_request_id_when_reused_for_the_same_kind_of_command_with_other_data_then_told(
    any_market: Market, other: str
) -> None:
    sku, id = await any_market.product(stock=0), name("request")
    await any_market.shop.execute(ReceiveStock(sku=sku, quantity=4), request_id=id)
    others = {"product": name("sku"), "product that ends alike": sku.partition("-")[2], "quantity": sku}
    second = ReceiveStock(sku=others[other], quantity=5)
    with pytest.raises(CommandIdReused):
        await any_market.shop.execute(second, request_id=id)


async def test_given_a_bad_request_id_when_a_command_is_executed_then_told_which_field(any_market: Market) -> None:
    with pytest.raises(InvalidInput) as problem:
        await any_market.shop.execute(ReceiveStock(sku="sku", quantity=1), request_id="no good")
    assert set(problem.value.problems) == {"request_id"}


# Bad input


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ("no lines", "lines"),
        ("quantity 0", "quantity"),
        ("unknown product", "lines.1.sku"),
        ("discontinued product", "lines.0.sku"),
        ("two currencies", "lines"),
        ("one product twice", "lines"),
        ("too many lines", "lines"),
        ("unregistered customer", "customer_id"),
        ("bad customer id", "customer_id"),
        ("bad request id", "request_id"),
        ("empty token", "token"),
    ],
)
async def test_given_bad_input_when_ordered_then_told_which_field_and_nothing_is_started_or_stored(
    any_market: Market, bad: str, field: str
) -> None:
    shop, customer, lines = any_market.shop, await any_market.customer(), await any_market.lines(1)
    order_id = "no good" if bad == "bad request id" else name("order")
    dollars = Line(sku=await any_market.product(currency="USD"), quantity=1)
    if bad == "discontinued product":
        await shop.execute(DiscontinueProduct(sku=lines[0].sku))
    stored = await any_market.stored()

    async def order() -> None:
        match bad:
            case "no lines":
                await shop.place_order(customer, [], card(), request_id=order_id)
            case "quantity 0":
                await shop.place_order(customer, [Line(sku=lines[0].sku, quantity=0)], card(), request_id=order_id)
            case "unknown product":
                nothing = Line(sku=name("nothing"), quantity=1)
                await shop.place_order(customer, [*lines, nothing], card(), request_id=order_id)
            case "two currencies":
                await shop.place_order(customer, [*lines, dollars], card(), request_id=order_id)
            case "one product twice":
                await shop.place_order(customer, [*lines, *lines], card(), request_id=order_id)
            case "too many lines":
                many = [Line(sku=f"sku-{number}", quantity=1) for number in range(101)]
                await shop.place_order(customer, many, card(), request_id=order_id)
            case "unregistered customer":
                await shop.place_order(name("nobody"), lines, card(), request_id=order_id)
            case "bad customer id":
                await shop.place_order("Ada Lovelace", lines, card(), request_id=order_id)
            case "empty token":
                await shop.place_order(customer, lines, card(""), request_id=order_id)
            case _:
                await shop.place_order(customer, lines, card(), request_id=order_id)

    with pytest.raises(InvalidInput) as problem:
        await order()
    assert set(problem.value.problems) == {field}
    with pytest.raises(RPCError) as missing:
        await any_market.saga(order_id).describe()
    assert missing.value.status == RPCStatusCode.NOT_FOUND
    assert await any_market.stored() == stored


async def test_given_several_problems_when_ordered_then_all_are_told_at_once(any_market: Market) -> None:
    lines = [Line(sku=name("nothing"), quantity=1), *await any_market.lines(1), Line(sku=name("nothing"), quantity=1)]
    with pytest.raises(InvalidInput) as problem:
        await any_market.shop.place_order(name("nobody"), lines, card())
    assert set(problem.value.problems) == {"customer_id", "lines.0.sku", "lines.2.sku"}


async def test_given_a_token_that_is_too_long_when_refused_then_the_message_does_not_tell_it(
    any_market: Market,
) -> None:
    secret = "4111" * 100
    with pytest.raises(InvalidInput) as problem:
        await any_market.shop.place_order("ada", [Line(sku="sku", quantity=1)], card(secret))
    assert "4111" not in str(problem.value)


# Many at once


async def test_given_many_orders_for_too_few_goods_when_placed_at_once_then_none_is_sold_twice(market: Market) -> None:
    customer, lines = await market.customer(), await market.lines(3, 3)
    placing = [market.shop.place_order(customer, [line, other], card()) for line, other in [lines, lines[::-1]] * 3]
    outcomes = await asyncio.gather(*[placed.result() for placed in await asyncio.gather(*placing)])
    assert 1 <= sum(outcome.status == "completed" for outcome in outcomes) <= 3
    await market.balances()
    levels = await market.shop.query(inventory_levels.levels([line.sku for line in lines]))
    assert all(level.available >= 0 for level in levels)
    found = await market.shop.query(order_history.orders_of(customer))
    assert sorted(row.order_id for row in found) == sorted(outcome.order_id for outcome in outcomes)


# The first answer, lost


async def begun_without_an_answer(market: Market, request: OrderRequest) -> None:
    """A server that dies may start the saga and lose the update that waits for its first answer."""
    client, id = market.shop.client, f"order-{request.order_id}"
    sealed = await client.keys.seal(request, id)
    memo = {MEMO: SagaMemo(actor="market", fingerprint=fingerprint_of(sealed))}
    handle = await client.temporal.start_workflow(
        PlaceOrder.run, sealed, id=id, task_queue=client.settings.task_queue, memo=memo
    )
    await handle.result()


async def test_given_an_order_whose_first_answer_got_lost_when_it_is_placed_again_after_its_end_then_it_is_told(
    any_market: Market,
) -> None:
    market, order_id, lines = any_market, name("order"), await any_market.lines(1)
    request = OrderRequest(order_id=order_id, customer_id=await market.customer(), lines=tuple(lines), payment=card())
    await begun_without_an_answer(market, request)

    placed = await market.shop.place_order(request.customer_id, lines, card(), request_id=order_id)

    assert (await placed.result()).status == "completed"
    assert await market.charges(order_id) == 1
    with pytest.raises(CommandIdReused):
        await market.shop.place_order(request.customer_id, lines, card("tok_declined"), request_id=order_id)


async def test_given_an_order_that_was_refused_and_nobody_told_when_it_is_placed_again_then_the_refusal_is_told(
    any_market: Market,
) -> None:
    market, order_id = any_market, name("order")
    sku, customer = await market.product(), await market.customer()
    request = OrderRequest(
        order_id=order_id, customer_id=customer, lines=(Line(sku=f"no-{sku}", quantity=1),), payment=card()
    )
    await begun_without_an_answer(market, request)

    with pytest.raises((Refused, InvalidInput)) as told:
        await market.shop.client.start(
            PlaceOrder,
            request,
            id=f"order-{order_id}",
            accepted=PlaceOrder.accepted,
            answered=PlaceOrder.answered,
            labels={},
            attributes={},
            summary="again",
        )
    assert f"no-{sku}" in str(told.value)
