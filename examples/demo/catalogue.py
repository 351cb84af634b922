"""What the demo's shop sells, and to whom."""

from __future__ import annotations

from collections.abc import Container, Iterator

from amends import Command, Money
from domain.customer import RegisterCustomer
from domain.product import AddProduct
from domain.stock import ReceiveStock

__all__ = ["CUSTOMERS", "PRODUCTS", "STOCK", "commands", "customer_of"]

PRODUCTS = {
    "TEA-ASSAM": ("Assam, second flush, 250 g", 1290, "EUR"),
    "TEA-DARJEELING": ("Darjeeling, first flush, 100 g", 1890, "EUR"),
    "TEA-EARL-GREY": ("Earl Grey with bergamot, 250 g", 990, "EUR"),
    "TEA-GENMAICHA": ("Genmaicha with toasted rice, 100 g", 850, "EUR"),
    "TEA-GYOKURO": ("Gyokuro, shaded, 50 g", 2450, "EUR"),
    "TEA-LAPSANG": ("Lapsang Souchong, smoked, 100 g", 1150, "EUR"),
    "TEA-OOLONG": ("Oolong, Tie Guan Yin, 100 g", 1650, "EUR"),
    "TEA-PUERH": ("Pu-erh cake, aged, 357 g", 4900, "EUR"),
    "TEA-ROOIBOS": ("Rooibos, organic, 250 g", 790, "EUR"),
    "TEA-SENCHA": ("Sencha, 100 g", 1090, "EUR"),
    "CUP-GLASS": ("Glass cup, double wall", 1250, "EUR"),
    "CUP-PORCELAIN": ("Porcelain cup with saucer", 1800, "EUR"),
    "POT-CAST-IRON": ("Cast-iron pot, 0.8 l", 5900, "EUR"),
    "POT-GLASS": ("Glass pot with strainer, 1.2 l", 3450, "EUR"),
    "KETTLE": ("Kettle with temperature control", 8900, "EUR"),
    "CADDY": ("Tea caddy, tin", 1450, "EUR"),
    "STRAINER": ("Strainer, steel", 690, "EUR"),
    "WHISK": ("Bamboo whisk for matcha", 1990, "EUR"),
    "TIMER": ("Sand timer, 3 minutes", 890, "EUR"),
    "SCALE": ("Tea scale, 0.1 g", 2390, "EUR"),
    "BOOK-TEA": ("The Book of Tea", 1695, "USD"),
    "BOOK-CEREMONY": ("The Way of Tea", 2495, "USD"),
    "POSTER-LEAVES": ("Poster: tea leaves", 1900, "USD"),
    "POSTER-MAP": ("Poster: where tea grows", 1900, "USD"),
}
"""SKU → name, price in minor units, currency."""

STOCK = 200
"""Pieces of each product that come in before a run."""

CUSTOMERS = 25
"""Customers of a run."""


def customer_of(run: str, number: int) -> str:
    """The id of a run's customer."""
    return f"{run}-c{number:02d}"


def commands(run: str, skus: Container[str], customers: Container[str]) -> Iterator[tuple[str, Command]]:
    """What sets the shop up for a run, each with its request id; products are there after the first run.

    Args:
        run: names the run.
        skus: products that are needed.
        customers: ids of customers that are needed.
    """
    for sku, (name, price, currency) in PRODUCTS.items():
        if sku not in skus:
            continue
        yield f"demo-add-{sku}", AddProduct(sku=sku, name=name, price=Money(amount=price, currency=currency))
        yield f"{run}-stock-{sku}", ReceiveStock(sku=sku, quantity=STOCK)
    for number in range(CUSTOMERS):
        customer = customer_of(run, number)
        if customer not in customers:
            continue
        register = RegisterCustomer(customer_id=customer, name=f"Customer {number}", email=f"{customer}@example.org")
        yield f"{customer}-register", register
