"""Places the demo's orders: most go well, some are declined, out of stock or cancelled."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TypeVar

from rich.progress import Progress

from activities.sandbox_gateway import TestCard
from amends.errors import NoAnswer, ServerFailed, Stale, Unavailable
from client import PlacedOrder, Shop, TooLate
from domain.values import Line
from examples.demo.catalogue import CUSTOMERS, PRODUCTS, commands, customer_of
from workflows.payment import PaymentMethod
from workflows.place_order import OrderOutcome

__all__ = ["Plan", "Result", "make_plans", "place_all", "set_up"]

T = TypeVar("T")

AT_ONCE = 32
"""Orders under way at a time."""

TOO_MANY = 9_999
"""Pieces of one product that nobody has."""

PATIENCE = 120.0
"""Seconds for which a call is repeated while servers are away."""


@dataclass(frozen=True)
class Plan:
    """An order as the demo means to place it; cancel: by the customer, as soon as it is placed."""

    order_id: str
    customer_id: str
    lines: tuple[Line, ...]
    payment: PaymentMethod
    cancel: bool = False


@dataclass(frozen=True)
class Result:
    """How an order ended, and how long that took in seconds."""

    outcome: OrderOutcome
    seconds: float


def make_plans(run: str, count: int) -> list[Plan]:
    """Orders of a run: of ten, about one by transfer, and of twenty one each declined, too large, cancelled.

    Args:
        run: names the run and its orders; the same mixture every time.
        count: how many.
    """
    dice = random.Random(count)
    return [_plan(run, number, dice) for number in range(count)]


def _plan(run: str, number: int, dice: random.Random) -> Plan:
    currency = "USD" if dice.random() < 0.1 else "EUR"
    skus = [sku for sku, (_, _, priced) in PRODUCTS.items() if priced == currency]
    lines = [Line(sku=sku, quantity=dice.randint(1, 3)) for sku in dice.sample(skus, dice.randint(1, 3))]
    payment, cancel = PaymentMethod(token=TestCard.OK), False
    match number % 20:
        case 3:
            payment = PaymentMethod(token=dice.choice([TestCard.DECLINED, TestCard.INSUFFICIENT]))
        case 7:
            lines[-1] = Line(sku=lines[-1].sku, quantity=TOO_MANY)
        case 11:
            payment, cancel = PaymentMethod(kind="transfer", token=TestCard.TRANSFER), True
        case 15 | 19:
            payment = PaymentMethod(kind="transfer", token=TestCard.TRANSFER)
    customer = customer_of(run, dice.randrange(CUSTOMERS))
    return Plan(f"{run}-{number:05d}", customer, tuple(lines), payment, cancel)


async def set_up(shop: Shop, run: str, plans: Sequence[Plan]) -> None:
    """Fill the catalogue and the shelves, and register the customers, as far as the orders need them."""
    wanted = commands(run, {line.sku for plan in plans for line in plan.lines}, {plan.customer_id for plan in plans})
    await _at_once([partial(shop.execute, command, request_id=rid) for rid, command in wanted])


async def place_all(shop: Shop, plans: Sequence[Plan], progress: Progress) -> list[Result]:
    """Place every order, some side by side, and wait for its end.

    Args:
        shop: where.
        plans: what.
        progress: shows how many have ended.
    """
    task = progress.add_task("Orders", total=len(plans))

    async def place(plan: Plan) -> Result:
        result = await _place(shop, plan)
        progress.advance(task)
        return result

    return await _at_once([partial(place, plan) for plan in plans])


async def _place(shop: Shop, plan: Plan) -> Result:
    start = perf_counter()

    async def placing() -> PlacedOrder:
        return await shop.place_order(plan.customer_id, plan.lines, plan.payment, request_id=plan.order_id)

    async def cancelling() -> None:
        with suppress(TooLate):  # then it goes through
            await shop.cancel(plan.order_id)

    placed = await _insist(placing)
    if plan.cancel:
        await _insist(cancelling)
    outcome = await _insist(placed.result)
    return Result(outcome, perf_counter() - start)


async def _insist(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call while a server is away: its request id makes that harmless."""
    until = perf_counter() + PATIENCE
    while True:
        try:
            return await call()
        except (Unavailable, NoAnswer, Stale, OSError) as error:
            if perf_counter() > until:
                raise ServerFailed(f"A server has been away for {PATIENCE:.0f} s: {error}") from error
            await asyncio.sleep(0.5)


async def _at_once(calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """The results of calls, so many at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(call: Callable[[], Awaitable[T]]) -> T:
        async with gate:
            return await _insist(call)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(call)) for call in calls]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
