"""Payments by way of a gateway, with what it has given back recorded in the payment's stream."""

from __future__ import annotations

from activities.gateway import Capture, Charge, ChargeResult, PaymentGateway, Refund, RefundResult
from activities.payments import Payments
from amends import Context
from amends.handler import CommandHandler
from domain.payment import RecordRefund

__all__ = ["ProviderPayments"]


class ProviderPayments(Payments):
    """Passes the command id on as the provider's idempotency key.

    Args:
        gateway: the provider.
        handler: records refunds.
    """

    def __init__(self, gateway: PaymentGateway, handler: CommandHandler) -> None:
        self._gateway = gateway
        self._handler = handler

    async def charge(self, charge: Charge, context: Context) -> ChargeResult:
        """Charge once, however often it is asked."""
        return await self._gateway.charge(context.command_id, charge)

    async def authorise(self, charge: Charge, context: Context) -> ChargeResult:
        """Authorise once, however often it is asked."""
        return await self._gateway.authorise(context.command_id, charge)

    async def capture(self, capture: Capture, context: Context) -> ChargeResult:
        """Capture once, however often it is asked."""
        return await self._gateway.capture(context.command_id, capture)

    async def status(self, payment_id: str, context: Context) -> ChargeResult:
        """The provider's word on a payment."""
        return await self._gateway.status(payment_id)

    async def give_back(self, refund: Refund, context: Context) -> RefundResult:
        """Give back once, however often it is asked."""
        return await self._gateway.refund(context.command_id, refund)

    async def refund(self, refund: Refund, context: Context) -> None:
        """Refund first, then record what was refunded; a crash in between repeats both, which changes nothing."""
        given = await self.give_back(refund, context)
        record = RecordRefund(payment_id=refund.payment_id, taken=given.taken, refunded=given.refunded)
        receipt = await self._handler.handle(record, context)
        receipt.raise_refusal()
