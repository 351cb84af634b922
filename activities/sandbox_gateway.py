"""A pretend payment provider with real books: what it took and gave back can be counted without asking anybody else.

Like a real provider it keeps a ledger of its own (schema `gateway`), charges once for each idempotency key, and again
for a new key. Unlike one, it misbehaves on demand: see `TestCard`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from activities.gateway import (
    Capture,
    Charge,
    ChargeResult,
    GatewayUnavailable,
    PaymentGateway,
    Refund,
    RefundExceedsCharge,
    RefundResult,
    RequestRejected,
    UnknownCharge,
)
from activities.sandbox_ledger import (
    ADD_CHARGE,
    ANSWER,
    BALANCE,
    CAPTURE,
    CARD,
    GIVE_BACK,
    GIVE_BACK_PART,
    HOLD_PAYMENT,
    LATEST,
    SETTLE,
    SETTLE_NOW,
    TAKE_KEY,
    TAKE_PAYMENT,
    TOTALS,
)
from activities.webhooks import PaymentNews, sign
from amends import Money
from amends.database import Pool

__all__ = ["SandboxGateway", "TestCard", "Totals", "webhook_of"]

SLOW_SECONDS = 2.0
"""How long the slow card's answer takes."""

SETTLING_SECONDS = 1.0
"""How long a transfer is pending."""

HELD_FOR = timedelta(days=7)
"""How long money stays authorised that nobody captures."""

VOIDED = "voided"
"""Why a charge is declined whose payment was undone before."""

EXPIRED = "authorisation_expired"
"""Why a capture is declined that comes too late."""


class TestCard(StrEnum):
    """Tokens that the sandbox knows, by what they do; it declines every other one."""

    __test__ = False  # not a test case, whatever pytest makes of the name

    OK = "tok_ok"
    DECLINED = "tok_declined"
    INSUFFICIENT = "tok_insufficient"
    SLOW = "tok_slow"
    TIMEOUT_BEFORE = "tok_timeout_before"
    TIMEOUT_AFTER = "tok_timeout_after"
    TRANSFER = "tok_transfer"
    TRANSFER_NEVER = "tok_transfer_never"
    TRANSFER_FAILS = "tok_transfer_fails"
    CAPTURE_DECLINED = "tok_capture_declined"
    HOLD_EXPIRES = "tok_hold_expires"


class _Behaviour(NamedTuple):
    """What a token does: the answer, its reason, and for a transfer what it settles as, if ever."""

    status: str
    reason: str | None = None
    settles_as: str | None = None


_CHARGES = _Behaviour("charged")
_BEHAVIOURS = {
    TestCard.DECLINED: _Behaviour("declined", "card_declined"),
    TestCard.INSUFFICIENT: _Behaviour("declined", "insufficient_funds"),
    TestCard.TRANSFER: _Behaviour("pending", None, "charged"),
    TestCard.TRANSFER_NEVER: _Behaviour("pending"),
    TestCard.TRANSFER_FAILS: _Behaviour("pending", "transfer_failed", "declined"),
}
_HOLDS = {
    _CHARGES: _Behaviour("authorised", EXPIRED, "declined"),
    _BEHAVIOURS[TestCard.TRANSFER]: _Behaviour("pending", None, "authorised"),
}
"""What a token does instead when money is to be held and not taken."""


class Totals(NamedTuple):
    """What the provider's books add up to: all taken and all given back, in minor units of one currency."""

    taken: Money
    refunded: Money


class SandboxGateway(PaymentGateway):
    """The pretend provider.

    Args:
        pool: autocommitting connections of the writer role.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def charge(self, key: str, request: Charge) -> ChargeResult:
        """Take money, once for each key, in the way the token asks for.

        Args:
            key: the idempotency key.
            request: from whom, how much.

        Raises:
            GatewayUnavailable: a token wants it so, on the first attempt.
            RequestRejected: the key stands for another request, or the amount is not more than zero.
        """
        return await self._ask(key, "charge", request)

    async def authorise(self, key: str, request: Charge) -> ChargeResult:
        """Hold money for a week, once for each key, in the way the token asks for; otherwise as `charge`."""
        return await self._ask(key, "authorise", request)

    async def capture(self, key: str, request: Capture) -> ChargeResult:
        """Take what is held, once for each key, unless the card declines that or its hold has lapsed.

        Args:
            key: the idempotency key.
            request: of which payment.

        Raises:
            GatewayUnavailable: the token wants it so, on the first attempt.
            RequestRejected: the key stands for another request, or the authorisation is still pending.
            UnknownCharge: there never was an authorisation.
        """
        async with self._pool.connection() as connection, connection.transaction():
            attempt, answer = await self._take(connection, key, "capture", request)
            row = await (await connection.execute(CARD, (request.payment_id,))).fetchone()
            card = None if row is None else _card_named(row[0])
            acts = answer is None and not (card == TestCard.TIMEOUT_BEFORE and attempt == 1)
            if acts:
                answer = await self._capture(connection, key, request)
        return await self._answered(request.payment_id, card, attempt, answer, acts)

    async def status(self, payment_id: str) -> ChargeResult:
        """What became of a payment by now.

        Args:
            payment_id: as charged.

        Raises:
            UnknownCharge: there never was a charge or refund for it.
        """
        async with self._pool.connection() as connection, connection.transaction():
            payment = await (await connection.execute(HOLD_PAYMENT, (payment_id,))).fetchone()
            if payment is None:
                raise UnknownCharge(payment_id=payment_id)
            await connection.execute(SETTLE, (payment_id,))
            return ChargeResult.model_validate(await self._latest(connection, payment_id))

    async def refund(self, key: str, request: Refund) -> RefundResult:
        """Give back a part, or everything and void what is pending, held or never came; once for each key.

        Args:
            key: the idempotency key.
            request: for which payment.

        Raises:
            RequestRejected: the key stands for another request, or the payment is in another currency.
            RefundExceedsCharge: less is left than the part that is wanted.
        """
        async with self._pool.connection() as connection, connection.transaction():
            _, answer = await self._take(connection, key, "refund", request)
            if answer is None:
                answer = await self._refund(connection, key, request)
        return RefundResult.model_validate(answer)

    async def settle(self, payment_id: str, status: Literal["charged", "authorised", "declined"] = "charged") -> None:
        """Let a pending payment be decided now, as the customer's bank would some day.

        Args:
            payment_id: as charged.
            status: how.
        """
        async with self._pool.connection() as connection:
            await connection.execute(SETTLE_NOW, {"payment_id": payment_id, "status": status})

    async def totals(self, currency: str, payments: Sequence[str] | None = None) -> Totals:
        """What the books add up to, counted apart from every event and command.

        Args:
            currency: ISO 4217 code.
            payments: ids of the payments to count; all of them when not given.
        """
        chosen = {"currency": currency, "payments": None if payments is None else list(payments)}
        async with self._pool.connection() as connection:
            row = await (await connection.execute(TOTALS, chosen)).fetchone()
        taken, refunded = row or (0, 0)
        return Totals(Money(amount=taken, currency=currency), Money(amount=refunded, currency=currency))

    async def _ask(self, key: str, kind: str, request: Charge) -> ChargeResult:
        """Charge or authorise."""
        if request.amount.amount <= 0:
            raise RequestRejected({"amount": "must be more than zero"})
        card = next((card for card in TestCard if card == request.token), None)
        async with self._pool.connection() as connection, connection.transaction():
            attempt, answer = await self._take(connection, key, kind, request)
            acts = answer is None and not (card == TestCard.TIMEOUT_BEFORE and attempt == 1)
            if acts:
                answer = await self._charge(connection, key, request, card, holds=kind == "authorise")
        return await self._answered(request.payment_id, card, attempt, answer, acts)

    @staticmethod
    async def _answered(
        payment_id: str, card: TestCard | None, attempt: int, answer: dict[str, Any] | None, acted: bool
    ) -> ChargeResult:
        """Answer as the card wants it: late, or not at all."""
        if acted and card == TestCard.SLOW:
            await asyncio.sleep(SLOW_SECONDS)
        if answer is None or (card == TestCard.TIMEOUT_AFTER and attempt == 1):
            raise GatewayUnavailable(f"No answer about the money for {payment_id}")
        return ChargeResult.model_validate(answer)

    @staticmethod
    async def _take(
        connection: AsyncConnection[TupleRow], key: str, kind: str, request: Charge | Capture | Refund
    ) -> tuple[int, dict[str, Any] | None]:
        """Which attempt under the key this is, and the recorded answer if there is one."""
        fingerprint = sha256(f"{kind} {request.model_dump_json(exclude_none=True)}".encode()).hexdigest()
        row = await (await connection.execute(TAKE_KEY, (key, fingerprint))).fetchone()
        assert row is not None
        if row[0] != fingerprint:
            raise RequestRejected({"key": f"stands for another request than this {kind}"})
        return row[1], row[2]

    @staticmethod
    async def _charge(
        connection: AsyncConnection[TupleRow], key: str, request: Charge, card: TestCard | None, *, holds: bool
    ) -> dict[str, Any]:
        row = await (
            await connection.execute(TAKE_PAYMENT, {"payment_id": request.payment_id, "void": False})
        ).fetchone()
        behaviour = _BEHAVIOURS.get(card, _CHARGES) if card else _Behaviour("declined", "unknown_token")
        if holds:
            behaviour = _HOLDS.get(behaviour, behaviour)
        if row is not None and row[0]:
            behaviour = _Behaviour("declined", VOIDED)
        settles_in = timedelta(seconds=SETTLING_SECONDS)
        if behaviour.status == "authorised":
            settles_in = timedelta() if card == TestCard.HOLD_EXPIRES else HELD_FOR
        provider_ref = f"sandbox-{uuid4().hex}"
        await connection.execute(
            ADD_CHARGE,
            {
                "provider_ref": provider_ref,
                "payment_id": request.payment_id,
                "card": _name_of(card) if card else "unknown",
                "amount": request.amount.amount,
                "currency": request.amount.currency,
                "settles_in": settles_in,
                **behaviour._asdict(),
            },
        )
        reason = behaviour.reason if behaviour.status == "declined" else None
        answer = {"status": behaviour.status, "provider_ref": provider_ref, "reason": reason}
        await connection.execute(ANSWER, (Jsonb(answer), key))
        return answer

    @classmethod
    async def _capture(cls, connection: AsyncConnection[TupleRow], key: str, request: Capture) -> dict[str, Any]:
        id = request.payment_id
        if await (await connection.execute(HOLD_PAYMENT, (id,))).fetchone() is None:
            raise UnknownCharge(payment_id=id)
        await connection.execute(SETTLE, (id,))
        declining = _name_of(TestCard.CAPTURE_DECLINED)
        await connection.execute(CAPTURE, {"payment_id": id, "declining": declining})
        answer = await cls._latest(connection, id)
        if answer["status"] == "pending":
            raise RequestRejected({"payment_id": "its authorisation is still pending"})
        await connection.execute(ANSWER, (Jsonb(answer), key))
        return answer

    @staticmethod
    async def _latest(connection: AsyncConnection[TupleRow], payment_id: str) -> dict[str, Any]:
        """What a payment has come to; one that was undone before it began has come to nothing."""
        row = await (await connection.execute(LATEST, (payment_id,))).fetchone()
        return dict(zip(("status", "provider_ref", "reason"), row or ("declined", None, VOIDED), strict=True))

    @staticmethod
    async def _refund(connection: AsyncConnection[TupleRow], key: str, request: Refund) -> dict[str, Any]:
        id, part = request.payment_id, request.amount
        await connection.execute(TAKE_PAYMENT, {"payment_id": id, "void": part is None})
        await connection.execute(SETTLE, (id,))
        charged = await (await connection.execute(BALANCE, (id,))).fetchall()
        if any(currency != request.currency for currency, _, _ in charged):
            raise RequestRejected({"currency": f"the payment was charged in another one than {request.currency}"})
        if part is None:
            await connection.execute(GIVE_BACK, {"payment_id": id, "voided": VOIDED})
        else:
            left = sum(taken - refunded for _, taken, refunded in charged)
            if part.amount > left:
                raise RefundExceedsCharge(payment_id=id, wanted=str(part), left=left)
            await connection.execute(GIVE_BACK_PART, {"payment_id": id, "part": part.amount})
        rows = await (await connection.execute(BALANCE, (id,))).fetchall()
        answer = {
            "taken": {"amount": sum(taken for _, taken, _ in rows), "currency": request.currency},
            "refunded": {"amount": sum(refunded for _, _, refunded in rows), "currency": request.currency},
        }
        await connection.execute(ANSWER, (Jsonb(answer), key))
        return answer


def webhook_of(payment_id: str, secret: str, at: datetime | None = None) -> tuple[bytes, str]:
    """The webhook that the provider sends when a payment has changed: its body, and its signature.

    Args:
        payment_id: as charged.
        secret: shared with whom it goes to.
        at: when it is sent; now when not given.
    """
    body = PaymentNews(type="payment.changed", payment_id=payment_id).model_dump_json().encode()
    return body, sign(body, secret, at or datetime.now(UTC))


def _name_of(card: TestCard) -> str:
    """What the books call a card, for the token itself is not kept."""
    return card.name.lower()


def _card_named(name: str) -> TestCard | None:
    return next((card for card in TestCard if _name_of(card) == name), None)
