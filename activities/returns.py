"""What workflows may ask about the goods of a return: the interface alone, light to import."""

from __future__ import annotations

from abc import ABC, abstractmethod

from temporalio import activity

from amends import Context, Key, Refused, Value
from domain.values import OrderLines, PricedLine

__all__ = ["NothingPaid", "ReturnRequest", "Returns"]


class NothingPaid(Refused):
    """Nothing has been paid for the order, so there is nothing to give back"""


class ReturnRequest(Value):
    """What a customer brings back.

    Args:
        order_id: what it was bought with.
        lines: which goods; all that the customer still has when not given.
    """

    order_id: Key
    lines: OrderLines | None


class Returns(ABC):
    """Goods as they were sold; what the caller says of their worth is not asked."""

    @abstractmethod
    @activity.defn(name="order.goods")
    async def goods(self, request: ReturnRequest, context: Context) -> tuple[PricedLine, ...]:
        """Put the price of the order to each line; refuses what was not sold, or not paid."""
