"""The shop's table of contents: worker, command line, client and tests iterate over it."""

from __future__ import annotations

from sqlalchemy import Connection

from activities import sandbox_ledger, sandbox_supplier
from activities.order_returns import OrderReturns
from activities.product_catalogue import ProductCatalogue
from activities.provider_payments import ProviderPayments
from activities.sandbox_gateway import SandboxGateway
from activities.sandbox_supplier import SandboxSupplier
from amends.app import App, Resources
from domain.customer import Customer
from domain.order import Order
from domain.payment import Payment
from domain.product import Product
from domain.replenishment import Replenishment
from domain.stock import StockItem
from examples.demo import demo
from read_models.customer_orders import customer_orders
from read_models.customer_profile import customer_profile, customer_search
from read_models.customers import customers
from read_models.daily_registrations import registrations
from read_models.daily_revenue import daily_revenue
from read_models.inventory_levels import inventory
from read_models.inventory_movements import movements
from read_models.inventory_report import inventory_report
from read_models.order_history import history
from read_models.payments_ledger import ledger, payments
from read_models.product_catalog import catalog
from read_models.sales import sales
from read_models.sales_by_product import sales_by_product
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
    workflows=[PlaceOrder, RefundOrder, TakePayment, InventoryReservation, ReservationLease, Replenish],
    activities=activities,
    projections=[history, inventory, movements, catalog, customers, registrations, sales, payments],
    process_managers=[leasing, replenishing],
    views=[
        customer_orders,
        customer_profile,
        customer_search,
        inventory_report,
        daily_revenue,
        sales_by_product,
        ledger,
    ],
    search_attributes={"OrderId": "Keyword", "CustomerId": "Keyword"},
    install=install,
    commands={"demo": demo},
)
