"""What workflows may ask of the payment provider: the interface alone, light to import."""

from __future__ import annotations

from abc import ABC, abstractmethod

from temporalio import activity

from activities.gateway import Capture, Charge, ChargeResult, Refund, RefundResult
from amends import Context, Key, Refused

__all__ = ["PaymentDeclined", "Payments"]


class PaymentDeclined(Refused):
    """The payment was declined"""


class Payments(ABC):
    """Calls of the payment provider; each is repeated under the same key until it is answered."""

    @abstractmethod
    @activity.defn(name="payment.charge")
    async def charge(self, charge: Charge, context: Context) -> ChargeResult:
        """Take the money, or learn that it comes later or not at all."""

    @abstractmethod
    @activity.defn(name="payment.authorise")
    async def authorise(self, charge: Charge, context: Context) -> ChargeResult:
        """Have the money held, or learn that it will be later or not at all."""

    @abstractmethod
    @activity.defn(name="payment.capture")
    async def capture(self, capture: Capture, context: Context) -> ChargeResult:
        """Take the money that is held, or learn that it is held no more."""

    @abstractmethod
    @activity.defn(name="payment.status")
    async def status(self, payment_id: Key, context: Context) -> ChargeResult:
        """Ask what has become of a payment."""

    @abstractmethod
    @activity.defn(name="payment.give_back")
    async def give_back(self, refund: Refund, context: Context) -> RefundResult:
        """Give money back, and learn what the payment has come to."""

    @abstractmethod
    @activity.defn(name="payment.refund")
    async def refund(self, refund: Refund, context: Context) -> None:
        """Give back whatever was taken for a payment, and record it; one never charged can't be charged later."""
