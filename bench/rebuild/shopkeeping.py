"""What happens beside the orders: customers come and move, products come, change their price and go, goods are ordered.

Tales as in `bench.rebuild.orders`.
"""

from __future__ import annotations

from datetime import datetime

from amends import Money
from bench.rebuild.orders import DAY, Tale
from domain.customer import ChangeEmail, ForgetCustomer, RecordErasure, RecordLogin, RegisterCustomer
from domain.product import AddProduct, ChangePrice, DiscontinueProduct
from domain.replenishment import CancelReplenishment, OpenReplenishment, RecordDelivery
from domain.stock import ReceiveStock, SetReorderPoint

__all__ = ["forgotten", "gone", "joined", "logged_in", "moved", "on_sale", "replenished", "repriced"]

FIRST = ("Ada", "Grace", "Edsger", "Barbara", "Donald", "Radia", "Niklaus", "Frances", "Zoë", "Łukasz")
LAST = ("Lovelace", "Hopper", "Dijkstra", "Liskov", "Knuth", "Perlman", "Wirth", "Allen", "Müller", "Nowak")
WARES = ("tea", "coffee", "cocoa", "mate", "rooibos", "honey", "biscuits", "saffron", "vanilla", "cardamom")


def joined(number: int, since: datetime | None) -> Tale:
    """Somebody becomes a customer, or was one of another system."""
    name = f"{FIRST[number % 10]} {LAST[number // 10 % 10]}"
    yield RegisterCustomer(
        customer_id=f"c-{number}", name=name, email=f"customer-{number}@example.org", member_since=since
    )


def moved(customer_id: str, times: int) -> Tale:
    """A customer has another address."""
    yield ChangeEmail(customer_id=customer_id, email=f"{customer_id}-{times}@example.net")


def logged_in(customer_id: str, at: datetime) -> Tale:
    """A customer logs in."""
    yield RecordLogin(customer_id=customer_id, at=at)


def forgotten(customer_id: str, at: datetime) -> Tale:
    """A customer wants to be forgotten, and it is put on record."""
    yield ForgetCustomer(customer_id=customer_id, reason="asked by letter")
    yield RecordErasure(
        customer_id=customer_id, key_destroyed_at=at, events_sealed=0, events_in_clear=1, read_models=("customers v3",)
    )


def on_sale(sku: str, number: int, price: Money, reorder_at: int, quantity: int) -> Tale:
    """A product is added, with some stock."""
    yield AddProduct(sku=sku, name=f"{WARES[number % 10].title()} no. {number}", price=price)
    yield SetReorderPoint(sku=sku, at=reorder_at, quantity=quantity)
    yield ReceiveStock(sku=sku, quantity=reorder_at + quantity // 4)


def repriced(sku: str, price: Money) -> Tale:
    """A product has another price."""
    yield ChangePrice(sku=sku, price=price)


def gone(sku: str) -> Tale:
    """A product is no longer sold."""
    yield SetReorderPoint(sku=sku, at=0, quantity=1)
    yield DiscontinueProduct(sku=sku)


def replenished(sku: str, number: int, quantity: int) -> Tale:
    """More is ordered; now and then a supplier lets the shop down, and another one delivers, a bit less."""
    if number % 5 == 2:
        yield OpenReplenishment(replenishment_id=f"n-{number}a", sku=sku, quantity=quantity)
        yield DAY
        yield CancelReplenishment(replenishment_id=f"n-{number}a", reason="SupplierDeclined")
        quantity -= quantity // 10
    yield OpenReplenishment(replenishment_id=f"n-{number}", sku=sku, quantity=quantity)
    yield (2 + number % 4) * DAY
    yield RecordDelivery(replenishment_id=f"n-{number}", quantity=quantity)
    yield ReceiveStock(sku=sku, quantity=quantity)
