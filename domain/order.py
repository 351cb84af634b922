"""Orders: placed once, ended once, and what of them comes back afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self, assert_never

from pydantic import Field

from amends import Aggregate, Claim, Command, Decision, Event, Key, Money, Refused
from domain.past_order import ImportOrder, OrderImported, OrderIsImported, as_it_was
from domain.values import Line, PricedLine, PricedLines, ShortText, total_of

__all__ = [
    "Cancel",
    "Complete",
    "CompleteReturn",
    "GoodsReturned",
    "ImportOrder",
    "Order",
    "OrderCancelled",
    "OrderCommand",
    "OrderCompleted",
    "OrderEnded",
    "OrderEvent",
    "OrderExists",
    "OrderImported",
    "OrderIsCancelled",
    "OrderIsCompleted",
    "OrderIsImported",
    "OrderNotCompleted",
    "OrderPlaced",
    "Place",
    "PriceDiffers",
    "PricedLines",
    "ReturnCompleted",
    "ReturnExists",
    "ReturnGoods",
    "ReturnNotOpen",
    "ReturnWithdrawn",
    "TooManyReturned",
    "UnknownOrder",
    "WithdrawReturn",
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


class OrderNotCompleted(Refused):
    """Only goods of a completed order can be returned"""


class TooManyReturned(Refused):
    """The customer does not have that many pieces of the order"""


class PriceDiffers(Refused):
    """The goods were sold at another price"""


class ReturnExists(Refused):
    """There was a return with this id already; a new one needs a new id"""


class ReturnNotOpen(Refused):
    """There is no such open return"""


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


class ReturnGoods(Command, name="order.return_goods"):
    """Take goods back from a customer who will get the money back.

    Args:
        order_id: what they were bought with.
        return_id: names the return; works once, for ever.
        lines: what, how much of it, at the price of the order (minor units).
    """

    order_id: Key
    return_id: Key
    lines: PricedLines


class WithdrawReturn(Command, name="order.withdraw_return"):
    """Call a return off; where there is none, see to it that none can come later.

    Args:
        order_id: of which order.
        return_id: as returned.
        reason: why, for people.
    """

    order_id: Key
    return_id: Key
    reason: ShortText


class CompleteReturn(Command, name="order.complete_return"):
    """End a return well: the customer has the money back.

    Args:
        order_id: of which order.
        return_id: as returned.
    """

    order_id: Key
    return_id: Key


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


class GoodsReturned(Event, name="order.goods_returned"):
    """Goods came back, their money is still to go back.

    Args:
        order_id: of which order.
        return_id: names the return.
        lines: what, how much of it, at the price of the order (minor units).
        amount: of all lines, in minor units.
    """

    order_id: Key
    return_id: Key
    lines: tuple[PricedLine, ...]
    amount: Money


class ReturnWithdrawn(Event, name="order.return_withdrawn"):
    """A return was called off.

    Args:
        order_id: of which order.
        return_id: as returned.
        reason: why.
    """

    order_id: Key
    return_id: Key
    reason: str


class ReturnCompleted(Event, name="order.return_completed"):
    """The money for returned goods has gone back.

    Args:
        order_id: of which order.
        return_id: as returned.
        amount: how much, in minor units.
        everything: whether nothing of the order is left with the customer.
    """

    order_id: Key
    return_id: Key
    amount: Money
    everything: bool


OrderCommand = Place | Complete | Cancel | ReturnGoods | WithdrawReturn | CompleteReturn | ImportOrder
OrderEvent = (
    OrderPlaced | OrderCompleted | OrderCancelled | GoodsReturned | ReturnWithdrawn | ReturnCompleted | OrderImported
)


class Order(Aggregate[OrderCommand, OrderEvent], category="order", key="order_id", snapshot_version=2):
    """An order: it ends exactly once, completed or cancelled, and no more comes back than was bought.

    Ended returns leave the state but for their pieces; their ids stay claimed instead.

    Args:
        status: how far it has come; new while nobody has placed it; imported when it ended in another system.
        lines: what was ordered, at which price.
        returned: pieces of each product that came back, those of open returns among them.
        returning: the goods of each open return, by its id.
    """

    status: Literal["new", "placed", "completed", "cancelled", "imported"] = "new"
    lines: tuple[PricedLine, ...] = ()
    returned: dict[str, int] = Field(default_factory=dict)
    returning: dict[str, tuple[PricedLine, ...]] = Field(default_factory=dict)

    def decide(self, command: OrderCommand) -> Decision:
        """What may be done to an order."""
        match command:
            case Place(order_id=id) if self.status != "new":
                raise OrderExists(order_id=id, status=self.status)
            case Place(order_id=id, customer_id=customer, lines=lines):
                placed = OrderPlaced(order_id=id, customer_id=customer, lines=lines, total=total_of(lines))
                return [_once("order", id, OrderEnded(order_id=id)), placed]

            case ImportOrder(order_id=id) if self.status != "new":
                raise OrderExists(order_id=id, status=self.status)
            case ImportOrder(order_id=id):
                return [_once("order", id, OrderEnded(order_id=id)), as_it_was(command)]
            case Complete(order_id=id) | Cancel(order_id=id) | ReturnGoods(order_id=id) if self.status == "imported":
                raise OrderIsImported(order_id=id)

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
                return [_once("order", id, None)]
            case Cancel(order_id=id, reason=reason):
                return [OrderCancelled(order_id=id, reason=reason)]

            case ReturnGoods():
                return self._take_back(command)

            case WithdrawReturn(order_id=id, return_id=return_id, reason=reason) if return_id in self.returning:
                return [ReturnWithdrawn(order_id=id, return_id=return_id, reason=reason)]
            case WithdrawReturn(order_id=id, return_id=return_id):
                return [_once("order.return", f"{id}/{return_id}", None)]

            case CompleteReturn(order_id=id, return_id=return_id) if return_id not in self.returning:
                raise ReturnNotOpen(order_id=id, return_id=return_id)
            case CompleteReturn(order_id=id, return_id=return_id):
                everything = len(self.returning) == 1 and not any(map(self._left, self.lines))
                amount = total_of(self.returning[return_id])
                return [ReturnCompleted(order_id=id, return_id=return_id, amount=amount, everything=everything)]
            case _:
                assert_never(command)

    def goods(self, order_id: str, lines: Sequence[Line] | None) -> tuple[PricedLine, ...]:
        """What a return is about, at the prices of the order.

        Args:
            order_id: of this order.
            lines: the goods; when not given, all that the customer still has, or had when nothing is left.

        Raises:
            UnknownOrder, OrderNotCompleted: the customer has no goods of it.
            OrderIsImported: the goods were sold by another system.
            TooManyReturned: some were never part of it.
        """
        if self.status == "new":
            raise UnknownOrder(order_id=order_id)
        if self.status == "imported":
            raise OrderIsImported(order_id=order_id)
        if self.status != "completed":
            raise OrderNotCompleted(order_id=order_id, status=self.status)
        if lines is None:
            left = tuple(line.model_copy(update={"quantity": self._left(line)}) for line in self.lines)
            return tuple(line for line in left if line.quantity > 0) or self.lines
        bought = {line.sku: line for line in self.lines}
        for line in lines:
            if line.sku not in bought:
                raise TooManyReturned(order_id=order_id, sku=line.sku, wanted=line.quantity, left=0)
        return tuple(bought[line.sku].model_copy(update={"quantity": line.quantity}) for line in lines)

    def _left(self, bought: PricedLine) -> int:
        """Pieces of a line that the customer still has."""
        return bought.quantity - self.returned.get(bought.sku, 0)

    def _take_back(self, command: ReturnGoods) -> Decision:
        """Never more than was bought, at the price it was bought for."""
        id, return_id, lines = command.order_id, command.return_id, command.lines
        if return_id in self.returning:
            if lines != self.returning[return_id]:
                raise ReturnExists(order_id=id, return_id=return_id)
            return []
        goods = self.goods(id, [Line(sku=line.sku, quantity=line.quantity) for line in lines])
        left = {line.sku: self._left(line) for line in self.lines}
        for line, sold in zip(lines, goods, strict=True):
            if line != sold:
                raise PriceDiffers(order_id=id, sku=line.sku, price=str(sold.unit_price), told=str(line.unit_price))
            if line.quantity > left[line.sku]:
                raise TooManyReturned(order_id=id, sku=line.sku, wanted=line.quantity, left=left[line.sku])
        claim = _once("order.return", f"{id}/{return_id}", ReturnExists(order_id=id, return_id=return_id))
        return [claim, GoodsReturned(order_id=id, return_id=return_id, lines=lines, amount=total_of(lines))]

    def evolve(self, event: OrderEvent) -> Self:
        """The order after an event."""
        match event:
            case OrderPlaced(lines=lines):
                return self.having(status="placed", lines=lines)
            case OrderCompleted():
                return self.having(status="completed")
            case OrderCancelled():
                return self.having(status="cancelled")
            case OrderImported(lines=lines):
                return self.having(status="imported", lines=lines)
            case GoodsReturned(return_id=id, lines=lines):
                return self._moved(lines, 1).having(returning=self.returning | {id: lines})
            case ReturnWithdrawn(return_id=id):
                return self._moved(self.returning[id], -1)._ended(id)
            case ReturnCompleted(return_id=id):
                return self._ended(id)
            case _:
                assert_never(event)

    def _moved(self, lines: Sequence[PricedLine], sign: int) -> Self:
        pieces = {line.sku: self.returned.get(line.sku, 0) + sign * line.quantity for line in lines}
        return self.having(returned=self.returned | pieces)

    def _ended(self, return_id: str) -> Self:
        return self.having(returning={id: lines for id, lines in self.returning.items() if id != return_id})


def _once(scope: str, id: str, otherwise: Refused | None) -> Claim:
    """An id works once: whoever claims it first, the thing or its undo, settles it for ever."""
    return Claim(scope, id, otherwise)
