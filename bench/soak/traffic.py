"""Steady traffic: orders at a fixed rate, whether or not earlier ones have ended, most of them good."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from contextlib import suppress
from time import monotonic
from uuid import uuid4

from activities.sandbox_gateway import TestCard
from amends import Money
from client import PlacedOrder, Shop, TooLate
from domain.customer import RegisterCustomer
from domain.product import AddProduct
from domain.stock import ReceiveStock
from domain.values import Line
from workflows.payment import PaymentMethod

__all__ = ["Traffic"]

PRODUCTS, CUSTOMERS = 20, 50
PIECES = 1_000_000
"""Of each product: nothing is ever out of stock, so the work is the same from beginning to end."""

IN_SIGHT = 2_000
"""Latencies of so many of the latest orders are kept."""


class Traffic:
    """Orders, one after the other, at a rate.

    Args:
        shop: their way in.
        rate: orders a second.
    """

    def __init__(self, shop: Shop, rate: float) -> None:
        self._shop, self._rate, self._run = shop, rate, uuid4().hex[:8]
        self._dice = random.Random(7)
        self._placing = asyncio.Semaphore(500)
        self.ends: Counter[str] = Counter()
        self.latencies: deque[float] = deque(maxlen=IN_SIGHT)
        self.placed = 0

    async def set_up(self) -> None:
        """Products, pieces, customers."""
        async with asyncio.TaskGroup() as group:
            for n in range(CUSTOMERS):
                customer = RegisterCustomer(customer_id=self._customer(n), name=f"Customer {n}", email=self._mail(n))
                group.create_task(self._shop.execute(customer))
            for n in range(PRODUCTS):
                group.create_task(self._sell(f"{self._run}-p{n}"))

    async def go_on(self, seconds: float) -> None:
        """Place orders for so long, then wait for the last of them."""
        begun, number = monotonic(), 0
        async with asyncio.TaskGroup() as group:
            while (now := monotonic() - begun) < seconds:
                if number / self._rate > now:
                    await asyncio.sleep(number / self._rate - now)
                group.create_task(self._order(number))
                number += 1

    def quantile(self, part: float) -> float:
        """Seconds that so many of the latest orders took at most."""
        known = sorted(self.latencies)
        return known[min(len(known) - 1, int(part * len(known)))] if known else 0.0

    async def _order(self, number: int) -> None:
        async with self._placing:
            begun = monotonic()
            lines = [
                Line(sku=f"{self._run}-p{n}", quantity=1 + number % 3)
                for n in self._dice.sample(range(PRODUCTS), 1 + number % 3)
            ]
            payment = PaymentMethod(token=TestCard.DECLINED if number % 10 == 3 else TestCard.OK)
            if number % 20 == 7:
                payment = PaymentMethod(kind="transfer", token=TestCard.TRANSFER)
            customer = self._customer(number % CUSTOMERS)
            try:
                placed = await self._shop.place_order(customer, lines, payment)
                self.placed += 1
                await self._end(placed, cancels=number % 20 == 17)
                if payment.kind == "card":
                    self.latencies.append(monotonic() - begun)
            except Exception as error:
                self.ends[type(error).__name__] += 1

    async def _end(self, placed: PlacedOrder, *, cancels: bool) -> None:
        if cancels:
            with suppress(TooLate):
                await self._shop.cancel(placed.order_id)
        outcome = await placed.result()
        self.ends[outcome.status] += 1

    async def _sell(self, sku: str) -> None:
        await self._shop.execute(AddProduct(sku=sku, name=sku, price=Money(amount=500, currency="EUR")))
        await self._shop.execute(ReceiveStock(sku=sku, quantity=PIECES))

    def _customer(self, number: int) -> str:
        return f"{self._run}-c{number}"

    def _mail(self, number: int) -> str:
        return f"{self._run}.{number}@example.org"
