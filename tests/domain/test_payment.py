"""Payments: the books follow the provider, and never give back more than was taken."""

from typing import Any

import pytest
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st

from amends import Claim, InvalidInput, Money
from amends.testing import given
from domain.payment import (
    AmountDiffers,
    NotifyPayment,
    Payment,
    PaymentAlreadyFailed,
    PaymentAlreadyProcessed,
    PaymentAlreadyRefunded,
    PaymentAuthorised,
    PaymentCommand,
    PaymentEnded,
    PaymentEvent,
    PaymentExists,
    PaymentFailed,
    PaymentProcessed,
    PaymentRefunded,
    PaymentRequested,
    RecordAuthorisation,
    RecordFailure,
    RecordPayment,
    RecordRefund,
    RefundTooHigh,
    RequestPayment,
    UnknownPayment,
)


def eur(amount: int) -> Money:
    return Money(amount=amount, currency="EUR")


def refund(taken: int, refunded: int) -> RecordRefund:
    return RecordRefund(payment_id="p1", taken=eur(taken), refunded=eur(refunded))


def given_back(amount: int) -> PaymentRefunded:
    return PaymentRefunded(payment_id="p1", order_id="o1", amount=eur(amount))


request = RequestPayment(payment_id="p1", order_id="o1", customer_id="c1", amount=eur(500), method="card")
requested = PaymentRequested(payment_id="p1", order_id="o1", customer_id="c1", amount=eur(500), method="card")
authorise = RecordAuthorisation(payment_id="p1", amount=eur(500), provider_ref="ch_1")
authorised = PaymentAuthorised(payment_id="p1", order_id="o1", amount=eur(500), provider_ref="ch_1")
record = RecordPayment(payment_id="p1", amount=eur(500), provider_ref="ch_1")
processed = PaymentProcessed(payment_id="p1", order_id="o1", amount=eur(500), provider_ref="ch_1")
found = PaymentProcessed(payment_id="p1", order_id="o1", amount=eur(500), provider_ref="unknown")
fail = RecordFailure(payment_id="p1", reason="card_declined")
failed = PaymentFailed(payment_id="p1", order_id="o1", reason="card_declined")
voided = PaymentFailed(payment_id="p1", order_id="o1", reason="voided")
refunded = given_back(500)
notify = NotifyPayment(payment_id="p1")

AUTHORISED = [requested, authorised]
CAPTURED = [requested, authorised, processed]
PROCESSED = [requested, processed]
FAILED = [requested, failed]
REFUNDED = [requested, processed, refunded]


# The request


def test_a_payment_is_requested_and_claims_its_id() -> None:
    claim = Claim("payment", "p1", PaymentEnded(payment_id="p1"))
    case = given(Payment).when(request).then(requested).then_claims(claim)
    assert (case.state.status, case.state.amount) == ("requested", eur(500))


def test_the_same_request_again_is_no_second_one() -> None:
    given(Payment, requested).when(request).then_nothing()


@pytest.mark.parametrize(
    "change", [{"amount": eur(501)}, {"order_id": "o2"}, {"customer_id": "c2"}, {"method": "transfer"}]
)
def test_another_request_under_the_same_id_is_refused(change: dict[str, Any]) -> None:
    other = RequestPayment(**{**request.model_dump(), **change})
    given(Payment, requested).when(other).then_refused(PaymentExists, payment_id="p1", status="requested")


@pytest.mark.parametrize(
    ("events", "status"),
    [(AUTHORISED, "authorised"), (PROCESSED, "processed"), (FAILED, "failed"), (REFUNDED, "refunded")],
)
def test_a_request_does_not_start_again_what_is_decided(events: list[PaymentEvent], status: str) -> None:
    given(Payment, *events).when(request).then_refused(PaymentExists, payment_id="p1", status=status)


@pytest.mark.parametrize("amount", [0, -1])
def test_nobody_is_asked_for_nothing(amount: int) -> None:
    with pytest.raises(InvalidInput, match="amount"):
        RequestPayment(payment_id="p1", order_id="o1", customer_id="c1", amount=eur(amount), method="card")


def test_no_message_has_room_for_a_card() -> None:
    for message in (*Payment.commands, *Payment.events):
        assert not {"token", "card", "number"} & message.model_fields.keys()


# The answer


def test_a_requested_payment_is_taken() -> None:
    case = given(Payment, requested).when(record).then(processed).then_claims()
    assert (case.state.status, case.state.taken, case.state.refunded) == ("processed", 500, 0)


@pytest.mark.parametrize("events", [PROCESSED, REFUNDED])
def test_the_same_answer_again_changes_nothing(events: list[PaymentEvent]) -> None:
    given(Payment, *events).when(record).then_nothing()


@pytest.mark.parametrize(("events", "status"), [(PROCESSED, "processed"), (REFUNDED, "refunded")])
def test_a_second_charge_for_one_payment_is_refused(events: list[PaymentEvent], status: str) -> None:
    second = RecordPayment(payment_id="p1", amount=eur(500), provider_ref="ch_2")
    facts = {"payment_id": "p1", "status": status, "provider_ref": "ch_1"}
    given(Payment, *events).when(second).then_refused(PaymentAlreadyProcessed, **facts)


@pytest.mark.parametrize("events", [[requested], PROCESSED])
def test_what_is_taken_is_what_was_asked_for(events: list[PaymentEvent]) -> None:
    less = RecordPayment(payment_id="p1", amount=eur(499), provider_ref="ch_1")
    facts = {"payment_id": "p1", "recorded": "5.00 EUR", "told": "4.99 EUR"}
    given(Payment, *events).when(less).then_refused(AmountDiffers, **facts)


def test_a_failed_payment_is_not_taken_any_more() -> None:
    facts = {"payment_id": "p1", "reason": "card_declined"}
    given(Payment, *FAILED).when(record).then_refused(PaymentAlreadyFailed, **facts)


def test_a_requested_payment_fails_once() -> None:
    given(Payment, requested).when(fail).then(failed).then_claims()
    given(Payment, *FAILED).when(fail).then_nothing()
    given(Payment, requested, voided).when(fail).then_nothing()


@pytest.mark.parametrize(("events", "status"), [(PROCESSED, "processed"), (REFUNDED, "refunded")])
def test_a_payment_that_was_taken_does_not_fail(events: list[PaymentEvent], status: str) -> None:
    given(Payment, *events).when(fail).then_refused(PaymentAlreadyProcessed, payment_id="p1", status=status)


@pytest.mark.parametrize("command", [authorise, record, fail, notify, refund(500, 500)])
def test_nothing_is_known_of_what_was_never_requested(command: PaymentCommand) -> None:
    given(Payment).when(command).then_refused(UnknownPayment, payment_id="p1")


# Held first, taken later


def test_a_requested_payment_is_authorised_and_nothing_is_taken_yet() -> None:
    case = given(Payment, requested).when(authorise).then(authorised).then_claims()
    assert (case.state.status, case.state.taken) == ("authorised", 0)


def test_what_is_held_is_captured() -> None:
    case = given(Payment, *AUTHORISED).when(record).then(processed).then_claims()
    assert (case.state.status, case.state.taken) == ("processed", 500)


def test_a_capture_may_have_a_name_of_its_own() -> None:
    capture = RecordPayment(payment_id="p1", amount=eur(500), provider_ref="cap_1")
    named = PaymentProcessed(payment_id="p1", order_id="o1", amount=eur(500), provider_ref="cap_1")
    given(Payment, *AUTHORISED).when(capture).then(named)


@pytest.mark.parametrize("events", [AUTHORISED, CAPTURED, [*CAPTURED, refunded]])
def test_the_same_authorisation_again_changes_nothing(events: list[PaymentEvent]) -> None:
    given(Payment, *events).when(authorise).then_nothing()


@pytest.mark.parametrize(("events", "status"), [(AUTHORISED, "authorised"), (CAPTURED, "processed")])
def test_a_second_authorisation_for_one_payment_is_refused(events: list[PaymentEvent], status: str) -> None:
    second = RecordAuthorisation(payment_id="p1", amount=eur(500), provider_ref="ch_2")
    facts = {"payment_id": "p1", "status": status, "provider_ref": "ch_1"}
    given(Payment, *events).when(second).then_refused(PaymentAlreadyProcessed, **facts)


def test_what_is_held_is_what_was_asked_for() -> None:
    less = RecordAuthorisation(payment_id="p1", amount=eur(499), provider_ref="ch_1")
    facts = {"payment_id": "p1", "recorded": "5.00 EUR", "told": "4.99 EUR"}
    given(Payment, requested).when(less).then_refused(AmountDiffers, **facts)


def test_a_failed_payment_is_not_authorised_any_more() -> None:
    facts = {"payment_id": "p1", "reason": "card_declined"}
    given(Payment, *FAILED).when(authorise).then_refused(PaymentAlreadyFailed, **facts)


def test_an_authorisation_fails_when_it_is_not_captured() -> None:
    given(Payment, *AUTHORISED).when(fail).then(failed)


def test_an_authorisation_that_is_undone_is_voided() -> None:
    given(Payment, *AUTHORISED).when(refund(0, 0)).then(voided)
    given(Payment, *AUTHORISED).when(refund(500, 500)).then(found, refunded)


# The provider's word


@pytest.mark.parametrize("events", [[requested], AUTHORISED])
def test_news_of_a_payment_that_waits_change_nothing_by_themselves(events: list[PaymentEvent]) -> None:
    given(Payment, *events).when(notify).then_nothing()


@pytest.mark.parametrize("events", [PROCESSED, CAPTURED, [*PROCESSED, given_back(200)]])
def test_news_of_a_payment_that_was_taken_are_refused(events: list[PaymentEvent]) -> None:
    facts = {"payment_id": "p1", "status": "processed"}
    given(Payment, *events).when(notify).then_refused(PaymentAlreadyProcessed, **facts)


def test_news_of_a_payment_that_failed_are_refused() -> None:
    facts = {"payment_id": "p1", "reason": "card_declined"}
    given(Payment, *FAILED).when(notify).then_refused(PaymentAlreadyFailed, **facts)


def test_news_of_a_payment_that_was_given_back_are_refused() -> None:
    facts = {"payment_id": "p1", "status": "refunded"}
    given(Payment, *REFUNDED).when(notify).then_refused(PaymentAlreadyRefunded, **facts)


# The undo


def test_a_processed_payment_is_refunded() -> None:
    case = given(Payment, *PROCESSED).when(refund(500, 500)).then(refunded).then_claims()
    assert (case.state.status, case.state.refunded) == ("refunded", 500)


def test_a_refund_in_parts_records_what_is_new() -> None:
    case = given(Payment, *PROCESSED).when(refund(500, 200)).then(given_back(200))
    assert case.state.status == "processed"
    case = case.when(refund(500, 500)).then(given_back(300))
    assert case.state.status == "refunded"


@pytest.mark.parametrize("back", [0, 200, 500])
def test_the_same_or_older_news_of_a_refund_change_nothing(back: int) -> None:
    given(Payment, *REFUNDED).when(refund(500, back)).then_nothing()


def test_nothing_given_back_yet_is_no_refund() -> None:
    given(Payment, *PROCESSED).when(refund(500, 0)).then_nothing()


def test_a_charge_whose_answer_got_lost_is_recorded_with_its_refund() -> None:
    given(Payment, requested).when(refund(500, 500)).then(found, refunded)
    given(Payment, requested).when(refund(500, 0)).then(found)


def test_a_charge_that_never_came_is_voided() -> None:
    case = given(Payment, requested).when(refund(0, 0)).then(voided).then_claims()
    case.when(refund(0, 0)).then_nothing()


def test_a_failed_payment_needs_no_refund() -> None:
    given(Payment, *FAILED).when(refund(0, 0)).then_nothing()


def test_money_taken_after_we_gave_up_is_on_the_books_all_the_same() -> None:
    case = given(Payment, *FAILED).when(refund(500, 500)).then(found, refunded)
    assert (case.state.status, case.state.taken, case.state.refunded) == ("refunded", 500, 500)


def test_an_undo_that_comes_first_leaves_a_tombstone() -> None:
    tombstone = Claim("payment", "p1", None)
    case = given(Payment).when(refund(0, 0)).then().then_claims(tombstone)
    case.when(refund(0, 0)).then().then_claims(tombstone)
    case.when(request).then_refused(PaymentEnded, payment_id="p1")


@pytest.mark.parametrize("events", [[requested], PROCESSED, FAILED, REFUNDED])
def test_more_than_was_taken_is_not_given_back(events: list[PaymentEvent]) -> None:
    facts = {"payment_id": "p1", "taken": "5.00 EUR", "refunded": "5.01 EUR"}
    given(Payment, *events).when(refund(500, 501)).then_refused(RefundTooHigh, **facts)


@pytest.mark.parametrize("taken", [0, 499, 501])
def test_a_provider_that_tells_of_another_amount_needs_a_person(taken: int) -> None:
    facts = {"payment_id": "p1", "recorded": "5.00 EUR", "told": str(eur(taken))}
    given(Payment, *PROCESSED).when(refund(taken, 0)).then_refused(AmountDiffers, **facts)


@pytest.mark.parametrize(("events", "recorded"), [([requested], "0.00 EUR"), (PROCESSED, "5.00 EUR")])
def test_a_provider_that_tells_of_another_currency_needs_a_person(events: list[PaymentEvent], recorded: str) -> None:
    dollars = Money(amount=500, currency="USD")
    told = RecordRefund(payment_id="p1", taken=dollars, refunded=dollars)
    facts = {"payment_id": "p1", "recorded": recorded, "told": "5.00 USD"}
    given(Payment, *events).when(told).then_refused(AmountDiffers, **facts)


def test_a_refund_is_told_in_one_currency_and_not_below_zero() -> None:
    with pytest.raises(InvalidInput, match=r"refunded: .*must be in the currency"):
        RecordRefund(payment_id="p1", taken=eur(1), refunded=Money(amount=1, currency="USD"))
    with pytest.raises(InvalidInput, match=r"refunded: .*below zero"):
        refund(0, -1)
    with pytest.raises(InvalidInput, match=r"taken: .*below zero"):
        refund(-1, 0)


some = st.sampled_from([0, 200, 500, 700])
commands: st.SearchStrategy[PaymentCommand] = st.one_of(
    st.sampled_from([request, authorise, record, fail, notify]), st.builds(refund, some, some)
)


@forall(st.lists(commands, max_size=15))
@settings(deadline=None)
def test_whatever_is_told_no_more_is_given_back_than_was_taken_and_it_is_taken_once(
    asked: list[PaymentCommand],
) -> None:
    case, taken, back, times = given(Payment), 0, 0, 0
    for command in asked:
        case = case.when(command)
        for event in case.events:
            match event:
                case PaymentProcessed(amount=amount):
                    taken, times = taken + amount.amount, times + 1
                case PaymentRefunded(amount=amount):
                    assert amount.amount > 0
                    back += amount.amount
        assert (case.state.taken, case.state.refunded) == (taken, back)
        assert 0 <= back <= taken
        assert times <= 1
