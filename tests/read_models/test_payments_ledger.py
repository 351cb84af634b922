"""The ledger: every movement of money with its sign, and where each payment stands."""

from __future__ import annotations

from datetime import timedelta

import pytest

from amends import InvalidInput
from amends.testing import given
from domain.order import OrderImported
from domain.payment import PaymentAuthorised, PaymentFailed
from read_models.payments_ledger import asked as payments_table
from read_models.payments_ledger import ledger_page, moves, payment, payments
from tests.read_models.past import NOON, Past, asked, eur, given_back, line, paid, sold, usd

held = PaymentAuthorised(payment_id="o1", order_id="o1", amount=eur(900), provider_ref="au_1")
failed = PaymentFailed(payment_id="o1", order_id="o1", reason="voided")


def test_given_a_request_when_the_provider_does_something_then_it_is_a_row_with_its_sign() -> None:
    case = given(payments, asked("o1", eur(900))).when(held, paid("o1", eur(900)), recorded_at=NOON)
    case.then_no_row(moves, 1)
    case.then_row(moves, 2, payment_id="o1", order_id="o1", kind="authorised", amount=0, held=900, at=NOON)
    case.then_row(moves, 3, kind="processed", amount=900, held=0, provider_ref="ch_o1", reason=None)
    case = case.when(given_back("o1", eur(400)), recorded_at=NOON)
    case.then_row(moves, 4, kind="refunded", amount=-400, held=0, provider_ref=None)


def test_given_a_payment_when_it_fails_then_nothing_has_moved() -> None:
    case = given(payments, asked("o1", eur(900)), held).when(failed, recorded_at=NOON)
    case.then_row(moves, 3, kind="failed", amount=0, held=0, reason="voided")
    case.then_row(payments_table, "o1", taken=0, refunded=0, failed_at=NOON, taken_at=None)


async def test_given_payments_when_looked_at_then_each_tells_its_state(past: Past) -> None:
    async def status(order_id: str) -> tuple[str, int, int, int]:
        row = await past.ask(payment(order_id))
        assert row is not None
        return row.status, row.asked, row.taken, row.refunded

    past.happened(NOON, asked("o1", eur(900)))
    assert await status("o1") == ("requested", 900, 0, 0)
    past.happened(NOON, held)
    assert await status("o1") == ("authorised", 900, 0, 0)
    past.happened(NOON, paid("o1", eur(900)))
    assert await status("o1") == ("processed", 900, 900, 0)
    past.happened(NOON, given_back("o1", eur(400)))
    assert await status("o1") == ("processed", 900, 900, 400)
    past.happened(NOON, given_back("o1", eur(500)))
    assert await status("o1") == ("refunded", 900, 900, 900)
    past.happened(NOON, asked("o2", eur(1)), PaymentFailed(payment_id="o2", order_id="o2", reason="declined"))
    assert await status("o2") == ("failed", 1, 0, 0)
    assert await past.ask(payment("o3")) is None


async def test_given_movements_when_asked_for_then_each_bears_method_customer_and_currency_and_filters_hold(
    past: Past,
) -> None:
    later = NOON + timedelta(hours=1)
    past.happened(NOON, asked("o1", eur(900)), held, paid("o1", eur(900)))
    past.happened(NOON, asked("o2", usd(500), "transfer", customer="bob"), paid("o2", usd(500)))
    past.happened(later, given_back("o1", eur(900)))

    async def told(**filters: object) -> list[tuple[str, str, int, str, str, str]]:
        page = await past.ask(ledger_page(**filters))  # type: ignore[arg-type]
        assert page.next is None
        return [(r.order_id, r.kind, r.amount, r.currency, r.method, r.customer_id) for r in page.items]

    first = ("o1", "authorised", 0, "EUR", "card", "ada")
    second = ("o1", "processed", 900, "EUR", "card", "ada")
    third = ("o2", "processed", 500, "USD", "transfer", "bob")
    fourth = ("o1", "refunded", -900, "EUR", "card", "ada")
    assert await told() == [first, second, third, fourth]
    assert await told(order_id="o1") == await told(payment_id="o1") == [first, second, fourth]
    assert await told(customer_id="bob") == await told(method="transfer") == await told(currency="USD") == [third]
    assert await told(kind="processed") == [second, third]
    assert await told(since=later) == [fourth]
    assert await told(until=later) == [first, second, third]
    page = await past.ask(ledger_page(limit=3))
    page = await past.ask(ledger_page(limit=3, after=page.next))
    assert [row.kind for row in page.items] == ["refunded"]
    with pytest.raises(InvalidInput, match="since: must be a datetime with time zone"):
        ledger_page(since=NOON.replace(tzinfo=None))


async def test_given_an_order_taken_over_when_the_ledger_is_added_up_then_it_tells_only_of_money_that_moved_here(
    past: Past,
) -> None:
    lines, then = (line("TEA", 2, eur(450)),), NOON - timedelta(days=900)
    taken_over = OrderImported(
        order_id="old",
        customer_id="ada",
        lines=lines,
        total=eur(900),
        status="refunded",
        paid=eur(900),
        refunded=eur(900),
        reason=None,
        placed_at=then,
        ended_at=then,
    )
    past.happened(NOON, taken_over, sold("new", *lines), given_back("new", eur(100)))
    books = await past.sql("select order_id, paid - refunded, paid from views.order_history order by order_id")
    assert books == [("new", 800, 900), ("old", 0, 900)]
    assert await past.sql("select order_id, sum(amount) from views.payments_ledger group by 1") == [("new", 800)]
    [(comment,)] = await past.sql("select obj_description('views.payments_ledger'::regclass)")
    assert "taken over from another system has no rows" in comment
