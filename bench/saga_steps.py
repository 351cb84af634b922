"""The steps of an order as plain functions, with the same inserts as the shop's saga, for those who do it otherwise."""

from __future__ import annotations

from activities.gateway import Charge, ChargeResult, Refund
from activities.product_catalogue import ProductCatalogue
from activities.sandbox_gateway import SandboxGateway
from amends import Command, Context, Money
from amends.app import Resources
from domain.order import Cancel, Complete, Place
from domain.payment import RecordPayment, RequestPayment
from domain.stock import CommitStock, ReleaseStock, ReserveStock
from domain.values import total_of
from workflows.place_order import OrderRequest

__all__ = ["OrderSteps"]


class OrderSteps:
    """Each step once for an order, however often it is called.

    Args:
        resources: pool and command handler.
    """

    def __init__(self, resources: Resources) -> None:
        self._handler = resources.handler
        self._catalogue = ProductCatalogue(resources.handler)
        self._gateway = SandboxGateway(resources.pool)

    async def place(self, request: OrderRequest) -> int:
        """Price the lines and place the order; returns the total, in minor units."""
        lines = await self._catalogue.price(request.lines, _context(request.order_id, "price"))
        place = Place(order_id=request.order_id, customer_id=request.customer_id, lines=lines)
        await self._do(request.order_id, "place", place)
        return total_of(lines).amount

    async def request_payment(self, request: OrderRequest, total: int) -> None:
        """Ask for the money."""
        amount = _euros(total)
        step = RequestPayment(
            payment_id=request.order_id,
            order_id=request.order_id,
            customer_id=request.customer_id,
            amount=amount,
            method="card",
        )
        await self._do(request.order_id, "request", step)

    async def charge(self, request: OrderRequest, total: int) -> str:
        """Take the money; returns the provider's reference."""
        charge = Charge(payment_id=request.order_id, amount=_euros(total), token=request.payment.token)
        result: ChargeResult = await self._gateway.charge(f"{request.order_id}/charge", charge)
        return result.provider_ref or request.order_id

    async def record_payment(self, request: OrderRequest, total: int, reference: str) -> None:
        """Record that it was taken."""
        step = RecordPayment(payment_id=request.order_id, amount=_euros(total), provider_ref=reference)
        await self._do(request.order_id, "record", step)

    async def reserve(self, request: OrderRequest) -> None:
        """Set the goods aside."""
        for line in request.lines:
            step = ReserveStock(sku=line.sku, reservation_id=request.order_id, quantity=line.quantity)
            await self._do(request.order_id, f"reserve {line.sku}", step)

    async def complete(self, request: OrderRequest) -> None:
        """End the order well."""
        await self._do(request.order_id, "complete", Complete(order_id=request.order_id))

    async def commit(self, request: OrderRequest) -> None:
        """Hand the goods out."""
        for line in request.lines:
            step = CommitStock(sku=line.sku, reservation_id=request.order_id)
            await self._do(request.order_id, f"commit {line.sku}", step)

    async def undo(self, request: OrderRequest) -> None:
        """Take everything back, newest first, whatever of it has happened."""
        for line in request.lines:
            step = ReleaseStock(sku=line.sku, reservation_id=request.order_id)
            await self._do(request.order_id, f"release {line.sku}", step)
        await self._gateway.refund(f"{request.order_id}/refund", Refund(payment_id=request.order_id, currency="EUR"))
        await self._do(request.order_id, "cancel", Cancel(order_id=request.order_id, reason="failed"))

    async def _do(self, order_id: str, step: str, command: Command) -> None:
        (await self._handler.handle(command, _context(order_id, step))).raise_refusal()


def _context(order_id: str, step: str) -> Context:
    return Context(command_id=f"{order_id}/{step}", actor="bench", correlation_id=order_id, causation_id=order_id)


def _euros(amount: int) -> Money:
    return Money(amount=amount, currency="EUR")
