"""The pretend provider in two steps: a part given back, money held first and taken later."""

import asyncio
from datetime import timedelta

import pytest

from activities import sandbox_gateway
from activities.gateway import (
    ChargeResult,
    GatewayUnavailable,
    Refund,
    RefundExceedsCharge,
    RefundResult,
    RequestRejected,
    UnknownCharge,
)
from activities.sandbox_gateway import SandboxGateway, TestCard
from amends import Money
from tests.gateway.provider import capture, charge, eur, part, refund, result

# A part given back


async def test_a_part_is_given_back_once_for_each_key(gateway: SandboxGateway) -> None:
    await gateway.charge("k1", charge())
    assert await gateway.refund("r1", part(200)) == result(500, 200)
    assert await gateway.refund("r1", part(200)) == result(500, 200)
    assert await gateway.refund("r2", part(200)) == result(500, 400)
    assert await gateway.refund("r1", part(200)) == result(500, 200), "the first answer, whatever has happened since"
    assert await gateway.totals("EUR") == (eur(500), eur(400))


async def test_parts_never_add_up_to_more_than_was_taken(gateway: SandboxGateway) -> None:
    await gateway.charge("k1", charge())
    await gateway.refund("r1", part(300))
    with pytest.raises(RefundExceedsCharge) as refusal:
        await gateway.refund("r2", part(201))
    assert refusal.value.facts == {"payment_id": "p1", "wanted": "2.01 EUR", "left": 200}
    assert await gateway.refund("r2", part(200)) == result(500, 500), "a refused refund leaves its key unused"
    assert await gateway.totals("EUR") == (eur(500), eur(500))


async def test_a_crowd_of_parts_gives_back_no_more_than_was_taken(gateway: SandboxGateway) -> None:
    await gateway.charge("k1", charge())
    asked = [gateway.refund(f"r{number}", part(150)) for number in range(10)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    given = [answer.refunded.amount for answer in answers if isinstance(answer, RefundResult)]
    assert sorted(given) == [150, 300, 450]
    assert sum(isinstance(answer, RefundExceedsCharge) for answer in answers) == 7
    assert await gateway.totals("EUR") == (eur(500), eur(450))


async def test_a_part_and_then_everything_is_everything(gateway: SandboxGateway) -> None:
    await gateway.charge("k1", charge())
    await gateway.refund("r1", part(200))
    assert await gateway.refund("r2", refund()) == result(500, 500)


async def test_a_part_is_given_back_from_one_charge_after_the_other(gateway: SandboxGateway) -> None:
    await gateway.charge("k1", charge())
    await gateway.charge("k2", charge(amount=eur(300)))
    assert await gateway.refund("r1", part(600)) == result(800, 600)
    assert await gateway.refund("r2", part(200)) == result(800, 800)


async def test_a_part_voids_nothing(gateway: SandboxGateway) -> None:
    with pytest.raises(RefundExceedsCharge):
        await gateway.refund("r1", part(1))
    assert (await gateway.charge("k1", charge())).status == "charged"
    await gateway.refund("r2", part(1))
    assert (await gateway.charge("k2", charge())).status == "charged"


@pytest.mark.parametrize("token", [TestCard.DECLINED, TestCard.TRANSFER_NEVER])
async def test_there_is_no_part_of_what_was_not_taken(gateway: SandboxGateway, token: str) -> None:
    await gateway.charge("k1", charge(token))
    with pytest.raises(RefundExceedsCharge):
        await gateway.refund("r1", part(1))


async def test_a_part_in_another_currency_is_rejected(gateway: SandboxGateway) -> None:
    await gateway.charge("k1", charge())
    yen = Money(amount=1, currency="JPY")
    with pytest.raises(RequestRejected, match="currency"):
        await gateway.refund("r1", Refund(payment_id="p1", currency="JPY", amount=yen))
    for wrong in (eur(0), eur(-1), yen):
        with pytest.raises(ValueError, match="amount"):
            Refund(payment_id="p1", currency="EUR", amount=wrong)


# Held first, taken later


async def test_what_is_authorised_is_held_and_not_taken(gateway: SandboxGateway) -> None:
    held = await gateway.authorise("k1", charge())
    assert (held.status, held.reason) == ("authorised", None)
    assert await gateway.authorise("k1", charge()) == held
    assert await gateway.status("p1") == held
    assert await gateway.totals("EUR") == (eur(0), eur(0))


async def test_what_is_held_is_captured_once(gateway: SandboxGateway) -> None:
    held = await gateway.authorise("k1", charge())
    taken = await gateway.capture("k2", capture())
    assert taken == ChargeResult(status="charged", provider_ref=held.provider_ref)
    assert await gateway.capture("k2", capture()) == taken
    assert await gateway.capture("k3", capture()) == taken, "another key takes nothing more"
    assert await gateway.status("p1") == taken
    assert await gateway.totals("EUR") == (eur(500), eur(0))
    assert await gateway.refund("k4", refund()) == result(500, 500)


async def test_a_crowd_of_captures_takes_once(gateway: SandboxGateway) -> None:
    await gateway.authorise("k1", charge())
    answers = await asyncio.gather(*(gateway.capture(f"c{number % 4}", capture()) for number in range(12)))
    assert {answer.status for answer in answers} == {"charged"}
    assert await gateway.totals("EUR") == (eur(500), eur(0))


@pytest.mark.parametrize(
    ("token", "reason"), [(TestCard.DECLINED, "card_declined"), (TestCard.INSUFFICIENT, "insufficient_funds")]
)
async def test_a_bad_card_is_not_authorised(gateway: SandboxGateway, token: str, reason: str) -> None:
    declined = await gateway.authorise("k1", charge(token))
    assert (declined.status, declined.reason) == ("declined", reason)
    assert await gateway.capture("k2", capture()) == declined


@pytest.mark.parametrize(
    ("token", "reason"),
    [(TestCard.CAPTURE_DECLINED, "capture_declined"), (TestCard.HOLD_EXPIRES, "authorisation_expired")],
)
async def test_a_capture_can_be_declined_and_costs_nothing(gateway: SandboxGateway, token: str, reason: str) -> None:
    assert (await gateway.authorise("k1", charge(token))).status == "authorised"
    declined = await gateway.capture("k2", capture())
    assert (declined.status, declined.reason) == ("declined", reason)
    assert await gateway.capture("k2", capture()) == declined
    assert await gateway.status("p1") == declined
    assert await gateway.refund("k3", refund()) == result(0, 0)
    assert await gateway.totals("EUR") == (eur(0), eur(0))


async def test_money_is_not_held_for_ever(gateway: SandboxGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    assert timedelta(days=5) < sandbox_gateway.HELD_FOR < timedelta(days=30)
    monkeypatch.setattr(sandbox_gateway, "HELD_FOR", timedelta(seconds=0.1))
    assert (await gateway.authorise("k1", charge())).status == "authorised"
    await asyncio.sleep(0.15)
    lapsed = await gateway.status("p1")
    assert (lapsed.status, lapsed.reason) == ("declined", "authorisation_expired")
    assert await gateway.capture("k2", capture()) == lapsed


async def test_a_refund_voids_what_is_held(gateway: SandboxGateway) -> None:
    await gateway.authorise("k1", charge())
    assert await gateway.refund("k2", refund()) == result(0, 0)
    late = await gateway.capture("k3", capture())
    assert (late.status, late.reason) == ("declined", "voided")
    assert await gateway.totals("EUR") == (eur(0), eur(0))


async def test_a_refund_that_comes_first_voids_the_authorisation(gateway: SandboxGateway) -> None:
    await gateway.refund("k1", refund())
    assert (await gateway.authorise("k2", charge())).reason == "voided"
    assert (await gateway.capture("k3", capture())).reason == "voided"


async def test_a_capture_and_a_refund_at_once_leave_nothing_taken(gateway: SandboxGateway) -> None:
    for number in range(15):
        name = f"p{number}"
        await gateway.authorise(f"a{number}", charge(payment_id=name))
        answers = await asyncio.gather(
            gateway.capture(f"c{number}", capture(name)), gateway.refund(f"r{number}", refund(name))
        )
        taken = 500 if answers[0].status == "charged" else 0
        assert answers[1] == result(taken, taken)
    totals = await gateway.totals("EUR")
    assert totals.taken == totals.refunded


async def test_what_was_never_authorised_is_not_captured(gateway: SandboxGateway) -> None:
    with pytest.raises(UnknownCharge, match="p1"):
        await gateway.capture("k1", capture())


async def test_an_authorisation_can_come_later(gateway: SandboxGateway, settling: float) -> None:
    assert (await gateway.authorise("k1", charge(TestCard.TRANSFER))).status == "pending"
    with pytest.raises(RequestRejected, match="still pending"):
        await gateway.capture("k2", capture())
    await asyncio.sleep(settling)
    assert (await gateway.status("p1")).status == "authorised"
    assert await gateway.totals("EUR") == (eur(0), eur(0))
    assert (await gateway.capture("k2", capture())).status == "charged"


@pytest.mark.parametrize(
    ("token", "hidden"), [(TestCard.TIMEOUT_BEFORE, "authorised"), (TestCard.TIMEOUT_AFTER, "charged")]
)
async def test_a_capture_times_out_as_a_charge_does(gateway: SandboxGateway, token: str, hidden: str) -> None:
    with pytest.raises(GatewayUnavailable):
        await gateway.authorise("k1", charge(token))
    assert (await gateway.authorise("k1", charge(token))).status == "authorised"
    with pytest.raises(GatewayUnavailable):
        await gateway.capture("k2", capture())
    assert (await gateway.status("p1")).status == hidden
    assert (await gateway.capture("k2", capture())).status == "charged"
    assert await gateway.totals("EUR") == (eur(500), eur(0))


async def test_the_key_of_a_charge_is_no_key_for_an_authorisation(gateway: SandboxGateway) -> None:
    await gateway.charge("k1", charge())
    with pytest.raises(RequestRejected, match="key"):
        await gateway.authorise("k1", charge())
