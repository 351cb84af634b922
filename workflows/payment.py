"""Taking a payment, and giving it back when its order falls through."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

from pydantic import Field
from temporalio import workflow

from activities.gateway import Charge, ChargeResult, Refund
from activities.payments import PaymentDeclined, Payments
from amends import Call, Key, Money, Personal, Process, Refused, Saga, Undo, Value
from domain.payment import RecordFailure, RecordPayment, RequestPayment

__all__ = ["Payment", "PaymentMethod", "PaymentOverdue", "PaymentReceipt", "PaymentRequest"]

FIRST_LOOK = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(hours=1)
SETTLEMENT = timedelta(days=3)


class PaymentOverdue(Refused):
    """The payment was not confirmed in time"""


class PaymentMethod(Value):
    """How a customer pays.

    Args:
        kind: card (the provider answers at once) or transfer (it is confirmed later).
        token: the provider's token for the card or account; never a card number.
    """

    kind: Literal["card", "transfer"] = "card"
    token: Personal[str] = Field(min_length=1, max_length=200, repr=False)


class PaymentRequest(Value):
    """What is to be paid, for which order, how."""

    payment_id: Key
    order_id: Key
    customer_id: Key
    amount: Money
    method: PaymentMethod


class PaymentReceipt(Value):
    """What was paid, and the provider's name for it."""

    payment_id: Key
    amount: Money
    provider_ref: str


@workflow.defn
class Payment(Process[PaymentRequest, PaymentReceipt]):
    """Request the payment, charge it, wait for its confirmation where there is one, record it."""

    def __init__(self) -> None:
        super().__init__()
        self._news = False

    @workflow.run
    async def run(self, request: PaymentRequest) -> PaymentReceipt:
        """Take the payment.

        Raises:
            PaymentDeclined: the provider said no.
            PaymentOverdue: no confirmation came within three days.
        """
        async with self.saga as saga:
            await self._request(saga, request)
            charge = await self._charge(saga, request)
            charge = await self._settled(saga, request, charge)
            return await self._record(saga, request, charge)

    @workflow.signal
    def settled(self) -> None:
        """The provider has news of this payment: look now instead of later."""
        self._news = True

    @classmethod
    def undo(cls, request: PaymentRequest) -> Sequence[Undo]:
        """Give back what was taken, if anything was."""
        refund = Refund(payment_id=request.payment_id, currency=request.amount.currency)
        return [Call(Payments.refund, refund)]

    async def _request(self, saga: Saga, request: PaymentRequest) -> None:
        [refund] = self.undo(request)
        step = RequestPayment(
            payment_id=request.payment_id,
            order_id=request.order_id,
            customer_id=request.customer_id,
            amount=request.amount,
            method=request.method.kind,
        )
        await saga.do(f"request {request.amount}", step, undo=refund)

    async def _charge(self, saga: Saga, request: PaymentRequest) -> ChargeResult:
        charge = Charge(payment_id=request.payment_id, amount=request.amount, token=request.method.token)
        return await saga.do(f"charge by {request.method.kind}", Call(Payments.charge, charge))

    async def _settled(self, saga: Saga, request: PaymentRequest, charge: ChargeResult) -> ChargeResult:
        """Wait for the confirmation: the provider's signal, or a look at growing intervals."""
        pause, overdue = FIRST_LOOK, workflow.now() + SETTLEMENT
        while charge.status == "pending":
            if workflow.now() >= overdue:
                raise PaymentOverdue(payment_id=request.payment_id)
            await saga.wait("wait for the confirmation", lambda: self._news, timeout=pause)
            self._news, pause = False, min(pause * 2, LONGEST_PAUSE)
            charge = await saga.do("ask the provider", Call(Payments.status, request.payment_id))
        return charge

    async def _record(self, saga: Saga, request: PaymentRequest, charge: ChargeResult) -> PaymentReceipt:
        payment_id, reason = request.payment_id, charge.reason or "declined"
        if charge.status == "declined":
            await saga.do("record the refusal", RecordFailure(payment_id=payment_id, reason=reason))
            raise PaymentDeclined(reason=reason)
        reference = charge.provider_ref or payment_id
        step = RecordPayment(payment_id=payment_id, amount=request.amount, provider_ref=reference)
        await saga.do("record the payment", step)
        return PaymentReceipt(payment_id=payment_id, amount=request.amount, provider_ref=reference)
