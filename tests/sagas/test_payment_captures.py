"""Money that is held first and taken later, and answers of the provider that never come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal, get_args

import pytest

from activities import sandbox_gateway
from activities.gateway import Capture, Charge, ChargeResult, GatewayUnavailable
from activities.provider_payments import ProviderPayments
from activities.sandbox_gateway import SandboxGateway
from amends import InvalidInput, Money
from amends.app import App, Resources
from amends.embedded import EmbeddedTemporal
from amends.policies import CALL
from app import app
from read_models import order_history
from tests.sagas.given import until
from tests.sagas.shopping import ON_THE_SHELF, card, name
from tests.sagas.till import Till, mounting, open_till, order_ended
from workflows import payment
from workflows.payment import PaymentMethod

Mount = Literal["as_written", "inline", "child"]

PLACED = ["order.placed", "payment.requested"]
RESERVED = ["stock.reserved", "stock.reserved"]
RELEASED = ["stock.released", "stock.released"]
COMMITTED = ["order.completed", "stock.committed", "stock.committed"]
PAID = [*PLACED, "payment.processed", *RESERVED, *COMMITTED]
HELD = [*PLACED, "payment.authorised"]


@pytest.fixture(scope="module")
async def open_shop(
    postgres_url: str, template: str, temporal: EmbeddedTemporal, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Till]:
    """A shop of this module."""
    async with open_till(app, postgres_url, template, temporal, tmp_path_factory.mktemp("amends")) as till:
        yield till


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


# Held first, taken later


@pytest.mark.parametrize("token", ["tok_ok", "tok_timeout_before", "tok_timeout_after"])
async def test_given_a_card_to_authorise_when_ordered_then_the_money_is_taken_once_the_goods_are_reserved(
    any_till: Till, token: str
) -> None:
    placed = await any_till.place(card(token, "authorise"))
    await order_ended(any_till, placed.order_id, None, [*HELD, *RESERVED, "payment.processed", *COMMITTED])
    assert await any_till.charges(placed.order_id) == 1


async def test_given_an_authorised_card_when_the_goods_are_out_of_stock_then_nothing_was_ever_taken(
    any_till: Till,
) -> None:
    lines = await any_till.lines(2, ON_THE_SHELF + 1, 3)
    placed = await any_till.place(card(mode="authorise"), lines)
    story = [*HELD, *RESERVED, *RELEASED, "payment.failed", "order.cancelled"]
    await order_ended(any_till, placed.order_id, "OutOfStock", story)
    status = await any_till.gateway.status(placed.order_id)
    assert (status.status, status.reason) == ("declined", "voided")
    assert (await any_till.row(placed.order_id)).paid == 0


@pytest.mark.parametrize(
    ("token", "why"),
    [("tok_capture_declined", "capture_declined"), ("tok_hold_expires", "authorisation_expired")],
)
async def test_given_an_authorised_card_when_the_capture_is_declined_then_the_order_is_undone(
    any_till: Till, token: str, why: str
) -> None:
    lines = await any_till.lines(2, 3)
    placed = await any_till.place(card(token, "authorise"), lines)
    story = [*HELD, *RESERVED, "payment.failed", *RELEASED, "order.cancelled"]
    await order_ended(any_till, placed.order_id, "PaymentDeclined", story)
    assert (await any_till.gateway.status(placed.order_id)).reason == why
    for line in lines:
        assert (await any_till.level(line.sku)).available == ON_THE_SHELF


async def test_given_a_card_that_is_not_authorised_when_ordered_then_cancelled(any_till: Till) -> None:
    placed = await any_till.place(card("tok_declined", "authorise"))
    await order_ended(any_till, placed.order_id, "PaymentDeclined", [*PLACED, "payment.failed", "order.cancelled"])


async def test_given_an_authorisation_under_way_when_cancelled_then_it_is_void(any_till: Till) -> None:
    placed = await any_till.place(card("tok_slow", "authorise"))

    async def asked() -> bool:
        return bool(await any_till.charges(placed.order_id))

    await until("the authorisation", asked)
    await any_till.shop.cancel(placed.order_id)
    outcome = await placed.result()
    assert (outcome.status, outcome.reason) == ("cancelled", "cancelled_by_customer")
    status = await any_till.gateway.status(placed.order_id)
    assert (status.status, status.reason) == ("declined", "voided")
    await any_till.balances()


async def test_given_an_authorisation_that_is_confirmed_later_when_the_webhook_comes_then_it_is_captured(
    any_till: Till,
) -> None:
    placed = await any_till.place(card("tok_transfer_never", "authorise"))
    inline = any_till.shop.client.settings.mount != "child"
    taker = any_till.saga(placed.order_id if inline else f"{placed.order_id}/payment")
    await any_till.waiting(taker)
    await any_till.gateway.settle(placed.order_id, "authorised")
    await any_till.webhook(placed.order_id)
    await order_ended(any_till, placed.order_id, None, [*HELD, *RESERVED, "payment.processed", *COMMITTED])


async def test_given_a_payment_of_its_own_when_it_is_authorised_then_it_says_so_and_takes_nothing(alone: Till) -> None:
    id, handle = await alone.start_payment(card(mode="authorise"))
    assert (await handle.result()).status == "authorised"
    assert (await alone.gateway.status(id)).status == "authorised"
    assert (await alone.gateway.totals("EUR", [id])).taken.amount == 0


async def test_given_a_transfer_when_it_is_to_be_authorised_then_told_that_only_cards_can() -> None:
    with pytest.raises(InvalidInput) as problem:
        PaymentMethod(kind="transfer", token="tok_transfer", mode="authorise")
    assert set(problem.value.problems) == {"mode"}


def test_given_a_method_from_before_there_were_modes_when_read_then_it_is_charged() -> None:
    assert PaymentMethod.model_validate({"kind": "card", "token": "tok_ok"}).mode == "charge"


# Answers that never come


class Mute(SandboxGateway):
    """A provider that does not answer charges and captures; it may have acted, as the token says."""

    async def charge(self, key: str, request: Charge) -> ChargeResult:
        if request.token != "tok_timeout_before":
            await super().charge(key, request.model_copy(update={"token": "tok_ok"}))
        raise GatewayUnavailable("It says nothing")

    async def capture(self, key: str, request: Capture) -> ChargeResult:
        raise GatewayUnavailable("It says nothing")


def mute(resources: Resources) -> list[object]:
    others = [each for each in app.activities(resources) if not isinstance(each, ProviderPayments)]
    return [ProviderPayments(Mute(resources.pool), resources.handler), *others]


@pytest.fixture(scope="module")
async def mute_shop(
    postgres_url: str, template: str, temporal: EmbeddedTemporal, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Till]:
    silent: App = replace(app, activities=mute)
    async with open_till(silent, postgres_url, template, temporal, tmp_path_factory.mktemp("mute")) as till:
        yield till


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that does not come within a second counts as unknown."""
    hasty: Any = replace(CALL, first_pause=timedelta(seconds=0.05), deadline=timedelta(seconds=1))
    monkeypatch.setattr("amends.conduct.CALL", hasty)


@pytest.mark.usefixtures("soon")
async def test_given_a_charge_whose_answer_never_comes_when_it_was_taken_then_the_provider_is_asked_and_believed(
    mute_shop: Till,
) -> None:
    placed = await mute_shop.place(card())
    await order_ended(mute_shop, placed.order_id, None, PAID)
    assert await mute_shop.charges(placed.order_id) == 1


@pytest.mark.usefixtures("soon")
async def test_given_a_charge_whose_answer_never_comes_when_it_was_not_taken_then_it_is_undone_and_can_not_come_late(
    mute_shop: Till,
) -> None:
    placed = await mute_shop.place(card("tok_timeout_before"))
    await order_ended(mute_shop, placed.order_id, "failed", [*PLACED, "payment.failed", "order.cancelled"])
    late = Charge(payment_id=placed.order_id, amount=Money(amount=1250, currency="EUR"), token="tok_ok")
    assert (await mute_shop.gateway.charge(name("late"), late)).reason == "voided"


@pytest.mark.usefixtures("soon")
async def test_given_a_capture_whose_answer_never_comes_when_it_was_not_taken_then_the_order_is_undone(
    mute_shop: Till,
) -> None:
    placed = await mute_shop.place(card(mode="authorise"))
    story = [*HELD, *RESERVED, "payment.failed", *RELEASED, "order.cancelled"]
    await order_ended(mute_shop, placed.order_id, "PaymentDeclined", story)
    late = await mute_shop.gateway.capture(name("late"), Capture(payment_id=placed.order_id))
    assert (late.status, late.reason) == ("declined", "voided")
    happened = await mute_shop.shop.query(order_history.timeline_of(placed.order_id))
    assert [row.detail for row in happened if row.event == "payment.failed"] == ["not_captured"]
