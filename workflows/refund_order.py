"""A return: goods of an order come back, some or all, and the customer gets the money for them."""

from __future__ import annotations

from typing import Literal

from temporalio import workflow

from activities.gateway import Refund
from activities.payments import Payments
from activities.returns import ReturnRequest, Returns
from amends import Call, Key, Money, Position, Process, Saga, SagaUndone, Value
from amends.records import Refusal
from domain.order import CompleteReturn, ReturnGoods, WithdrawReturn
from domain.payment import RecordRefund
from domain.stock import ReceiveStock
from domain.values import OrderLines, PricedLine, total_of

__all__ = ["RefundAcceptance", "RefundOrder", "RefundOutcome", "RefundRequest"]


class RefundRequest(Value):
    """What a customer brings back; what it is worth is not theirs to say.

    Args:
        refund_id: names the return, for ever.
        order_id: what the goods were bought with.
        lines: which goods; all that the customer still has when not given.
        restock: whether they can be sold again.
    """

    refund_id: Key
    order_id: Key
    lines: OrderLines | None = None
    restock: bool = True


class RefundAcceptance(Value):
    """The return is on record, the money is on its way.

    Args:
        amount: what the customer gets, in minor units.
        position: from here on readers can see it.
    """

    refund_id: Key
    amount: Money
    position: Position


class RefundOutcome(Value):
    """How a return ended.

    Args:
        status: refunded; withdrawn (it was on record, and is undone); refused (it never was).
        reason: short code of why not, e.g. TooManyReturned; None when refunded.
        amount: what the customer has got, in minor units; None when nothing.
        position: where its last event stands in the feed.
    """

    refund_id: Key
    order_id: Key
    status: Literal["refunded", "withdrawn", "refused"]
    reason: str | None
    amount: Money | None
    position: Position


@workflow.defn
class RefundOrder(Process[RefundRequest, RefundOutcome]):
    """Take goods back, give their money back, put them on the shelf again."""

    def __init__(self) -> None:
        super().__init__()
        self._accepted: RefundAcceptance | None = None

    @workflow.run
    async def run(self, request: RefundRequest) -> RefundOutcome:
        """See a return through to its one final state."""
        try:
            async with self.saga as saga:
                goods = await self._look_up(saga, request)
                goods = await self._take_back(saga, request, goods)
                await self._refund(saga, request, total_of(goods))
                await self._complete(saga, request)
                if request.restock:
                    await saga.all(*(self._restock(saga, line) for line in goods))
        except SagaUndone as undone:
            return self._outcome(request, "withdrawn" if self._accepted else "refused", undone.reason, None)
        return self._outcome(request, "refunded", None, total_of(goods))

    @workflow.update
    async def accepted(self, fingerprint: str) -> RefundAcceptance:
        """Answer as soon as the return is on record, or with the refusal."""
        await workflow.wait_condition(lambda: self._accepted is not None or self.saga.failure is not None)
        if self._accepted is None:
            assert self.saga.failure is not None
            raise self.saga.failure.for_caller()
        return self._accepted

    @accepted.validator
    def _same_refund(self, fingerprint: str) -> None:
        self.saga.check_same_request(fingerprint)

    @workflow.query
    def answered(self) -> RefundAcceptance | Refusal | None:
        """What `accepted` has said, or would have, for who asks again when all is over."""
        return self._accepted or self.saga.refusal

    async def _look_up(self, saga: Saga, request: RefundRequest) -> tuple[PricedLine, ...]:
        question = ReturnRequest(order_id=request.order_id, lines=request.lines)
        return await saga.do("look up what was paid for the goods", Call(Returns.goods, question))

    async def _take_back(
        self, saga: Saga, request: RefundRequest, goods: tuple[PricedLine, ...]
    ) -> tuple[PricedLine, ...]:
        order_id, refund_id = request.order_id, request.refund_id
        step = ReturnGoods(order_id=order_id, return_id=refund_id, lines=goods)
        receipt = await saga.do(
            f"take back goods for {total_of(goods)}",
            step,
            undo=lambda why: WithdrawReturn(order_id=order_id, return_id=refund_id, reason=why),
        )
        # what is on record is what is given back, though the workflow was reset and other goods were returned since
        goods = receipt.first(step).lines
        self._accepted = RefundAcceptance(refund_id=refund_id, amount=total_of(goods), position=receipt.position)
        return goods

    async def _refund(self, saga: Saga, request: RefundRequest, amount: Money) -> None:
        payment_id = request.order_id  # an order's payment bears its id
        refund = Refund(payment_id=payment_id, currency=amount.currency, amount=amount)
        given = await saga.do(f"refund {amount}", Call(Payments.give_back, refund), pivot=True)
        record = RecordRefund(payment_id=payment_id, taken=given.taken, refunded=given.refunded)
        await saga.do("record the refund", record)

    async def _complete(self, saga: Saga, request: RefundRequest) -> None:
        step = CompleteReturn(order_id=request.order_id, return_id=request.refund_id)
        await saga.do("complete the return", step)

    async def _restock(self, saga: Saga, line: PricedLine) -> None:
        await saga.do(
            f"put {line.quantity} × {line.sku} on the shelf", ReceiveStock(sku=line.sku, quantity=line.quantity)
        )

    def _outcome(
        self,
        request: RefundRequest,
        status: Literal["refunded", "withdrawn", "refused"],
        reason: str | None,
        amount: Money | None,
    ) -> RefundOutcome:
        return RefundOutcome(
            refund_id=request.refund_id,
            order_id=request.order_id,
            status=status,
            reason=reason,
            amount=amount,
            position=self.saga.position,
        )
