"""Payments with a life of their own: confirmed later, by a webhook, or held first and taken later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

import psycopg
import pytest
from pydantic import SecretStr
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from activities import sandbox_gateway
from activities.sandbox_gateway import webhook_of
from activities.webhooks import WebhookForged, WebhookMalformed, WebhookStale, sign
from amends import Money
from amends.client import Client
from amends.embedded import EmbeddedTemporal
from amends.errors import StartupError
from amends.policies import CALL
from app import app
from client import PaymentNotAwaited, Shop
from domain.order import UnknownOrder
from domain.payment import (
    PaymentAlreadyFailed,
    PaymentAlreadyProcessed,
    PaymentAlreadyRefunded,
    RequestPayment,
    UnknownPayment,
)
from tests.sagas.given import Handle, replays, reset, until
from tests.sagas.shopping import ON_THE_SHELF, card, name, transfer
from tests.sagas.till import SECRET, Till, mounting, open_till, order_ended
from workflows import payment

Mount = Literal["as_written", "inline", "child"]

ASKED = ["order.placed", "payment.requested"]
PAID = [*ASKED, "payment.processed", "order.completed"]
UNPAID = [*ASKED, "payment.failed", "order.cancelled"]


@pytest.fixture(scope="module")
async def open_shop(
    postgres_url: str, template: str, temporal: EmbeddedTemporal, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Till]:
    """A shop of this module."""
    async with open_till(app, postgres_url, template, temporal, tmp_path_factory.mktemp("amends")) as till:
        yield till


@pytest.fixture
def till(open_shop: Till) -> Till:
    """The shop, for what has nothing to do with how sub-processes are mounted."""
    return open_shop


@pytest.fixture(scope="module")
async def alone(
    postgres_url: str, template: str, temporal: EmbeddedTemporal, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Till]:
    """Another shop, for payments that belong to no order: the books of orders would not balance with them."""
    async with open_till(app, postgres_url, template, temporal, tmp_path_factory.mktemp("alone")) as till:
        yield till


@pytest.fixture(params=get_args(Mount))
def any_till(request: pytest.FixtureRequest, open_shop: Till) -> Till:
    """The shop, seen by a client that mounts sub-processes in one of the ways."""
    return mounting(open_shop, request.param)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks by himself while a test lasts: whatever goes on, goes on because it was told."""
    monkeypatch.setattr(payment, "FIRST_LOOK", timedelta(hours=1))
    monkeypatch.setattr(sandbox_gateway, "SLOW_SECONDS", 0.4)
    monkeypatch.setattr("amends.conduct.CALL", replace(CALL, first_pause=timedelta(seconds=0.05)))


async def unpaid(till: Till) -> tuple[str, Handle]:
    """An order that waits for the confirmation of its payment, and the workflow that does."""
    placed = await till.place(transfer("tok_transfer_never"))
    taker = await till.taker(placed.order_id)
    await till.waiting(taker)
    return placed.order_id, taker


# Confirmed while it is waited for


async def test_given_a_pending_payment_when_it_settles_and_the_webhook_comes_then_the_order_completes(
    any_till: Till,
) -> None:
    order_id, _ = await unpaid(any_till)
    await any_till.gateway.settle(order_id)
    await any_till.webhook(order_id)
    await order_ended(any_till, order_id, None, PAID)
    assert await any_till.charges(order_id) == 1


async def test_given_a_pending_payment_when_it_fails_and_the_webhook_comes_then_the_order_is_cancelled(
    any_till: Till,
) -> None:
    order_id, _ = await unpaid(any_till)
    await any_till.gateway.settle(order_id, "declined")
    await any_till.webhook(order_id)
    await order_ended(any_till, order_id, "PaymentDeclined", UNPAID)


async def test_given_a_pending_payment_when_a_webhook_comes_with_no_news_then_the_provider_is_believed(
    any_till: Till,
) -> None:
    order_id, taker = await unpaid(any_till)
    for times in (2, 3):
        await any_till.webhook(order_id)
        await any_till.waiting(taker, times)
        assert await any_till.asked(taker) == times - 1
    assert await any_till.times(order_id, "payment.processed") == 0
    await any_till.gateway.settle(order_id)
    await any_till.webhook(order_id)
    await order_ended(any_till, order_id, None, PAID)


async def test_given_a_settled_payment_when_its_webhook_comes_twice_at_once_then_it_is_recorded_once(
    any_till: Till,
) -> None:
    order_id, _ = await unpaid(any_till)
    await any_till.gateway.settle(order_id)
    webhook = webhook_of(order_id, SECRET)
    answers = await asyncio.gather(*(any_till.shop.webhook(*webhook) for _ in range(5)), return_exceptions=True)
    assert all(answer is None or isinstance(answer, PaymentAlreadyProcessed) for answer in answers), answers
    assert None in answers
    await order_ended(any_till, order_id, None, PAID)
    assert await any_till.times(order_id, "payment.processed") == 1


async def test_given_a_charge_under_way_when_the_webhook_comes_before_it_is_waited_for_then_it_is_not_forgotten(
    any_till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_gateway, "SETTLING_SECONDS", 0.0)
    order_id, lines = name("order"), await any_till.lines(2, 3)
    async with await psycopg.AsyncConnection.connect(any_till.url) as lock:
        # given: the provider is at work on the payment, for as long as nobody may write to its books
        await lock.execute("lock table gateway.payments in share mode")
        placed = await any_till.place(transfer("tok_transfer"), lines, order_id)

        async def requested() -> bool:
            return bool(await any_till.times(order_id, "payment.requested"))

        await until("the payment is asked for", requested)
        # when
        await any_till.webhook(order_id)
        assert await any_till.charges(order_id) == 0
        await lock.rollback()
    # then
    await order_ended(any_till, placed.order_id, None, PAID)


async def test_given_a_payment_of_its_own_when_the_webhook_comes_then_it_is_taken(alone: Till) -> None:
    id, handle = await alone.start_payment(transfer("tok_transfer_never"))
    await alone.waiting(handle)
    await alone.gateway.settle(id)
    await alone.webhook(id)
    receipt = await handle.result()
    with pytest.raises(UnknownOrder):
        await alone.shop.status(id)
    assert (receipt.payment_id, receipt.amount, receipt.status) == (id, Money(amount=500, currency="EUR"), "charged")
    assert await alone.times(id, "payment.processed") == 1
    await replays([handle], app.workflows)
    with pytest.raises(PaymentAlreadyProcessed):
        await alone.webhook(id)


async def test_given_a_payment_whose_workflow_was_reset_when_it_settles_then_it_is_charged_once(alone: Till) -> None:
    id, handle = await alone.start_payment(transfer("tok_transfer_never"))
    await alone.waiting(handle)
    await reset(alone.shop.client.temporal, handle)
    again = alone.handle(handle.id)
    await alone.waiting(again)
    await alone.gateway.settle(id)
    await alone.webhook(id)
    await again.result()
    assert await alone.charges(id) == 1
    assert await alone.times(id, "payment.processed") == 1


# Confirmed too late


async def test_given_a_payment_that_was_taken_when_a_webhook_comes_then_refused_and_nothing_changed(
    any_till: Till,
) -> None:
    placed, _ = await any_till.completed(1)
    before = await any_till.facts()
    with pytest.raises(PaymentAlreadyProcessed) as refusal:
        await any_till.webhook(placed.order_id)
    assert refusal.value.facts == {"payment_id": placed.order_id, "status": "processed"}
    assert await any_till.facts() == before


async def test_given_a_payment_that_was_taken_while_its_order_goes_on_when_a_webhook_comes_then_refused_all_the_same(
    any_till: Till,
) -> None:
    order_id, [line] = name("order"), await any_till.lines(1)
    async with await psycopg.AsyncConnection.connect(any_till.url, autocommit=True) as lock:
        # given: the goods can't be reserved yet, for somebody has their stock to himself
        await lock.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (f"stock-{line.sku}",))
        placed = await any_till.place(card(), [line], order_id)

        async def taken() -> bool:
            return bool(await any_till.times(order_id, "payment.processed"))

        await until("the money is taken", taken)
        # when
        with pytest.raises(PaymentAlreadyProcessed):
            await any_till.webhook(order_id)
    # then
    assert (await placed.result()).status == "completed"


@pytest.mark.parametrize("given_back", ["by the undo of its order", "by a return"])
async def test_given_a_payment_that_was_given_back_when_its_confirmation_comes_then_refused_and_nothing_changed(
    till: Till, given_back: str
) -> None:
    if given_back == "by a return":
        placed, _ = await till.completed(2)
        await (await till.shop.refund_order(placed.order_id)).result()
    else:
        placed = await till.place(card(), await till.lines(1, ON_THE_SHELF + 1))
        assert (await placed.result()).reason == "OutOfStock"
    before = await till.facts()
    with pytest.raises(PaymentAlreadyRefunded) as refusal:
        await till.webhook(placed.order_id)
    assert refusal.value.facts == {"payment_id": placed.order_id, "status": "refunded"}
    assert await till.facts() == before
    await till.balances()


async def test_given_a_cancelled_payment_when_its_confirmation_comes_then_refused_and_it_stays_void(
    any_till: Till,
) -> None:
    order_id, _ = await unpaid(any_till)
    await any_till.shop.cancel(order_id)
    await order_ended(any_till, order_id, "cancelled_by_customer", UNPAID)
    await any_till.gateway.settle(order_id)
    before = await any_till.facts()
    with pytest.raises(PaymentAlreadyFailed) as refusal:
        await any_till.webhook(order_id)
    assert refusal.value.facts == {"payment_id": order_id, "reason": "voided"}
    assert await any_till.facts() == before
    await any_till.balances()


# No confirmation in time


async def overdue(handle: Handle) -> None:
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    assert isinstance(failure.value.cause, ApplicationError)
    assert failure.value.cause.details[0] == "PaymentOverdue"


async def test_given_a_payment_that_nobody_confirms_when_three_days_are_over_then_it_is_void_to_the_minute(
    alone: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payment, "FIRST_LOOK", timedelta(hours=7))
    monkeypatch.setattr(payment, "LONGEST_PAUSE", timedelta(hours=7))
    id, handle = await alone.start_payment(transfer("tok_transfer_never"), skipping=True)
    await overdue(handle)
    waited = await alone.skipper.get_current_time(handle) - (await handle.describe()).start_time
    assert timedelta(days=3) <= waited < timedelta(days=3, minutes=1)
    voided = await alone.gateway.status(id)
    assert (voided.status, voided.reason) == ("declined", "voided")
    with pytest.raises(PaymentAlreadyFailed):
        await alone.webhook(id)
    await replays([handle], app.workflows)


async def test_given_a_payment_that_settles_in_silence_when_it_is_looked_after_then_no_webhook_is_needed(
    alone: Till,
) -> None:
    id, handle = await alone.start_payment(transfer("tok_transfer_never"))
    await alone.waiting(handle)
    await alone.gateway.settle(id)
    await alone.skipper.fast_forward(handle, timedelta(hours=1))
    assert (await handle.result()).status == "charged"


async def test_given_two_days_of_silence_when_the_webhook_comes_then_it_is_in_time(alone: Till) -> None:
    id, handle = await alone.start_payment(transfer("tok_transfer_never"))
    await alone.waiting(handle)
    await alone.skipper.fast_forward(handle, timedelta(days=2))
    await alone.gateway.settle(id)
    await alone.webhook(id)
    assert (await handle.result()).status == "charged"


# Webhooks that are none


@pytest.mark.parametrize("bad", ["by somebody else", "changed on its way", "no signature"])
async def test_given_a_waiting_payment_when_a_forged_webhook_comes_then_refused_and_nothing_changed(
    till: Till, bad: str
) -> None:
    order_id, taker = await unpaid(till)
    body, signature = webhook_of(order_id, "a secret of somebody else" if bad == "by somebody else" else SECRET)
    if bad == "changed on its way":
        body = body.replace(b"}", b" }")
    before = await till.facts(), await till.commands()
    with pytest.raises(WebhookForged):
        await till.shop.webhook(body, "" if bad == "no signature" else signature)
    assert (await till.facts(), await till.commands()) == before
    assert await till.asked(taker) == 0
    await till.shop.cancel(order_id)
    await till.shop.result(order_id)


async def test_given_a_recorded_webhook_when_it_is_sent_again_later_then_refused_and_nothing_changed(
    till: Till,
) -> None:
    order_id, taker = await unpaid(till)
    before = await till.facts(), await till.commands()
    with pytest.raises(WebhookStale):
        await till.webhook(order_id, at=datetime.now(UTC) - timedelta(minutes=6))
    assert (await till.facts(), await till.commands()) == before
    assert await till.asked(taker) == 0
    await till.shop.cancel(order_id)
    await till.shop.result(order_id)


async def test_given_a_body_that_is_something_else_when_it_is_signed_well_then_refused_by_its_fields(
    till: Till,
) -> None:
    before = await till.facts(), await till.commands()
    body = b'{"type": "payment.changed", "payment_id": "no good"}'
    with pytest.raises(WebhookMalformed) as refusal:
        await till.shop.webhook(body, sign(body, SECRET, datetime.now(UTC)))
    assert list(refusal.value.facts["problems"]) == ["payment_id"]
    assert (await till.facts(), await till.commands()) == before


async def test_given_no_such_payment_when_a_webhook_tells_of_it_then_unknown_and_nothing_changed(till: Till) -> None:
    before, unknown = await till.facts(), name("nobody")
    with pytest.raises(UnknownPayment) as refusal:
        await till.webhook(unknown)
    assert refusal.value.facts == {"payment_id": unknown}
    assert await till.facts() == before


async def test_given_a_payment_that_nobody_takes_when_a_webhook_tells_of_it_then_told_so(alone: Till) -> None:
    id, amount = name("payment"), Money(amount=500, currency="EUR")
    await alone.shop.execute(
        RequestPayment(payment_id=id, order_id=id, customer_id="ada", amount=amount, method="transfer")
    )
    before = await alone.facts()
    with pytest.raises(PaymentNotAwaited) as refusal:
        await alone.webhook(id)
    assert refusal.value.facts == {"payment_id": id}
    assert await alone.facts() == before


@pytest.mark.parametrize("secret", [None, ""])
async def test_given_no_secret_when_a_webhook_comes_then_told_what_to_set(till: Till, secret: str | None) -> None:
    known = till.shop.client
    kept = None if secret is None else SecretStr(secret)
    settings = known.settings.model_copy(update={"webhook_secret": kept})
    shop = Shop(Client(known.temporal, known.reader, settings, known.actor, known.keys))
    with pytest.raises(StartupError, match="AMENDS_WEBHOOK_SECRET"):
        await shop.webhook(*webhook_of("p1", ""))
