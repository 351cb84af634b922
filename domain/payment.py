"""Payments: what was asked for, what the provider took, what it gave back."""

from __future__ import annotations

from typing import Literal, Self, assert_never

from pydantic import ValidationInfo, field_validator

from amends import Aggregate, Claim, Command, Decision, Event, Key, Money, Refused
from domain.values import NotNegativeMoney, PositiveMoney, ShortText

__all__ = [
    "UNKNOWN_REF",
    "VOIDED",
    "AmountDiffers",
    "NotifyPayment",
    "Payment",
    "PaymentAlreadyFailed",
    "PaymentAlreadyProcessed",
    "PaymentAlreadyRefunded",
    "PaymentAuthorised",
    "PaymentCommand",
    "PaymentEnded",
    "PaymentEvent",
    "PaymentExists",
    "PaymentFailed",
    "PaymentMethod",
    "PaymentProcessed",
    "PaymentRefunded",
    "PaymentRequested",
    "RecordAuthorisation",
    "RecordFailure",
    "RecordPayment",
    "RecordRefund",
    "RefundTooHigh",
    "RequestPayment",
    "UnknownPayment",
]

PaymentMethod = Literal["card", "transfer"]

VOIDED = "voided"
"""Why a payment failed that was undone before anything was taken."""

UNKNOWN_REF = "unknown"
"""The provider's reference of a charge whose answer got lost."""


class PaymentExists(Refused):
    """There is a payment with this id already"""


class PaymentEnded(Refused):
    """The payment was undone before it was requested; a new one needs a new id"""


class UnknownPayment(Refused):
    """There is no payment with this id"""


class PaymentAlreadyFailed(Refused):
    """The payment has failed already"""


class PaymentAlreadyProcessed(Refused):
    """The payment has been taken already"""


class PaymentAlreadyRefunded(Refused):
    """The payment has been given back already"""


class AmountDiffers(Refused):
    """The provider tells of another amount than is on record"""


class RefundTooHigh(Refused):
    """More would be given back than was taken"""


class RequestPayment(Command, name="payment.request"):
    """Ask a customer for money.

    Args:
        payment_id: names the payment, for ever.
        order_id: what it pays for.
        customer_id: who pays.
        amount: how much, in minor units.
        method: how.
    """

    payment_id: Key
    order_id: Key
    customer_id: Key
    amount: PositiveMoney
    method: PaymentMethod


class RecordAuthorisation(Command, name="payment.record_authorisation"):
    """Note that the provider holds the money for us; it is taken later, or let go.

    Args:
        payment_id: which payment.
        amount: how much, in minor units; all that was asked for.
        provider_ref: what the provider calls it.
    """

    payment_id: Key
    amount: PositiveMoney
    provider_ref: ShortText


class RecordPayment(Command, name="payment.record"):
    """Note that the provider has taken the money.

    Args:
        payment_id: which payment.
        amount: how much, in minor units; all that was asked for.
        provider_ref: what the provider calls it.
    """

    payment_id: Key
    amount: PositiveMoney
    provider_ref: ShortText


class RecordFailure(Command, name="payment.record_failure"):
    """Note that the provider will not take the money.

    Args:
        payment_id: which payment.
        reason: why, as the provider put it.
    """

    payment_id: Key
    reason: ShortText


class NotifyPayment(Command, name="payment.notify"):
    """Note that the provider says it has news; what they are is asked of the provider, so this changes nothing.

    Args:
        payment_id: which payment; it must still wait for something.
    """

    payment_id: Key


class RecordRefund(Command, name="payment.record_refund"):
    """Note what the provider has given back, whatever was known before.

    Args:
        payment_id: which payment.
        taken: what the provider says it had taken, in minor units; 0 when it never charged.
        refunded: what it has given back by now, all together, in minor units.
    """

    payment_id: Key
    taken: NotNegativeMoney
    refunded: NotNegativeMoney

    @field_validator("refunded")
    @classmethod
    def _in_the_currency_taken(cls, refunded: Money, info: ValidationInfo) -> Money:
        taken = info.data.get("taken")
        if taken is not None and taken.currency != refunded.currency:
            raise ValueError("must be in the currency of what was taken")
        return refunded


class PaymentRequested(Event, name="payment.requested"):
    """A customer was asked for money.

    Args:
        payment_id: which payment.
        order_id: what it pays for.
        customer_id: who pays.
        amount: how much, in minor units.
        method: how.
    """

    payment_id: Key
    order_id: Key
    customer_id: Key
    amount: Money
    method: str


class PaymentAuthorised(Event, name="payment.authorised"):
    """The provider holds money for us; nothing is taken yet.

    Args:
        payment_id: which payment.
        order_id: what it is to pay for.
        amount: how much, in minor units.
        provider_ref: what the provider calls it.
    """

    payment_id: Key
    order_id: Key
    amount: Money
    provider_ref: str


class PaymentProcessed(Event, name="payment.processed"):
    """The provider has taken money.

    Args:
        payment_id: which payment.
        order_id: what it pays for.
        amount: how much, in minor units.
        provider_ref: what the provider calls it.
    """

    payment_id: Key
    order_id: Key
    amount: Money
    provider_ref: str


class PaymentFailed(Event, name="payment.failed"):
    """Nothing was taken.

    Args:
        payment_id: which payment.
        order_id: what it should have paid for.
        reason: why.
    """

    payment_id: Key
    order_id: Key
    reason: str


class PaymentRefunded(Event, name="payment.refunded"):
    """The provider has given money back.

    Args:
        payment_id: which payment.
        order_id: what it had paid for.
        amount: how much this time, in minor units.
    """

    payment_id: Key
    order_id: Key
    amount: Money


PaymentCommand = RequestPayment | RecordAuthorisation | RecordPayment | RecordFailure | RecordRefund | NotifyPayment
PaymentEvent = PaymentRequested | PaymentAuthorised | PaymentProcessed | PaymentFailed | PaymentRefunded


class Payment(Aggregate[PaymentCommand, PaymentEvent], category="payment", key="payment_id"):
    """A payment: the books follow what the provider did, and never give back more than was taken.

    Args:
        status: how far it has come; processed until all is given back; new while nobody has asked for it.
        order_id: what it pays for.
        customer_id: who pays.
        method: how.
        amount: what was asked for, in minor units.
        taken: what the provider took, in minor units of the same currency.
        refunded: what it gave back, likewise.
        provider_ref: what the provider calls it, once held or taken.
        reason: why it failed, if it did.
    """

    status: Literal["new", "requested", "authorised", "processed", "failed", "refunded"] = "new"
    order_id: str = ""
    customer_id: str = ""
    method: str = ""
    amount: Money | None = None
    taken: int = 0
    refunded: int = 0
    provider_ref: str = ""
    reason: str = ""

    def decide(self, command: PaymentCommand) -> Decision:
        """What may become of a payment."""
        match command:
            case RequestPayment():
                return self._request(command)
            case RecordRefund(payment_id=id, taken=taken) if self.amount is None and taken.amount == 0:
                return [_once(id, None)]
            case _ if self.amount is None:
                raise UnknownPayment(payment_id=command.payment_id)

            case RecordAuthorisation() | RecordPayment():
                return self._record(command, self.amount)

            case RecordFailure() if self.status == "failed":
                return []
            case RecordFailure(payment_id=id, reason=reason) if self._waits:
                return [self._failed(id, reason)]
            case RecordFailure(payment_id=id):
                raise PaymentAlreadyProcessed(payment_id=id, status=self.status)

            case NotifyPayment() if self._waits:
                return []
            case NotifyPayment(payment_id=id):
                raise self._over(id)

            case RecordRefund():
                return self._refund(command, self.amount)
            case _:
                assert_never(command)

    def _request(self, command: RequestPayment) -> Decision:
        """A request works once; word for word the same one, while it waits, is the same request."""
        requested = PaymentRequested(**command.model_dump())
        if self.status == "new":
            return [_once(command.payment_id, PaymentEnded(payment_id=command.payment_id)), requested]
        if self.status == "requested" and self == Payment().evolve(requested):
            return []
        raise PaymentExists(payment_id=command.payment_id, status=self.status)

    @property
    def _waits(self) -> bool:
        """Whether nothing has been decided yet: nothing taken, nothing failed."""
        return self.status in ("requested", "authorised")

    def _over(self, payment_id: str) -> Refused:
        """Why nothing more is to come."""
        if self.status == "failed":
            return PaymentAlreadyFailed(payment_id=payment_id, reason=self.reason)
        over = PaymentAlreadyRefunded if self.status == "refunded" else PaymentAlreadyProcessed
        return over(payment_id=payment_id, status=self.status)

    def _record(self, command: RecordAuthorisation | RecordPayment, asked: Money) -> Decision:
        """All that was asked for is held, where it is held at all, and taken; each once."""
        id, amount, provider_ref = command.payment_id, command.amount, command.provider_ref
        if self.status == "failed":
            raise PaymentAlreadyFailed(payment_id=id, reason=self.reason)
        if amount != asked:
            raise _differs(id, asked, amount)
        if isinstance(command, RecordPayment) and self._waits:
            return [self._processed(id, amount, provider_ref)]
        if self.status == "requested":
            return [PaymentAuthorised(payment_id=id, order_id=self.order_id, amount=amount, provider_ref=provider_ref)]
        if provider_ref == self.provider_ref:
            return []
        raise PaymentAlreadyProcessed(payment_id=id, status=self.status, provider_ref=self.provider_ref)

    def _refund(self, command: RecordRefund, asked: Money) -> Decision:
        """What the provider did is recorded, also what it did while we thought otherwise."""
        id, taken, back = command.payment_id, command.taken, command.refunded
        known = Money(amount=self.taken, currency=asked.currency)
        if taken.currency != asked.currency or (self.taken > 0 and taken != known):
            raise _differs(id, known, taken)
        if back.amount > taken.amount:
            raise RefundTooHigh(payment_id=id, taken=str(taken), refunded=str(back))
        if taken.amount == 0:
            return [self._failed(id, VOIDED)] if self._waits else []
        found = [] if self.taken > 0 else [self._processed(id, taken, UNKNOWN_REF)]
        if back.amount <= self.refunded:
            return found
        more = back - Money(amount=self.refunded, currency=back.currency)
        return [*found, PaymentRefunded(payment_id=id, order_id=self.order_id, amount=more)]

    def _processed(self, payment_id: str, amount: Money, provider_ref: str) -> PaymentProcessed:
        return PaymentProcessed(payment_id=payment_id, order_id=self.order_id, amount=amount, provider_ref=provider_ref)

    def _failed(self, payment_id: str, reason: str) -> PaymentFailed:
        return PaymentFailed(payment_id=payment_id, order_id=self.order_id, reason=reason)

    def evolve(self, event: PaymentEvent) -> Self:
        """The payment after an event."""
        match event:
            case PaymentRequested():
                return self.having(status="requested", **event.model_dump(include=_ASKED), amount=event.amount)
            case PaymentAuthorised(provider_ref=provider_ref):
                return self.having(status="authorised", provider_ref=provider_ref)
            case PaymentProcessed(amount=amount, provider_ref=provider_ref):
                return self.having(status="processed", taken=amount.amount, provider_ref=provider_ref)
            case PaymentFailed(reason=reason):
                return self.having(status="failed", reason=reason)
            case PaymentRefunded(amount=amount):
                refunded = self.refunded + amount.amount
                status = "refunded" if refunded >= self.taken else "processed"
                return self.having(status=status, refunded=refunded)
            case _:
                assert_never(event)


_ASKED = {"order_id", "customer_id", "method"}


def _once(payment_id: str, otherwise: Refused | None) -> Claim:
    """A payment id works once: whoever claims it first, the request or its undo, settles it for ever."""
    return Claim("payment", payment_id, otherwise)


def _differs(payment_id: str, recorded: Money, told: Money) -> AmountDiffers:
    return AmountDiffers(payment_id=payment_id, recorded=str(recorded), told=str(told))
