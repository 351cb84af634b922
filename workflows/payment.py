"""Taking a payment, at once or in two steps, and giving it back when its order falls through."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from temporalio import workflow

from activities.gateway import Capture, Charge, ChargeResult, Refund, Token
from activities.payments import PaymentDeclined, Payments
from amends import Call, Key, Money, Personal, Position, Process, Refused, Saga, Value
from amends.policies import CALL
from amends.records import START
from domain.payment import RecordAuthorisation, RecordFailure, RecordPayment, RequestPayment

__all__ = ["Payment", "PaymentMethod", "PaymentOverdue", "PaymentReceipt", "PaymentRequest", "capture_payment"]

FIRST_LOOK = timedelta(seconds=1)
"""How soon the provider is asked about what is pending, without having sent word; the pause doubles from there."""

LONGEST_PAUSE = timedelta(hours=1)
"""The pause never grows beyond this."""

SETTLEMENT = timedelta(days=3)
"""How long a payment may be pending."""

LAST_LOOK = timedelta(minutes=5)
"""How long the provider is asked at least, however near the deadline is."""

NOT_CAPTURED = "not_captured"
"""Why a payment fails whose capture has not been heard of again."""


class PaymentOverdue(Refused):
    """The payment was not confirmed in time"""


class PaymentMethod(Value):
    """How a customer pays.

    Args:
        kind: card (the provider answers at once) or transfer (it is confirmed later).
        token: the provider's token for the card or account; never a card number.
        mode: charge (the money is taken before the goods are reserved) or, for cards, authorise (it is held then, and
            captured when they are).
    """

    kind: Literal["card", "transfer"] = "card"
    token: Personal[Token] = Field(repr=False)
    mode: Literal["charge", "authorise"] = "charge"

    @field_validator("mode")
    @classmethod
    def _cards_alone_hold_money(cls, mode: str, info: ValidationInfo) -> str:
        if mode == "authorise" and info.data.get("kind") != "card":
            raise ValueError("only a card can be authorised")
        return mode


class PaymentRequest(Value):
    """What is to be paid, for which order, how."""

    payment_id: Key
    order_id: Key
    customer_id: Key
    amount: Money
    method: PaymentMethod


class PaymentReceipt(Value):
    """What was paid, or is held until it is captured, and the provider's name for it.

    Args:
        position: where its last event stands in the feed.
    """

    payment_id: Key
    amount: Money
    provider_ref: str
    status: Literal["charged", "authorised"] = "charged"
    position: Position = START


@workflow.defn
class Payment(Process[PaymentRequest, PaymentReceipt]):
    """Request the payment, charge or authorise it, wait for its confirmation where there is one, record it."""

    def __init__(self) -> None:
        super().__init__()
        self._news = False

    @workflow.run
    async def run(self, request: PaymentRequest) -> PaymentReceipt:
        """Take the payment, or have it held.

        Raises:
            PaymentDeclined: the provider said no.
            PaymentOverdue: no confirmation came within three days.
        """
        async with self.saga as saga:
            await self._request(saga, request)
            charge = await self._charge(saga, request)
            charge = await self._settled(saga, request, charge)
            return await _record(saga, request, charge)

    @workflow.signal
    def settled(self) -> None:
        """The provider says it has news of this payment: ask now instead of later."""
        self._news = True

    async def _request(self, saga: Saga, request: PaymentRequest) -> None:
        step = RequestPayment(
            payment_id=request.payment_id,
            order_id=request.order_id,
            customer_id=request.customer_id,
            amount=request.amount,
            method=request.method.kind,
        )
        refund = Refund(payment_id=request.payment_id, currency=request.amount.currency)
        # gives back whatever comes after this too: what was charged, held or captured
        await saga.do(f"request {request.amount}", step, undo=Call(Payments.refund, refund))

    async def _charge(self, saga: Saga, request: PaymentRequest) -> ChargeResult:
        charge = Charge(payment_id=request.payment_id, amount=request.amount, token=request.method.token)
        ask = Call(Payments.status, request.payment_id)
        if request.method.mode == "authorise":
            return await saga.do(f"authorise by {request.method.kind}", Call(Payments.authorise, charge, ask=ask))
        return await saga.do(f"charge by {request.method.kind}", Call(Payments.charge, charge, ask=ask))

    async def _settled(self, saga: Saga, request: PaymentRequest, charge: ChargeResult) -> ChargeResult:
        """Wait for the confirmation: the provider's word, or a look at growing intervals; believe what it answers."""
        pause, overdue = FIRST_LOOK, workflow.now() + SETTLEMENT
        while charge.status == "pending":
            if workflow.now() >= overdue:
                raise PaymentOverdue(payment_id=request.payment_id)
            look = min(workflow.now() + pause, overdue)
            await saga.wait("wait for the confirmation", lambda: self._news, until=look)
            self._news, pause = False, min(pause * 2, LONGEST_PAUSE)
            charge = await saga.do("ask the provider", self._status(request, overdue))
        return charge

    def _status(self, request: PaymentRequest, overdue: datetime) -> Call[ChargeResult]:
        """A provider that is away for a while costs no order: it is asked until the payment is overdue."""
        patience = replace(CALL, deadline=max(overdue - workflow.now(), LAST_LOOK))
        return Call(Payments.status, request.payment_id, policy=patience)


async def capture_payment(saga: Saga, request: PaymentRequest) -> PaymentReceipt:
    """Take what a payment holds; what takes the payment back, takes this back too.

    Args:
        saga: whose step this is; the one that has authorised the payment, before its pivot.
        request: of that payment.

    Raises:
        PaymentDeclined: nothing is held any more, or the provider does not give it after all.
    """
    ask = Call(Payments.status, request.payment_id)
    capture = Call(Payments.capture, Capture(payment_id=request.payment_id), ask=ask)
    charge = await saga.do(f"capture {request.amount}", capture)
    if charge.status == "authorised":  # nobody has answered, and the money is held still
        charge = ChargeResult(status="declined", reason=NOT_CAPTURED)
    return await _record(saga, request, charge)


async def _record(saga: Saga, request: PaymentRequest, charge: ChargeResult) -> PaymentReceipt:
    """Record what the provider has decided; a no ends the saga."""
    payment_id, amount = request.payment_id, request.amount
    reference = charge.provider_ref or payment_id
    match charge.status:
        case "charged":
            step = RecordPayment(payment_id=payment_id, amount=amount, provider_ref=reference)
            await saga.do("record the payment", step)
        case "authorised":
            hold = RecordAuthorisation(payment_id=payment_id, amount=amount, provider_ref=reference)
            await saga.do("record the authorisation", hold)
        case _:
            reason = charge.reason or "declined"
            await saga.do("record the refusal", RecordFailure(payment_id=payment_id, reason=reason))
            raise PaymentDeclined(reason=reason)
    return PaymentReceipt(
        payment_id=payment_id,
        amount=amount,
        provider_ref=reference,
        status=charge.status,
        position=saga.position,
    )
