"""The shop as it is tried: its own application, with a provider and a supplier that keep nobody waiting."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from temporalio import activity
from temporalio.client import WorkflowUpdateStage
from temporalio.service import RPCError

from activities.gateway import Charge, ChargeResult
from activities.order_returns import OrderReturns
from activities.product_catalogue import ProductCatalogue
from activities.provider_payments import ProviderPayments
from activities.sandbox_gateway import SandboxGateway
from activities.sandbox_supplier import SandboxSupplier
from activities.suppliers import Promise
from amends import Context, Money
from amends.app import Resources
from amends.testing.faults import World
from app import app as shop
from domain.payment import Payment
from domain.product import AddProduct
from domain.stock import ReceiveStock, StockItem
from domain.values import Line
from workflows.reactions import workflow_of
from workflows.replenish import Replenish

APP = "tests.faults.shop:app"
TABLES = Path(__file__).parent / "tables"

CURRENCY = "EUR"
PRICE = 250
ON_THE_SHELF = 10
DELIVERED = 5

LEDGER = "select status, amount, refunded from gateway.charges where payment_id = %s"
"""What the provider's books say of a payment."""


class PromptGateway(SandboxGateway):
    """Transfers are decided before anybody asks, for time that is skipped does not pass at the provider."""

    async def charge(self, key: str, request: Charge) -> ChargeResult:
        result = await super().charge(key, request)
        if result.status == "pending":
            await self.settle(request.payment_id)
        return result


class ChasedSupplier(SandboxSupplier):
    """Goods come as soon as the supplier has been reminded of them."""

    async def chase(self, order_id: str, context: Context) -> Promise:
        promise = await super().chase(order_id, context)
        saga = activity.client().get_workflow_handle(workflow_of(order_id))
        with suppress(RPCError):  # nobody waits for them any more
            await saga.start_update(
                Replenish.delivered, DELIVERED, id="delivered", wait_for_stage=WorkflowUpdateStage.ACCEPTED
            )
        return promise


def _activities(resources: Resources) -> list[object]:
    handler = resources.handler
    payments = ProviderPayments(PromptGateway(resources.pool), handler)
    return [ProductCatalogue(handler), payments, OrderReturns(handler), ChasedSupplier(resources.pool)]


app = replace(shop, activities=_activities)


async def filled_shelves(world: World, key: str, *quantities: int) -> tuple[Line, ...]:
    """Lines of new products, each with ten on the shelf."""
    lines = tuple(Line(sku=f"{key}-{number}", quantity=quantity) for number, quantity in enumerate(quantities, 1))
    for line in lines:
        price = Money(amount=PRICE, currency=CURRENCY)
        await world.execute(AddProduct(sku=line.sku, name=line.sku, price=price))
        await world.execute(ReceiveStock(sku=line.sku, quantity=ON_THE_SHELF))
    return lines


async def shelved(world: World, sku: str, on_hand: int) -> None:
    """Assert that so many pieces are on the shelf, and none of them is promised to anybody."""
    stock = await world.state(StockItem, sku)
    assert (stock.on_hand, stock.reserved, stock.open) == (on_hand, 0, {}), (sku, stock)


async def kept(world: World, payment_id: str, amount: int) -> None:
    """Assert that the shop has kept this much of a payment, by the provider's books and its own; nothing is held."""
    books = await world.rows(LEDGER, payment_id)
    assert {status for status, _, _ in books} <= {"charged", "declined"}, books
    assert sum(taken - back for status, taken, back in books if status == "charged") == amount, books
    payment = await world.state(Payment, payment_id)
    assert payment.taken - payment.refunded == amount, payment
    assert payment.status not in ("requested", "authorised"), payment
