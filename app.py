"""The shop's table of contents: worker, command line, client and tests iterate over it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

from activities import sandbox_ledger, sandbox_supplier
from activities.order_returns import OrderReturns
from activities.product_catalogue import ProductCatalogue
from activities.provider_payments import ProviderPayments
from activities.sandbox_gateway import SandboxGateway
from activities.sandbox_supplier import SandboxSupplier
from amends.app import App, Resources
from cli import forget
from domain.customer import Customer
from domain.imports import RECORDS
from domain.order import Order
from domain.payment import Payment
from domain.product import Product
from domain.replenishment import Replenishment
from domain.stock import StockItem
from examples.demo import demo
from read_models.contents import PROJECTIONS, VIEWS
from workflows.forget_customer import Forget
from workflows.inventory_reservation import InventoryReservation
from workflows.lease import ReservationLease
from workflows.payment import Payment as TakePayment
from workflows.place_order import PlaceOrder
from workflows.reactions import leasing, replenishing
from workflows.refund_order import RefundOrder
from workflows.replenish import Replenish

__all__ = ["app"]


def activities(resources: Resources) -> list[object]:
    """The shop's doors to the world; sandboxes stand in for a payment provider and a supplier."""
    gateway = SandboxGateway(resources.pool)
    supplier = SandboxSupplier(resources.pool)
    handler = resources.handler
    return [ProductCatalogue(handler), ProviderPayments(gateway, handler), OrderReturns(handler), supplier]


def install(connection: Connection) -> None:
    """The books of the sandboxes."""
    sandbox_ledger.install(connection)
    sandbox_supplier.install(connection)


app = App(
    aggregates=[Product, StockItem, Replenishment, Customer, Order, Payment],
    workflows=[PlaceOrder, RefundOrder, TakePayment, InventoryReservation, ReservationLease, Replenish, Forget],
    activities=activities,
    projections=PROJECTIONS,
    process_managers=[leasing, replenishing],
    views=VIEWS,
    imports=RECORDS,
    search_attributes={"OrderId": "Keyword", "CustomerId": "Keyword"},
    install=install,
    commands={"demo": demo, "forget": forget},
    histories=Path("tests/golden/histories"),
)
