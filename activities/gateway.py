"""What a payment provider does for us, whichever it is; light to import, so that workflows can."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from amends import AmendsError, Currency, InvalidInput, Key, Money, Refused

__all__ = [
    "Charge",
    "ChargeResult",
    "GatewayUnavailable",
    "PaymentGateway",
    "Refund",
    "RefundResult",
    "RequestRejected",
    "UnknownCharge",
]


class GatewayUnavailable(AmendsError):
    """No answer in time: the provider may have acted or not. Ask again with the same key."""


class RequestRejected(InvalidInput):
    """The request is wrong and stays so when it is repeated: its key was another request's, or its currency differs."""


class UnknownCharge(Refused):
    """The provider has never heard of the payment"""


class _Exchanged(BaseModel):
    """What goes to the provider and comes back: immutable, and never printed with what it refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Charge(_Exchanged):
    """Take money from a customer.

    Args:
        payment_id: what the charge is for; refunds go by it.
        amount: how much, in minor units.
        token: stands for the customer's card at the provider; kept out of logs, events and commands.
    """

    payment_id: Key
    amount: Money
    token: str = Field(repr=False, min_length=1, max_length=255)


class ChargeResult(_Exchanged):
    """What became of a charge.

    Args:
        status: charged; declined for good; or pending, to be asked for later.
        provider_ref: what the provider calls it, if it has it on its books.
        reason: why it was declined, if it was; short enough for `RecordFailure`.
    """

    status: Literal["charged", "declined", "pending"]
    provider_ref: str | None = Field(None, min_length=1, max_length=200)
    reason: str | None = Field(None, min_length=1, max_length=200)


class Refund(_Exchanged):
    """Give everything back that was taken for a payment.

    Args:
        payment_id: as charged.
        currency: of the payment.
    """

    payment_id: Key
    currency: Currency


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
        """Give everything back; what is pending or never came is voided, and declined should it come late.

        Args:
            key: the idempotency key.
            request: for which payment.

        Raises:
            GatewayUnavailable: no answer; it may have been given back.
            RequestRejected: the key stands for another request, or the payment is in another currency.
        """
