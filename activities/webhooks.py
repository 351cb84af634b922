"""Webhooks of the payment provider: whether they are the provider's, and which payment they are about.

A webhook is a hint and nothing more: it says that there is news of a payment, and the news are asked of the provider.
Its signature is `t=<unix seconds>,v1=<hex>`: HMAC-SHA256 of the time, a dot and the body, as several providers do it;
while a secret is being replaced there may be more than one `v1`.
"""

from __future__ import annotations

import hmac
import re
from datetime import datetime, timedelta
from typing import Literal

from pydantic import ValidationError

from amends import Key, Refused, Value
from amends.values import problems_of

__all__ = [
    "TOLERANCE",
    "PaymentNews",
    "WebhookForged",
    "WebhookMalformed",
    "WebhookStale",
    "read_webhook",
    "sign",
    "verify",
]

MAX_BODY = 65_536
"""Longest body, in bytes: news of a payment take a hundred, and nobody is to make us hash a film."""

MAX_SIGNATURE = 4_096
"""Longest signature, in characters."""

TOLERANCE = timedelta(minutes=5)
"""How far a webhook's time may be from ours: a recorded one can't be used for long."""


class WebhookForged(Refused):
    """The webhook is not signed by whom it should be"""


class WebhookStale(Refused):
    """The webhook was signed too long ago, or ahead of time"""


class WebhookMalformed(Refused):
    """The webhook can't be read"""


class PaymentNews(Value):
    """What a webhook says.

    Args:
        type: that a payment has changed; into what is for the provider to say when it is asked.
        payment_id: which payment, as charged.
    """

    type: Literal["payment.changed"]
    payment_id: Key


def sign(body: bytes, secret: str, at: datetime) -> str:
    """The signature that belongs to a body; what a provider does.

    Args:
        body: as sent, byte for byte.
        secret: shared with us.
        at: when it is sent.
    """
    stamp = str(int(at.timestamp()))
    return f"t={stamp},v1={_digest(body, secret, stamp)}"


def verify(body: bytes, signature: str, secret: str, now: datetime) -> None:
    """Check that a body comes from somebody who knows the secret, and comes now.

    Args:
        body: as received, byte for byte.
        signature: the header that came with it.
        secret: shared with the provider.
        now: the time.

    Raises:
        WebhookForged: the signature is not the provider's.
        WebhookStale: it is, but of another time.
    """
    if len(signature) > MAX_SIGNATURE:
        raise WebhookForged
    parts = [part.strip().partition("=") for part in signature.split(",")]
    stamps = [value for name, _, value in parts if name == "t" and re.fullmatch("[0-9]{1,12}", value)]
    if len(stamps) != 1:
        raise WebhookForged
    ours = _digest(body, secret, stamps[0]).encode()
    theirs = [value.encode(errors="replace") for name, _, value in parts if name == "v1"]
    if not any(hmac.compare_digest(ours, each) for each in theirs):
        raise WebhookForged
    signed_at = int(stamps[0])
    if abs(now.timestamp() - signed_at) > TOLERANCE.total_seconds():
        raise WebhookStale(signed_at=signed_at, now=int(now.timestamp()))


def read_webhook(body: bytes, signature: str, secret: str, now: datetime) -> PaymentNews:
    """Check a webhook and read it; arguments and errors of `verify`.

    Raises:
        WebhookMalformed: the body is something else than news of a payment; tells the fields.
    """
    if len(body) > MAX_BODY:
        raise WebhookMalformed(problems={"body": f"is longer than {MAX_BODY} bytes"})
    verify(body, signature, secret, now)
    try:
        return PaymentNews.model_validate_json(body)
    except ValidationError as error:
        raise WebhookMalformed(problems=problems_of(error)) from None


def _digest(body: bytes, secret: str, stamp: str) -> str:
    return hmac.new(secret.encode(), stamp.encode() + b"." + body, "sha256").hexdigest()
