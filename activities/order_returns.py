"""The goods of a return, read from the streams of their order and its payment."""

from __future__ import annotations

from activities.returns import NothingPaid, ReturnRequest, Returns
from amends import Context
from amends.handler import CommandHandler
from domain.order import Order
from domain.payment import Payment
from domain.values import PricedLine

__all__ = ["OrderReturns"]


class OrderReturns(Returns):
    """Looks at the order and the payment where they are decided.

    Args:
        handler: knows the state of every aggregate.
    """

    def __init__(self, handler: CommandHandler) -> None:
        self._handler = handler

    async def goods(self, request: ReturnRequest, context: Context) -> tuple[PricedLine, ...]:
        """Price the lines, in the order given."""
        order, _ = await self._handler.state(Order, request.order_id)
        goods = order.goods(request.order_id, request.lines)
        payment, _ = await self._handler.state(Payment, request.order_id)
        if payment.taken == 0:
            raise NothingPaid(order_id=request.order_id)
        return goods
