"""What customers and the shop's people do meanwhile: orders of every kind, drawn from the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from activities.sandbox_gateway import TestCard
from amends import Command, Money
from chaos.meddling import Meddling
from domain.customer import RegisterCustomer
from domain.product import AddProduct, ChangePrice
from domain.stock import ReceiveStock, SetReorderPoint
from domain.values import Line
from workflows.payment import PaymentMethod

__all__ = [
    "HOT",
    "PRODUCTS",
    "REORDER_AT",
    "RUNS_LOW",
    "SCARCE",
    "Errand",
    "Habit",
    "OrderPlan",
    "Product",
    "Return",
    "first_commands",
    "make_errands",
    "make_orders",
]


class Product(NamedTuple):
    """What is sold: its first price in minor units, its currency, and the pieces there are at first."""

    price: int
    currency: str
    pieces: int


PRODUCTS = {
    **{f"HOT-{n}": Product(500 + 10 * n, "EUR", 50_000) for n in range(2)},
    **{f"SLOW-{n}": Product(1000 + 100 * n, "EUR", 50_000) for n in range(8)},
    **{f"SCARCE-{n}": Product(2000 + 100 * n, "EUR", 12) for n in range(3)},
    **{f"LOW-{n}": Product(3000 + 100 * n, "EUR", 25) for n in range(2)},
    **{f"DOLLAR-{n}": Product(1500 + 100 * n, "USD", 50_000) for n in range(3)},
}
HOT = tuple(sku for sku in PRODUCTS if sku.startswith("HOT"))
RUNS_LOW = tuple(sku for sku in PRODUCTS if sku.startswith("LOW"))
REORDER_AT, REORDER = 20, 30
"""Fewest pieces of what runs low that are enough, and how many are ordered then."""

SCARCE = tuple(sku for sku in PRODUCTS if sku.startswith("SCARCE"))
CUSTOMERS = 20
TOO_MANY = 900_000


class Habit(NamedTuple):
    """A way to pay and what can come of it, when the customer does not cancel and the goods are there.

    Args:
        weight: how often, against the others.
        payment: by what.
        completes: whether the order goes through.
        settles: for what never settles by itself: what the bank decides; None leaves it to the customer to cancel.
    """

    weight: int
    payment: PaymentMethod
    completes: bool
    settles: Literal["charged", "declined"] | None = None


def _card(token: TestCard, mode: Literal["charge", "authorise"] = "charge") -> PaymentMethod:
    return PaymentMethod(token=token, mode=mode)


def _transfer(token: TestCard) -> PaymentMethod:
    return PaymentMethod(kind="transfer", token=token)


HABITS = (
    Habit(30, _card(TestCard.OK), True),
    Habit(6, _card(TestCard.SLOW), True),
    Habit(6, _card(TestCard.TIMEOUT_AFTER), True),
    Habit(4, _card(TestCard.TIMEOUT_BEFORE), True),
    Habit(5, _card(TestCard.DECLINED), False),
    Habit(3, _card(TestCard.INSUFFICIENT), False),
    Habit(12, _card(TestCard.OK, "authorise"), True),
    Habit(4, _card(TestCard.TIMEOUT_AFTER, "authorise"), True),
    Habit(3, _card(TestCard.TIMEOUT_BEFORE, "authorise"), True),
    Habit(3, _card(TestCard.CAPTURE_DECLINED, "authorise"), False),
    Habit(3, _card(TestCard.HOLD_EXPIRES, "authorise"), False),
    Habit(14, _transfer(TestCard.TRANSFER), True),
    Habit(3, _transfer(TestCard.TRANSFER_FAILS), False),
    Habit(3, _transfer(TestCard.TRANSFER_NEVER), True, "charged"),
    Habit(2, _transfer(TestCard.TRANSFER_NEVER), False, "declined"),
    Habit(2, _transfer(TestCard.TRANSFER_NEVER), False),
)


@dataclass(frozen=True)
class Return:
    """A return, once the order is completed.

    Args:
        pieces: of the first line; None for everything the customer still has.
        restock: whether the goods can be sold again.
        copies: how often it is asked for, at the same time.
        terminate_after: seconds after which somebody terminates it in the server; None: nobody does.
    """

    pieces: int | None
    restock: bool
    copies: int
    terminate_after: float | None = None


@dataclass(frozen=True)
class OrderPlan:
    """An order as its customer means to place it.

    Args:
        at: seconds after the storm's beginning.
        copies: how often the request is sent at the same time, for a nervous finger or a client that repeats.
        cancel_after: seconds after it is placed; None: never.
        meddling: seconds after which somebody meddles with its workflow in the server, and how; None: nobody does.
        returns: what comes back, one after the other.
    """

    order_id: str
    customer_id: str
    at: float
    lines: tuple[Line, ...]
    habit: Habit
    copies: int
    cancel_after: float | None
    meddling: tuple[float, Meddling] | None
    returns: tuple[Return, ...]

    @property
    def may_run_out(self) -> bool:
        """Whether the goods may not be there."""
        return any(line.sku in (*SCARCE, *RUNS_LOW) for line in self.lines)

    @property
    def never_there(self) -> bool:
        """Whether nobody has so many pieces."""
        return any(line.quantity == TOO_MANY for line in self.lines)


@dataclass(frozen=True)
class Errand:
    """Something that the shop's people do: restock, or change a price."""

    at: float
    id: str
    command: ReceiveStock | ChangePrice


def make_orders(seed: int, count: int, storm: float) -> tuple[OrderPlan, ...]:
    """Orders, spread over the storm.

    Args:
        seed: the same one gives the same orders.
        count: how many.
        storm: seconds.
    """
    dice = random.Random(f"orders {seed}")
    times = sorted(dice.uniform(0, storm) for _ in range(count))
    return tuple(_order(seed, number, at, dice) for number, at in enumerate(times))


def make_errands(seed: int, storm: float) -> tuple[Errand, ...]:
    """Restocking and new prices, about one every two seconds; arguments as for `make_orders`."""
    dice = random.Random(f"errands {seed}")
    errands = []
    for number in range(int(storm / 2)):
        sku = dice.choice(list(PRODUCTS))
        at, id = round(number * 2 + dice.random(), 2), f"s{seed}-errand-{number:04d}"
        if dice.random() < 0.5:
            errands.append(Errand(at, id, ReceiveStock(sku=sku, quantity=dice.randint(1, 6))))
        else:
            price = Money(amount=dice.randint(100, 5000), currency=PRODUCTS[sku].currency)
            errands.append(Errand(at, id, ChangePrice(sku=sku, price=price)))
    return tuple(errands)


def first_commands(seed: int) -> Iterator[tuple[str, Command]]:
    """What fills the shop before the storm, each with its request id."""
    for sku, product in PRODUCTS.items():
        price = Money(amount=product.price, currency=product.currency)
        yield f"add-{sku}", AddProduct(sku=sku, name=f"Product {sku}", price=price)
        yield f"fill-{sku}", ReceiveStock(sku=sku, quantity=product.pieces)
    for sku in RUNS_LOW:
        yield f"reorder-{sku}", SetReorderPoint(sku=sku, at=REORDER_AT, quantity=REORDER)
    for number in range(CUSTOMERS):
        id = _customer(seed, number)
        yield f"register-{id}", RegisterCustomer(customer_id=id, name=f"Customer {number}", email=f"{id}@example.org")


def _order(seed: int, number: int, at: float, dice: random.Random) -> OrderPlan:
    habit = dice.choices(HABITS, [each.weight for each in HABITS])[0]
    waits_for_cancel = habit.payment.token == TestCard.TRANSFER_NEVER and habit.settles is None
    cancel_after = dice.uniform(0, 3) if waits_for_cancel or dice.random() < 0.1 else None
    # what never settles goes on once its customer cancels or the bank decides, which waits for its workflow
    meddled = cancel_after is None and habit.settles is None and dice.random() < 0.12
    deeds = [each for each in Meddling if each != Meddling.TERMINATE_PAYMENT or habit.payment.kind == "transfer"]
    return OrderPlan(
        order_id=f"s{seed}-{number:05d}",
        customer_id=_customer(seed, dice.randrange(CUSTOMERS)),
        at=round(at, 2),
        lines=_lines(dice),
        habit=habit,
        copies=dice.choice((1, 1, 1, 2, 3)),
        cancel_after=cancel_after,
        meddling=(dice.uniform(0, 2), dice.choice(deeds)) if meddled else None,
        returns=tuple(_returns(dice)) if habit.completes else (),
    )


def _lines(dice: random.Random) -> tuple[Line, ...]:
    currency = "USD" if dice.random() < 0.1 else "EUR"
    skus = [sku for sku, product in PRODUCTS.items() if product.currency == currency]
    # hot and scarce products are in most baskets, so that orders meet
    weights = [6 if sku in HOT else 2 if sku in (*SCARCE, *RUNS_LOW) else 1 for sku in skus]
    chosen = dict.fromkeys(dice.choices(skus, weights, k=dice.randint(1, 3)))
    lines = [Line(sku=sku, quantity=dice.randint(1, 3)) for sku in chosen]
    if dice.random() < 0.05:
        lines[-1] = Line(sku=lines[-1].sku, quantity=TOO_MANY)
    return tuple(lines)


def _returns(dice: random.Random) -> Iterator[Return]:
    if dice.random() < 0.25:
        yield Return(pieces=1, restock=dice.random() < 0.7, copies=dice.choice((1, 1, 2)))
        if dice.random() < 0.5:
            terminate_after = dice.uniform(0, 1) if dice.random() < 0.3 else None
            yield Return(pieces=None, restock=dice.random() < 0.7, copies=1, terminate_after=terminate_after)


def _customer(seed: int, number: int) -> str:
    return f"s{seed}-c{number:02d}"
