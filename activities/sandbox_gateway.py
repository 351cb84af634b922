"""A pretend payment provider with real books: what it took and gave back can be counted without asking anybody else.

Like a real provider it keeps a ledger of its own (schema `gateway`), charges once for each idempotency key, and again
for a new key. Unlike one, it misbehaves on demand: see `TestCard`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import uuid4

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from activities.gateway import (
    Charge,
    ChargeResult,
    GatewayUnavailable,
    PaymentGateway,
    Refund,
    RefundResult,
    RequestRejected,
    UnknownCharge,
)
from amends import Money
from amends.database import Pool

__all__ = ["SandboxGateway", "TestCard", "Totals", "install", "ledger_metadata"]

SLOW_SECONDS = 2.0
"""How long the slow card's answer takes."""

SETTLING_SECONDS = 1.0
"""How long a transfer is pending."""

VOIDED = "voided"
"""Why a charge is declined whose payment was undone before."""


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
    **dict.fromkeys((TestCard.OK, TestCard.SLOW, TestCard.TIMEOUT_BEFORE, TestCard.TIMEOUT_AFTER), _CHARGES),
}

ledger_metadata = MetaData(schema="gateway")
"""The sandbox's books."""

requests = Table(
    "requests",
    ledger_metadata,
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False, comment="Hash of the request, to tell a repeat from another request."),
    Column("attempts", Integer, nullable=False, comment="How often it came."),
    Column("answer", JSONB(none_as_null=True), comment="What was answered, and will be again; null before that."),
    comment="Idempotency keys: each acts once.",
)
payments = Table(
    "payments",
    ledger_metadata,
    Column("payment_id", Text, primary_key=True),
    Column("voided", Boolean, nullable=False, comment="Given back, or called off: later charges are declined."),
    comment="Payments that charges and refunds are about; the row is what they take turns on.",
)
charges = Table(
    "charges",
    ledger_metadata,
    Column("provider_ref", Text, primary_key=True),
    Column("payment_id", Text, nullable=False, index=True),
    Column("card", Text, nullable=False, comment="Which test card; the token itself is not kept."),
    Column("amount", BigInteger, CheckConstraint("amount > 0"), nullable=False, comment="Minor units."),
    Column("currency", Text, nullable=False),
    Column("status", Text, CheckConstraint("status in ('charged', 'declined', 'pending')"), nullable=False),
    Column("reason", Text, comment="Why it was, or will be, declined."),
    Column("settles_as", Text, comment="What a transfer becomes at settles_at."),
    Column("settles_at", DateTime(timezone=True)),
    Column("refunded", BigInteger, nullable=False, server_default=text("0"), comment="Minor units given back."),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("refunded >= 0 and refunded <= amount and (refunded = 0 or status = 'charged')", name="no_gain"),
    comment="Money asked for: one row each time a key acted.",
)

TAKE_KEY = """
insert into gateway.requests (key, fingerprint, attempts) values (%s, %s, 1)
on conflict (key) do update set attempts = requests.attempts + 1
returning fingerprint, attempts, answer
"""
"""Count an attempt under a key, and wait for whoever is at work on it."""

ANSWER = "update gateway.requests set answer = %s where key = %s"
"""Keep the answer for repeats."""

TAKE_PAYMENT = """
insert into gateway.payments (payment_id, voided) values (%(payment_id)s, %(void)s)
on conflict (payment_id) do update set voided = payments.voided or excluded.voided
returning voided
"""
"""Take turns on a payment, voiding it where asked to."""

HOLD_PAYMENT = "select voided from gateway.payments where payment_id = %s for update"
"""Take turns on a payment, if there is one."""

ADD_CHARGE = """
insert into gateway.charges
    (provider_ref, payment_id, card, amount, currency, status, reason, settles_as, settles_at)
values (%(provider_ref)s, %(payment_id)s, %(card)s, %(amount)s, %(currency)s, %(status)s, %(reason)s,
        %(settles_as)s, case when %(settles_as)s::text is not null then clock_timestamp() + %(settles_in)s end)
"""
"""Put a charge on the books."""

SETTLE = """
update gateway.charges set status = settles_as
where payment_id = %s and status = 'pending' and settles_at <= clock_timestamp()
"""
"""Let the transfers of a payment settle whose time has come."""

LATEST = """
select status, provider_ref, case when status = 'declined' then reason end from gateway.charges
where payment_id = %s
order by array_position(array['charged', 'pending', 'declined'], status), created_at desc limit 1
"""
"""What a payment has come to: charged if any charge is, else pending if any is, else the last one declined."""

GIVE_BACK = """
update gateway.charges
set refunded = case when status = 'charged' then amount else 0 end,
    status = case when status = 'pending' then 'declined' else status end,
    reason = case when status = 'pending' then %(voided)s else reason end,
    settles_as = null, settles_at = null
where payment_id = %(payment_id)s
returning currency, case when status = 'charged' then amount else 0 end, refunded
"""
"""Give back what was taken for a payment and void what is pending."""

TOTALS = """
select coalesce(sum(amount), 0)::bigint, coalesce(sum(refunded), 0)::bigint from gateway.charges
where currency = %(currency)s and (%(payments)s::text[] is null or payment_id = any(%(payments)s))
  and (status = 'charged' or (status = 'pending' and settles_as = 'charged' and settles_at <= clock_timestamp()))
"""
"""All that was taken and given back in a currency; transfers count from the moment they settle."""


class Totals(NamedTuple):
    """What the provider's books add up to: all taken and all given back, in minor units of one currency."""

    taken: Money
    refunded: Money


def install(connection: Connection) -> None:
    """Create the sandbox's books where they are missing, and let the writer role keep them.

    Args:
        connection: of the database's owner; the roles must be there. All happens in its transaction.
    """
    connection.execute(select(func.pg_advisory_xact_lock(func.hashtext("gateway.install"))))
    connection.execute(text("create schema if not exists gateway"))
    ledger_metadata.create_all(connection)
    connection.execute(text("grant usage on schema gateway to amends_writer"))
    connection.execute(text("grant select, insert, update on all tables in schema gateway to amends_writer"))


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
        if request.amount.amount <= 0:
            raise RequestRejected({"amount": "must be more than zero"})
        async with self._pool.connection() as connection, connection.transaction():
            attempt, answer = await self._take(connection, key, "charge", request)
            acts = answer is None and not (request.token == TestCard.TIMEOUT_BEFORE and attempt == 1)
            if acts:
                answer = await self._charge(connection, key, request)
        if acts and request.token == TestCard.SLOW:
            await asyncio.sleep(SLOW_SECONDS)
        if answer is None or (request.token == TestCard.TIMEOUT_AFTER and attempt == 1):
            raise GatewayUnavailable(f"No answer about the charge for {request.payment_id}")
        return ChargeResult.model_validate(answer)

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
            latest = await (await connection.execute(LATEST, (payment_id,))).fetchone()
        status, provider_ref, reason = latest or ("declined", None, VOIDED)
        return ChargeResult(status=status, provider_ref=provider_ref, reason=reason)

    async def refund(self, key: str, request: Refund) -> RefundResult:
        """Give everything back, once for each key; void what is pending or never came.

        Args:
            key: the idempotency key.
            request: for which payment.

        Raises:
            RequestRejected: the key stands for another request, or the payment is in another currency.
        """
        async with self._pool.connection() as connection, connection.transaction():
            _, answer = await self._take(connection, key, "refund", request)
            if answer is None:
                answer = await self._refund(connection, key, request)
        return RefundResult.model_validate(answer)

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

    @staticmethod
    async def _take(
        connection: AsyncConnection[TupleRow], key: str, kind: str, request: Charge | Refund
    ) -> tuple[int, dict[str, Any] | None]:
        """Which attempt under the key this is, and the recorded answer if there is one."""
        fingerprint = sha256(f"{kind} {request.model_dump_json()}".encode()).hexdigest()
        row = await (await connection.execute(TAKE_KEY, (key, fingerprint))).fetchone()
        assert row is not None
        if row[0] != fingerprint:
            raise RequestRejected({"key": f"stands for another request than this {kind}"})
        return row[1], row[2]

    @staticmethod
    async def _charge(connection: AsyncConnection[TupleRow], key: str, request: Charge) -> dict[str, Any]:
        row = await (
            await connection.execute(TAKE_PAYMENT, {"payment_id": request.payment_id, "void": False})
        ).fetchone()
        voided = row is not None and row[0]
        card = next((card for card in TestCard if card == request.token), None)
        behaviour = _BEHAVIOURS[card] if card else _Behaviour("declined", "unknown_token")
        if voided:
            behaviour = _Behaviour("declined", VOIDED)
        provider_ref = f"sandbox-{uuid4().hex}"
        await connection.execute(
            ADD_CHARGE,
            {
                "provider_ref": provider_ref,
                "payment_id": request.payment_id,
                "card": card.name.lower() if card else "unknown",
                "amount": request.amount.amount,
                "currency": request.amount.currency,
                "settles_in": timedelta(seconds=SETTLING_SECONDS),
                **behaviour._asdict(),
            },
        )
        reason = behaviour.reason if behaviour.status == "declined" else None
        answer = {"status": behaviour.status, "provider_ref": provider_ref, "reason": reason}
        await connection.execute(ANSWER, (Jsonb(answer), key))
        return answer

    @staticmethod
    async def _refund(connection: AsyncConnection[TupleRow], key: str, request: Refund) -> dict[str, Any]:
        await connection.execute(TAKE_PAYMENT, {"payment_id": request.payment_id, "void": True})
        await connection.execute(SETTLE, (request.payment_id,))
        rows = await (
            await connection.execute(GIVE_BACK, {"payment_id": request.payment_id, "voided": VOIDED})
        ).fetchall()
        if any(currency != request.currency for currency, _, _ in rows):
            raise RequestRejected({"currency": f"the payment was charged in another one than {request.currency}"})
        answer = {
            "taken": {"amount": sum(taken for _, taken, _ in rows), "currency": request.currency},
            "refunded": {"amount": sum(refunded for _, _, refunded in rows), "currency": request.currency},
        }
        await connection.execute(ANSWER, (Jsonb(answer), key))
        return answer
