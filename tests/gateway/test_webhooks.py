"""Webhooks: taken from the provider alone, and only now."""

from __future__ import annotations

import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given as forall
from hypothesis import strategies as st

from activities.sandbox_gateway import webhook_of
from activities.webhooks import (
    TOLERANCE,
    PaymentNews,
    WebhookForged,
    WebhookMalformed,
    WebhookStale,
    read_webhook,
    sign,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "whsec_4a1f"
NEWS = PaymentNews(type="payment.changed", payment_id="p1")

BODY, SIGNATURE = webhook_of("p1", SECRET, NOW)


def test_given_a_webhook_of_the_provider_when_read_then_it_names_the_payment() -> None:
    assert read_webhook(BODY, SIGNATURE, SECRET, NOW) == NEWS


def test_given_the_scheme_when_signed_by_others_by_hand_then_it_is_the_same() -> None:
    stamp = int(NOW.timestamp())
    mac = hmac.new(SECRET.encode(), f"{stamp}.".encode() + BODY, "sha256").hexdigest()
    assert f"t={stamp},v1={mac}" == SIGNATURE


def test_given_a_secret_that_is_being_replaced_when_one_of_two_signatures_is_right_then_it_is_taken() -> None:
    other = sign(BODY, "another", NOW).partition(",")[2]
    stamp, _, ours = SIGNATURE.partition(",")
    for both in (f"{stamp},{other},{ours}", f"{stamp}, {ours}, {other}", f"{ours},v0=old,{stamp}"):
        assert read_webhook(BODY, both, SECRET, NOW) == NEWS


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "nonsense",
        SIGNATURE.partition(",")[0],
        SIGNATURE.partition(",")[2],
        SIGNATURE.replace("v1=", "v0="),
        SIGNATURE[:-1],
        SIGNATURE + "0",
        SIGNATURE.upper(),
        SIGNATURE.replace("t=", "t=1"),
        f"{SIGNATURE},{SIGNATURE}",
        "t=,v1=",
        "t=abc,v1=abc",
        f"t={'9' * 5000},v1=abc",
        "t=１７７２３６６４００,v1=abc",
        "v1=\udcff,t=1",
        sign(BODY, "another secret", NOW),
        sign(BODY + b" ", SECRET, NOW),
        sign(b"", SECRET, NOW),
    ],
)
def test_given_a_wrong_signature_when_read_then_forged(signature: str) -> None:
    with pytest.raises(WebhookForged):
        read_webhook(BODY, signature, SECRET, NOW)


@forall(st.binary(max_size=40), st.text(max_size=80))
def test_whatever_is_sent_without_the_secret_is_forged(body: bytes, signature: str) -> None:
    with pytest.raises(WebhookForged):
        read_webhook(body, signature, SECRET, NOW)


@pytest.mark.parametrize("sign_of_time", [1, -1])
def test_given_a_webhook_of_another_time_when_read_then_stale(sign_of_time: int) -> None:
    at_the_edge, beyond = NOW + sign_of_time * TOLERANCE, NOW + sign_of_time * (TOLERANCE + timedelta(seconds=1))
    assert read_webhook(*webhook_of("p1", SECRET, at_the_edge), SECRET, NOW) == NEWS
    with pytest.raises(WebhookStale) as refusal:
        read_webhook(BODY, sign(BODY, SECRET, beyond), SECRET, NOW)
    assert refusal.value.facts == {"signed_at": int(beyond.timestamp()), "now": int(NOW.timestamp())}


def test_given_a_webhook_of_another_time_by_somebody_else_when_read_then_forged() -> None:
    old = sign(BODY, "another secret", NOW - timedelta(days=1))
    with pytest.raises(WebhookForged):
        read_webhook(BODY, old, SECRET, NOW)


@pytest.mark.parametrize(
    ("news", "field"),
    [
        ({"payment_id": "p1"}, "type"),
        ({"type": "payment.changed"}, "payment_id"),
        ({"type": "payment.disputed", "payment_id": "p1"}, "type"),
        ({"type": "payment.changed", "payment_id": "no good"}, "payment_id"),
        ({"type": "payment.changed", "payment_id": 7}, "payment_id"),
        ({"type": "payment.changed", "payment_id": "p1", "amount": 500}, "amount"),
        ([], "input"),
        (None, "input"),
    ],
)
def test_given_a_body_that_is_something_else_when_read_then_told_which_field(news: Any, field: str) -> None:
    body = json.dumps(news).encode()
    with pytest.raises(WebhookMalformed) as refusal:
        read_webhook(body, sign(body, SECRET, NOW), SECRET, NOW)
    assert list(refusal.value.facts["problems"]) == [field]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_given_a_body_that_is_no_json_when_read_then_malformed(body: bytes) -> None:
    with pytest.raises(WebhookMalformed):
        read_webhook(body, sign(body, SECRET, NOW), SECRET, NOW)
