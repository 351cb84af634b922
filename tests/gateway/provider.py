"""What the tests of the pretend provider share: what it is asked, and what it answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from activities.gateway import Capture, Charge, Refund, RefundResult
from activities.sandbox_gateway import SandboxGateway, TestCard
from amends import Money
from amends.database import open_pool


def eur(amount: int) -> Money:
    return Money(amount=amount, currency="EUR")


def charge(token: str = TestCard.OK, payment_id: str = "p1", amount: Money | None = None) -> Charge:
    return Charge(payment_id=payment_id, amount=amount or eur(500), token=token)


def capture(payment_id: str = "p1") -> Capture:
    return Capture(payment_id=payment_id)


def refund(payment_id: str = "p1", currency: str = "EUR") -> Refund:
    return Refund(payment_id=payment_id, currency=currency)


def part(amount: int, payment_id: str = "p1") -> Refund:
    return Refund(payment_id=payment_id, currency="EUR", amount=eur(amount))


def result(taken: int, refunded: int) -> RefundResult:
    return RefundResult(taken=eur(taken), refunded=eur(refunded))


@asynccontextmanager
async def gateway_on(url: str) -> AsyncIterator[SandboxGateway]:
    async with open_pool(url, "writer", 8) as pool:
        yield SandboxGateway(pool)
