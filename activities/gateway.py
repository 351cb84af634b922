"""What a payment provider does for us, whichever it is; light to import, so that workflows can."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from amends import AmendsError, Currency, InvalidInput, Key, Money, Personal, Refused

__all__ = [
    "Capture",
    "Charge",
    "ChargeResult",
    "GatewayUnavailable",
    "PaymentGateway",
    "Refund",
    "RefundExceedsCharge",
    "RefundResult",
    "RequestRejected",
    "Token",
    "UnknownCharge",
]

Token = Annotated[str, Field(min_length=1, max_length=200)]
"""A provider's token for a card or account."""


class GatewayUnavailable(AmendsError):
    """No answer in time: the provider may have acted or not. Ask again with the same key."""


class RequestRejected(InvalidInput):
    """The request is wrong and stays so when it is repeated: its key was another request's, or its currency differs."""


class UnknownCharge(Refused):
    """The provider has never heard of the payment"""


class RefundExceedsCharge(Refused):
    """The provider has not taken that much, or given it back before"""


class _Exchanged(BaseModel):
    """What goes to the provider and comes back: immutable, and never printed with what it refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Charge(_Exchanged):
    """Take money from a customer, or hold it.

    Args:
        payment_id: what the charge is for; captures and refunds go by it.
        amount: how much, in minor units.
        token: stands for the customer's card at the provider; kept out of logs, events and commands.
    """

    payment_id: Key
    amount: Money
    token: Personal[Token] = Field(repr=False)


class Capture(_Exchanged):
    """Take what was authorised, all of it.

    Args:
        payment_id: as authorised.
    """

    payment_id: Key


class ChargeResult(_Exchanged):
    """What became of a charge.

    Args:
        status: charged; authorised, so that it can be captured; declined for good; or pending, to be asked for later.
        provider_ref: what the provider calls it, if it has it on its books.
        reason: why it was declined, if it was; short enough for `RecordFailure`.
    """

    status: Literal["charged", "authorised", "declined", "pending"]
    provider_ref: str | None = Field(None, min_length=1, max_length=200)
    reason: str | None = Field(None, min_length=1, max_length=200)


class Refund(_Exchanged):
    """Give back what was taken for a payment.

    Args:
        payment_id: as charged.
        currency: of the payment.
        amount: how much, in minor units; when not given, everything, and what is pending, held or to come is voided.
    """

    payment_id: Key
    currency: Currency
    amount: Money | None = None

    @model_validator(mode="after")
    def _more_than_nothing_in_its_currency(self) -> Self:
        if self.amount is not None and (self.amount.amount <= 0 or self.amount.currency != self.currency):
            raise ValueError(f"amount must be more than zero and in {self.currency}")
        return self


class RefundResult(_Exchanged):
    """What a payment came to after its refund.

    Args:
        taken: all that was ever taken for it, in minor units; 0 when it was never charged.
        refunded: all that was given back by now, in minor units.
    """

    taken: Money
    refunded: Money


class PaymentGateway(ABC):
    """A payment provider. A repeat with the same key gets the first answer and moves no money."""

    @abstractmethod
    async def charge(self, key: str, request: Charge) -> ChargeResult:
        """Take money, once for each key.

        Args:
            key: the idempotency key.
            request: from whom, how much.

        Raises:
            GatewayUnavailable: no answer; it may have been taken.
            RequestRejected: the key stands for another request.
        """

    @abstractmethod
    async def authorise(self, key: str, request: Charge) -> ChargeResult:
        """Hold money without taking it, once for each key; after some days the provider lets it go by itself.

        Args:
            key: the idempotency key.
            request: from whom, how much.

        Raises:
            GatewayUnavailable: no answer; it may be held.
            RequestRejected: the key stands for another request.
        """

    @abstractmethod
    async def capture(self, key: str, request: Capture) -> ChargeResult:
        """Take what is held, once; declined when nothing is held any more, because it was voided or has lapsed.

        Args:
            key: the idempotency key.
            request: of which payment.

        Raises:
            GatewayUnavailable: no answer; it may have been taken.
            RequestRejected: the key stands for another request, or the authorisation is still pending.
            UnknownCharge: there never was an authorisation.
        """

    @abstractmethod
    async def status(self, payment_id: str) -> ChargeResult:
        """What became of a payment by now.

        Args:
            payment_id: as charged.

        Raises:
            GatewayUnavailable: no answer.
            UnknownCharge: there never was a charge or refund for it.
        """

    @abstractmethod
    async def refund(self, key: str, request: Refund) -> RefundResult:
        """Give back a part, or everything; then what is pending, held or never came is voided, and declined if late.

        Args:
            key: the idempotency key.
            request: for which payment.

        Raises:
            GatewayUnavailable: no answer; it may have been given back.
            RequestRejected: the key stands for another request, or the payment is in another currency.
            RefundExceedsCharge: a part is wanted, of which less is left.
        """
