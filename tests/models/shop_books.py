"""The shop as plain dictionaries: what its client should be told, and what its views and the provider's books show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

__all__ = ["CANCELLED", "Books", "Goods", "Method", "Money", "Order", "Product"]

Goods = dict[str, int]
"""Pieces of each product."""

Status = Literal["completed", "cancelled", "waiting", "parked"]

CANCELLED = "cancelled_by_customer"


class Method(NamedTuple):
    """How an order is paid."""

    kind: Literal["card", "transfer"]
    token: str
    mode: Literal["charge", "authorise"] = "charge"


class Money(NamedTuple):
    """What the provider's books say of an order's payment; there is no row of one that was never asked for."""

    status: str
    amount: int
    refunded: int


@dataclass
class Product:
    """A product: its price, and where its pieces are."""

    price: int
    received: int = 0
    on_hand: int = 0
    reserved: int = 0
    committed: int = 0

    @property
    def available(self) -> int:
        return self.on_hand - self.reserved


@dataclass
class Order:
    """An order, at the prices of its time.

    Args:
        parked: how often it came to wait for a person.
        released: of how many products the pieces it held have gone back.
    """

    customer: str
    goods: Goods
    prices: dict[str, int]
    method: Method
    status: Status = "completed"
    reason: str | None = None
    money: Money | None = None
    returned: Goods = field(default_factory=dict)
    parked: int = 0
    released: int = 0

    @property
    def total(self) -> int:
        return self.worth(self.goods)

    @property
    def left(self) -> Goods:
        """What the customer still has."""
        return {sku: n - self.returned.get(sku, 0) for sku, n in self.goods.items() if n > self.returned.get(sku, 0)}

    def worth(self, goods: Goods) -> int:
        return sum(self.prices[sku] * quantity for sku, quantity in goods.items())


@dataclass
class Books:
    """All of it; `stuck` says that the provider gives nothing back when an order is undone, so a person has to."""

    customers: dict[str, str] = field(default_factory=dict)
    products: dict[str, Product] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)

    def receive(self, sku: str, quantity: int) -> None:
        product = self.products[sku]
        product.received += quantity
        product.on_hand += quantity

    def place(self, id: str, customer: str, goods: Goods, method: Method, *, stuck: bool) -> Order:
        """An order, as far as it gets by itself."""
        prices = {sku: self.products[sku].price for sku in goods}
        order = self.orders[id] = Order(customer, goods, prices, method)
        held = [sku for sku, quantity in goods.items() if self.products[sku].available >= quantity]
        enough = len(held) == len(goods)
        if method.kind == "transfer":  # the goods are held first, and there is no payment yet that could be stuck
            if not enough:
                order.status, order.reason = "cancelled", "OutOfStock"
                return order
            order.status, order.money = "waiting", Money("pending", order.total, 0)
            for sku, quantity in goods.items():
                self.products[sku].reserved += quantity
        elif method.token == "tok_declined":
            order.money = Money("declined", order.total, 0)
            self._undo(order, "PaymentDeclined", stuck)
        elif not enough:
            order.money = Money("authorised" if method.mode == "authorise" else "charged", order.total, 0)
            order.released = len(held)
            self._undo(order, "OutOfStock", stuck)
        else:
            order.money = Money("charged", order.total, 0)
            self._hand_out(order)
        return order

    def settle(self, id: str) -> None:
        """A transfer has come."""
        order = self.orders[id]
        order.status, order.money = "completed", Money("charged", order.total, 0)
        self._let_go(order)
        self._hand_out(order)

    def cancel(self, id: str, *, stuck: bool) -> None:
        """An order that waits is called off."""
        order = self.orders[id]
        order.released = len(order.goods)
        self._let_go(order)
        self._undo(order, CANCELLED, stuck)

    def repair(self, id: str, *, by_itself: bool, stuck: bool) -> None:
        """What was parked is done after all, unless it is stuck still; or a person answers for it."""
        order = self.orders[id]
        if by_itself:
            self._undo(order, order.reason, stuck)
        else:
            order.status = "cancelled"

    def take_back(self, id: str, goods: Goods, *, restock: bool) -> int:
        """Goods of a completed order come back; gives the money for them."""
        order, amount = self.orders[id], self.orders[id].worth(goods)
        assert order.money is not None
        order.money = order.money._replace(refunded=order.money.refunded + amount)
        for sku, quantity in goods.items():
            order.returned[sku] = order.returned.get(sku, 0) + quantity
            if restock:
                self.receive(sku, quantity)
        return amount

    def _undo(self, order: Order, reason: str | None, stuck: bool) -> None:
        order.reason = reason
        if stuck:
            order.status, order.parked = "parked", order.parked + 1
        else:
            order.status, order.money = "cancelled", self._given_back(order)

    @staticmethod
    def _given_back(order: Order) -> Money:
        assert order.money is not None
        if order.money.status == "charged":
            return order.money._replace(refunded=order.money.amount)
        return order.money._replace(status="declined")

    def _hand_out(self, order: Order) -> None:
        for sku, quantity in order.goods.items():
            self.products[sku].on_hand -= quantity
            self.products[sku].committed += quantity

    def _let_go(self, order: Order) -> None:
        for sku, quantity in order.goods.items():
            self.products[sku].reserved -= quantity
