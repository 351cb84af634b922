"""Orders: placed once, and ended once."""

from __future__ import annotations

from typing import Annotated, Literal, Self, assert_never

from pydantic import AfterValidator, Field

from amends import Aggregate, Claim, Command, Decision, Event, Key, Money, Refused
from amends.money import MAX_AMOUNT
from domain.values import MAX_LINES, PricedLine, ShortText, each_product_once, total_of

__all__ = [
    "Cancel",
    "Complete",
    "Order",
    "OrderCancelled",
    "OrderCommand",
    "OrderCompleted",
    "OrderEnded",
    "OrderEvent",
    "OrderExists",
    "OrderIsCancelled",
    "OrderIsCompleted",
    "OrderPlaced",
    "Place",
    "PricedLines",
    "UnknownOrder",
]


class OrderExists(Refused):
    """There is an order with this id already"""


class UnknownOrder(Refused):
    """There is no order with this id"""


class OrderEnded(Refused):
    """The order was called off before it was placed; a new one needs a new id"""


class OrderIsCompleted(Refused):
    """The order is completed"""


class OrderIsCancelled(Refused):
    """The order is cancelled"""


def _add_up(lines: tuple[PricedLine, ...]) -> tuple[PricedLine, ...]:
    if len({line.unit_price.currency for line in lines}) > 1:
        raise ValueError("must all be in one currency")
    if sum(line.unit_price.amount * line.quantity for line in lines) > MAX_AMOUNT:
        raise ValueError("must not cost more than the shop can count")
    return lines


PricedLines = Annotated[
    tuple[PricedLine, ...], Field(max_length=MAX_LINES), AfterValidator(each_product_once), AfterValidator(_add_up)
]
"""What an order is about: 1 to 100 lines, each product once, all in one currency."""


class Place(Command, name="order.place"):
    """Order goods.

    Args:
        order_id: names the order, for ever.
        customer_id: who orders.
        lines: what, how much of it, at which price (minor units).
    """

    order_id: Key
    customer_id: Key
    lines: PricedLines


class Complete(Command, name="order.complete"):
    """End an order well: paid, and the goods handed out.

    Args:
        order_id: which order.
    """

    order_id: Key


class Cancel(Command, name="order.cancel"):
    """Call an order off; where there is none yet, see to it that none can come later.

    Args:
        order_id: which order.
        reason: why, for people.
    """

    order_id: Key
    reason: ShortText


class OrderPlaced(Event, name="order.placed"):
    """A customer has ordered.

    Args:
        order_id: which order.
        customer_id: who ordered.
        lines: what, how much of it, at which price (minor units).
        total: of all lines, in minor units.
    """

    order_id: Key
    customer_id: Key
    lines: tuple[PricedLine, ...]
    total: Money


class OrderCompleted(Event, name="order.completed"):
    """An order has ended well.

    Args:
        order_id: which order.
    """

    order_id: Key


class OrderCancelled(Event, name="order.cancelled"):
    """An order was called off.

    Args:
        order_id: which order.
        reason: why.
    """

    order_id: Key
    reason: str


OrderCommand = Place | Complete | Cancel
OrderEvent = OrderPlaced | OrderCompleted | OrderCancelled


class Order(Aggregate[OrderCommand, OrderEvent], category="order", key="order_id"):
    """An order: it ends exactly once, completed or cancelled.

    Args:
        status: how far it has come; new while nobody has placed it.
    """

    status: Literal["new", "placed", "completed", "cancelled"] = "new"

    def decide(self, command: OrderCommand) -> Decision:
        """What may be done to an order."""
        match command:
            case Place(order_id=id) if self.status != "new":
                raise OrderExists(order_id=id, status=self.status)
            case Place(order_id=id, customer_id=customer, lines=lines):
                placed = OrderPlaced(order_id=id, customer_id=customer, lines=lines, total=total_of(lines))
                return [_once(id, OrderEnded(order_id=id)), placed]

            case Complete(order_id=id) if self.status == "new":
                raise UnknownOrder(order_id=id)
            case Complete(order_id=id) if self.status == "cancelled":
                raise OrderIsCancelled(order_id=id)
            case Complete() if self.status == "completed":
                return []
            case Complete(order_id=id):
                return [OrderCompleted(order_id=id)]

            case Cancel(order_id=id) if self.status == "completed":
                raise OrderIsCompleted(order_id=id)
            case Cancel() if self.status == "cancelled":
                return []
            case Cancel(order_id=id) if self.status == "new":
                return [_once(id, None)]
            case Cancel(order_id=id, reason=reason):
                return [OrderCancelled(order_id=id, reason=reason)]
            case _:
                assert_never(command)

    def evolve(self, event: OrderEvent) -> Self:
        """The order after an event."""
        match event:
            case OrderPlaced():
                return self.having(status="placed")
            case OrderCompleted():
                return self.having(status="completed")
            case OrderCancelled():
                return self.having(status="cancelled")
            case _:
                assert_never(event)


def _once(order_id: str, otherwise: Refused | None) -> Claim:
    """An order id works once: whoever claims it first, the order or its undo, settles it for ever."""
    return Claim("order", order_id, otherwise)
