"""The shop with a payment provider that can get stuck, so that there is something for an operator to repair."""

from __future__ import annotations

from dataclasses import dataclass, replace

from activities.gateway import Refund, RefundExceedsCharge, RefundResult
from activities.order_returns import OrderReturns
from activities.product_catalogue import ProductCatalogue
from activities.provider_payments import ProviderPayments
from activities.sandbox_gateway import SandboxGateway
from activities.sandbox_supplier import SandboxSupplier
from amends.app import App, Resources
from amends.database import Pool
from app import app as shop_app

__all__ = ["Jam", "app_with"]


@dataclass
class Jam:
    """Whether the provider is stuck."""

    on: bool = False


class StuckGateway(SandboxGateway):
    """A provider that for a time gives nothing back when an order is undone; with returns it does as ever."""

    def __init__(self, pool: Pool, jam: Jam) -> None:
        super().__init__(pool)
        self._jam = jam

    async def refund(self, key: str, request: Refund) -> RefundResult:
        if self._jam.on and request.amount is None:
            raise RefundExceedsCharge(payment_id=request.payment_id)
        return await super().refund(key, request)


def app_with(jam: Jam) -> App:
    def activities(resources: Resources) -> list[object]:
        handler = resources.handler
        payments = ProviderPayments(StuckGateway(resources.pool, jam), handler)
        return [ProductCatalogue(handler), payments, OrderReturns(handler), SandboxSupplier(resources.pool)]

    return replace(shop_app, activities=activities)
