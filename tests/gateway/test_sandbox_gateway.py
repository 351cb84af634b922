"""The pretend provider: real books, honest keys, and every mishap it promises."""

import asyncio
from time import perf_counter
from typing import Any, Literal

import pytest
from psycopg import AsyncConnection
from psycopg import errors as pg
from sqlalchemy import text

from activities import sandbox_gateway
from activities.gateway import Charge, ChargeResult, GatewayUnavailable, RequestRejected, UnknownCharge
from activities.sandbox_gateway import SandboxGateway, TestCard
from activities.sandbox_ledger import install
from amends import Money
from amends.database import open_pool
from amends.schema import owner_engine
from tests.gateway.provider import charge, eur, gateway_on, refund, result


async def rows(url: str, query: str) -> list[Any]:
    async with await AsyncConnection.connect(url) as connection:
        return await (await connection.execute(query.encode())).fetchall()


async def test_a_good_card_is_charged(gateway: SandboxGateway) -> None:
    answer = await gateway.charge("k1", charge())
    assert (answer.status, answer.reason) == ("charged", None)
    assert answer.provider_ref
    assert await gateway.status("p1") == answer
    assert await gateway.totals("EUR") == (eur(500), eur(0))


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (TestCard.DECLINED, "card_declined"),
        (TestCard.INSUFFICIENT, "insufficient_funds"),
        ("4111111111111111", "unknown_token"),
    ],
)
async def test_a_bad_card_is_declined_and_costs_nothing(gateway: SandboxGateway, token: str, reason: str) -> None:
    answer = await gateway.charge("k1", charge(token))
    assert (answer.status, answer.reason) == ("declined", reason)
    assert await gateway.status("p1") == answer
    assert await gateway.refund("k2", refund()) == result(0, 0)
    assert await gateway.totals("EUR") == (eur(0), eur(0))


@pytest.mark.parametrize("token", [TestCard.OK, TestCard.DECLINED, TestCard.TRANSFER_NEVER])
async def test_the_same_key_gets_the_same_answer(gateway: SandboxGateway, token: str, database_url: str) -> None:
    first = await gateway.charge("k1", charge(token))
    assert await gateway.charge("k1", charge(token)) == first
    assert await rows(database_url, "select count(*) from gateway.charges") == [(1,)]


@pytest.mark.parametrize(
    "other",
    [charge(TestCard.DECLINED), charge(payment_id="p2"), charge(amount=eur(501))],
)
async def test_the_same_key_for_another_charge_is_an_error(gateway: SandboxGateway, other: Charge) -> None:
    await gateway.charge("k1", charge())
    with pytest.raises(RequestRejected, match="key: stands for another request"):
        await gateway.charge("k1", other)
    assert await gateway.totals("EUR") == (eur(500), eur(0))


async def test_the_key_of_a_charge_is_no_key_for_its_refund(gateway: SandboxGateway) -> None:
    await gateway.charge("k1", charge())
    with pytest.raises(RequestRejected, match="key"):
        await gateway.refund("k1", refund())


async def test_a_rejected_request_leaves_its_key_unused(gateway: SandboxGateway) -> None:
    await gateway.charge("k1", charge())
    with pytest.raises(RequestRejected, match="currency"):
        await gateway.refund("k2", refund(currency="USD"))
    assert await gateway.refund("k2", refund()) == result(500, 500)


async def test_another_key_charges_again_for_the_books_hide_no_mistake(gateway: SandboxGateway) -> None:
    await gateway.charge("k1", charge())
    await gateway.charge("k2", charge())
    assert await gateway.totals("EUR") == (eur(1_000), eur(0))
    assert await gateway.refund("k3", refund()) == result(1_000, 1_000)


async def test_a_crowd_with_one_key_charges_once(gateway: SandboxGateway) -> None:
    answers = await asyncio.gather(*(gateway.charge("k1", charge()) for _ in range(20)))
    assert len({answer.provider_ref for answer in answers}) == 1
    assert await gateway.totals("EUR") == (eur(500), eur(0))


async def test_a_charge_must_be_more_than_zero(gateway: SandboxGateway) -> None:
    with pytest.raises(RequestRejected, match="amount: must be more than zero"):
        await gateway.charge("k1", charge(amount=eur(0)))


async def test_a_slow_card_is_charged_at_once_and_answers_late(
    gateway: SandboxGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_gateway, "SLOW_SECONDS", 0.3)
    started = perf_counter()
    answer = await gateway.charge("k1", charge(TestCard.SLOW))
    assert perf_counter() - started >= 0.3
    assert answer.status == "charged"


async def test_giving_up_on_a_slow_card_does_not_undo_the_charge(gateway: SandboxGateway) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(gateway.charge("k1", charge(TestCard.SLOW)), 0.5)
    assert (await gateway.status("p1")).status == "charged"
    assert (await gateway.charge("k1", charge(TestCard.SLOW))).status == "charged"
    assert await gateway.totals("EUR") == (eur(500), eur(0))


async def test_a_timeout_before_the_charge_takes_nothing_until_it_is_repeated(gateway: SandboxGateway) -> None:
    with pytest.raises(GatewayUnavailable):
        await gateway.charge("k1", charge(TestCard.TIMEOUT_BEFORE))
    assert await gateway.totals("EUR") == (eur(0), eur(0))
    with pytest.raises(UnknownCharge, match="p1"):
        await gateway.status("p1")
    assert (await gateway.charge("k1", charge(TestCard.TIMEOUT_BEFORE))).status == "charged"
    assert await gateway.totals("EUR") == (eur(500), eur(0))


async def test_a_timeout_after_the_charge_hides_that_it_was_taken(gateway: SandboxGateway) -> None:
    with pytest.raises(GatewayUnavailable):
        await gateway.charge("k1", charge(TestCard.TIMEOUT_AFTER))
    hidden = await gateway.status("p1")
    assert hidden.status == "charged"
    assert await gateway.charge("k1", charge(TestCard.TIMEOUT_AFTER)) == hidden
    assert await gateway.totals("EUR") == (eur(500), eur(0))


async def test_a_timeout_is_counted_on_the_books_not_in_the_process(gateway: SandboxGateway, database_url: str) -> None:
    with pytest.raises(GatewayUnavailable):
        await gateway.charge("k1", charge(TestCard.TIMEOUT_BEFORE))
    async with gateway_on(database_url) as restarted:
        assert (await restarted.charge("k1", charge(TestCard.TIMEOUT_BEFORE))).status == "charged"


async def test_a_transfer_settles_by_itself(gateway: SandboxGateway, settling: float) -> None:
    answer = await gateway.charge("k1", charge(TestCard.TRANSFER))
    assert answer.status == "pending"
    assert await gateway.status("p1") == answer
    assert await gateway.totals("EUR") == (eur(0), eur(0))
    await asyncio.sleep(settling)
    assert await gateway.totals("EUR") == (eur(500), eur(0)), "settled although nobody asked"
    settled = await asyncio.gather(*(gateway.status("p1") for _ in range(8)))
    assert set(map(repr, settled)) == {repr(ChargeResult(status="charged", provider_ref=answer.provider_ref))}
    assert await gateway.totals("EUR") == (eur(500), eur(0))


async def test_a_transfer_can_fail(gateway: SandboxGateway, settling: float) -> None:
    answer = await gateway.charge("k1", charge(TestCard.TRANSFER_FAILS))
    assert (answer.status, answer.reason) == ("pending", None)
    assert await gateway.status("p1") == answer
    await asyncio.sleep(settling)
    failed = await gateway.status("p1")
    assert (failed.status, failed.reason) == ("declined", "transfer_failed")
    assert await gateway.totals("EUR") == (eur(0), eur(0))


async def test_a_transfer_can_stay_pending(gateway: SandboxGateway, settling: float) -> None:
    await gateway.charge("k1", charge(TestCard.TRANSFER_NEVER))
    await asyncio.sleep(settling)
    assert (await gateway.status("p1")).status == "pending"


@pytest.mark.parametrize(("status", "reason"), [("charged", None), ("declined", "failed")])
async def test_a_pending_transfer_is_decided_when_the_bank_does(
    gateway: SandboxGateway, status: Literal["charged", "declined"], reason: str | None
) -> None:
    pending = await gateway.charge("k1", charge(TestCard.TRANSFER_NEVER))
    await gateway.settle("p1", status)
    decided = await gateway.status("p1")
    assert decided == ChargeResult(status=status, provider_ref=pending.provider_ref, reason=reason)
    await gateway.settle("p1", "declined")
    assert await gateway.status("p1") == decided


async def test_a_refund_gives_everything_back_once(gateway: SandboxGateway) -> None:
    await gateway.charge("k1", charge())
    assert await gateway.refund("k2", refund()) == result(500, 500)
    assert await gateway.refund("k2", refund()) == result(500, 500)
    assert await gateway.refund("k3", refund()) == result(500, 500)
    assert await gateway.totals("EUR") == (eur(500), eur(500))
    assert (await gateway.status("p1")).status == "charged"


async def test_a_crowd_of_refunds_gives_back_once(gateway: SandboxGateway) -> None:
    await gateway.charge("k1", charge())
    answers = await asyncio.gather(*(gateway.refund(f"r{n % 3}", refund()) for n in range(12)))
    assert set(map(repr, answers)) == {repr(result(500, 500))}
    assert await gateway.totals("EUR") == (eur(500), eur(500))


async def test_a_refund_that_comes_first_voids_the_charge(gateway: SandboxGateway) -> None:
    assert await gateway.refund("k2", refund()) == result(0, 0)
    assert await gateway.status("p1") == ChargeResult(status="declined", reason="voided")
    late = await gateway.charge("k1", charge())
    assert (late.status, late.reason) == ("declined", "voided")
    assert await gateway.totals("EUR") == (eur(0), eur(0))


async def test_a_charge_that_timed_out_before_its_refund_is_voided_when_repeated(gateway: SandboxGateway) -> None:
    with pytest.raises(GatewayUnavailable):
        await gateway.charge("k1", charge(TestCard.TIMEOUT_BEFORE))
    assert await gateway.refund("k2", refund()) == result(0, 0)
    assert (await gateway.charge("k1", charge(TestCard.TIMEOUT_BEFORE))).reason == "voided"


@pytest.mark.parametrize("token", [TestCard.TRANSFER, TestCard.TRANSFER_NEVER, TestCard.TRANSFER_FAILS])
async def test_a_refund_voids_what_is_pending(gateway: SandboxGateway, settling: float, token: str) -> None:
    await gateway.charge("k1", charge(token))
    assert await gateway.refund("k2", refund()) == result(0, 0)
    await asyncio.sleep(settling)
    voided = await gateway.status("p1")
    assert (voided.status, voided.reason) == ("declined", "voided")
    assert await gateway.totals("EUR") == (eur(0), eur(0))


async def test_a_transfer_whose_time_has_come_is_refunded_not_voided(gateway: SandboxGateway, settling: float) -> None:
    await gateway.charge("k1", charge(TestCard.TRANSFER))
    await asyncio.sleep(settling)
    assert await gateway.refund("k2", refund()) == result(500, 500)


async def test_a_charge_and_its_refund_at_once_leave_nothing_taken(gateway: SandboxGateway) -> None:
    for number in range(15):
        name = f"p{number}"
        answers = await asyncio.gather(
            gateway.charge(f"c{number}", charge(payment_id=name)), gateway.refund(f"r{number}", refund(name))
        )
        taken = 500 if answers[0].status == "charged" else 0
        assert answers[1] == result(taken, taken)
    totals = await gateway.totals("EUR")
    assert totals.taken == totals.refunded


async def test_totals_keep_currencies_apart(gateway: SandboxGateway) -> None:
    yen = Money(amount=90, currency="JPY")
    await gateway.charge("k1", charge())
    await gateway.charge("k2", charge(payment_id="p2", amount=yen))
    await gateway.refund("k3", refund())
    assert await gateway.totals("EUR") == (eur(500), eur(500))
    assert await gateway.totals("JPY") == (yen, yen * 0)


async def test_the_clear_token_is_kept_nowhere(gateway: SandboxGateway, database_url: str) -> None:
    for number, token in enumerate([*TestCard, "4111111111111111"]):
        if token not in (TestCard.SLOW, TestCard.TIMEOUT_BEFORE, TestCard.TIMEOUT_AFTER):
            await gateway.charge(f"k{number}", charge(token, payment_id=f"p{number}"))
    tables = (
        "select to_jsonb(c)::text from gateway.charges c union all select to_jsonb(r)::text from gateway.requests r"
    )
    kept = str(await rows(database_url, tables))
    assert "4111" not in kept
    assert "tok_" not in kept


def test_the_token_is_not_shown_but_travels() -> None:
    asked = charge("tok_secret")
    assert "secret" not in f"{asked!r} {asked}"
    assert Charge.model_validate_json(asked.model_dump_json()) == asked
    with pytest.raises(ValueError, match="payment_id") as caught:
        Charge.model_validate(
            {"payment_id": "", "amount": {"amount": 1, "currency": "EUR"}, "token": "tok_secret" * 30}
        )
    assert "secret" not in str(caught.value)


async def test_installing_again_and_by_many_at_once_changes_nothing(gateway: SandboxGateway, database_url: str) -> None:
    await gateway.charge("k1", charge())

    def again() -> None:
        with owner_engine(database_url).begin() as connection:
            install(connection)

    await asyncio.gather(*(asyncio.to_thread(again) for _ in range(4)))
    assert await gateway.totals("EUR") == (eur(500), eur(0))


async def test_books_from_before_there_were_authorisations_learn_to_hold_them(
    gateway: SandboxGateway, database_url: str
) -> None:
    await gateway.charge("k1", charge())
    before = """
    alter table gateway.charges drop constraint charges_known_status,
    add constraint charges_status_check check (status in ('charged', 'declined', 'pending'))
    """
    with owner_engine(database_url).begin() as connection:
        connection.execute(text(before))
    with pytest.raises(pg.CheckViolation):
        await gateway.authorise("k2", charge(payment_id="p2"))
    for _ in range(2):
        with owner_engine(database_url).begin() as connection:
            install(connection)
    assert (await gateway.authorise("k2", charge(payment_id="p2"))).status == "authorised"
    assert await gateway.totals("EUR") == (eur(500), eur(0))


async def test_the_writer_can_not_take_a_charge_off_the_books(gateway: SandboxGateway, database_url: str) -> None:
    await gateway.charge("k1", charge())
    async with open_pool(database_url, "writer", 1) as pool, pool.connection() as connection:
        with pytest.raises(pg.InsufficientPrivilege):
            await connection.execute("delete from gateway.charges")
