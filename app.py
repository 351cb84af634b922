"""The shop's table of contents: worker, command line, client and tests iterate over it."""

from __future__ import annotations

from activities import sandbox_gateway
from activities.product_catalogue import ProductCatalogue
from activities.provider_payments import ProviderPayments
from activities.sandbox_gateway import SandboxGateway
from amends.app import App, Resources
from domain.customer import Customer
from domain.order import Order
from domain.payment import Payment
from domain.product import Product
from domain.stock import StockItem
from examples.demo import demo
from read_models.directory import directory
from read_models.inventory_levels import inventory
from read_models.order_history import history
from workflows.inventory_reservation import InventoryReservation
from workflows.payment import Payment as TakePayment
from workflows.place_order import PlaceOrder

__all__ = ["app"]


def activities(resources: Resources) -> list[object]:
    """The shop's doors to the world; the sandbox stands in for a payment provider."""
    gateway = SandboxGateway(resources.pool)
    return [ProductCatalogue(resources.handler), ProviderPayments(gateway, resources.handler)]


app = App(
    aggregates=[Product, StockItem, Customer, Order, Payment],
    workflows=[PlaceOrder, TakePayment, InventoryReservation],
    activities=activities,
    projections=[history, inventory, directory],
    search_attributes={"OrderId": "Keyword", "CustomerId": "Keyword"},
    install=sandbox_gateway.install,
    commands={"demo": demo},
)
