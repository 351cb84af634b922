"""An order, from the customer's click to the goods going out, or everything put right again."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from activities.catalogue import Catalogue
from amends import Call, Key, Position, Process, Saga, SagaUndone, Value
from amends.records import Refusal
from domain.order import Cancel, Complete, Place
from domain.stock import CommitStock
from domain.values import Line, OrderLines, PricedLine, total_of
from workflows.inventory_reservation import InventoryReservation, Reservation, confirm_reservation
from workflows.payment import Payment, PaymentMethod, PaymentRequest, capture_payment

__all__ = ["Acceptance", "OrderOutcome", "OrderRequest", "PlaceOrder"]

HOLD = timedelta(days=2)
"""How long goods are held for a transfer; one that comes later finds them gone, and goes back."""

CANCELLED_BY_CUSTOMER = "cancelled_by_customer"


class OrderRequest(Value):
    """What a customer wants; prices are not theirs to say."""

    order_id: Key
    customer_id: Key
    lines: OrderLines
    payment: PaymentMethod


class Acceptance(Value):
    """The order is on record; position tells readers from where on they can see it."""

    order_id: Key
    position: Position


class OrderOutcome(Value):
    """How an order ended.

    Args:
        status: completed; cancelled (it was placed, and all of it is undone); refused (it was never placed).
        reason: short code of why not, e.g. OutOfStock; None when completed.
        position: where its last event stands in the feed.
    """

    order_id: Key
    status: Literal["completed", "cancelled", "refused"]
    reason: str | None
    position: Position


@workflow.defn
class PlaceOrder(Process[OrderRequest, OrderOutcome]):
    """Place the order, take the payment, reserve the goods, complete; or undo what was done, newest first."""

    def __init__(self) -> None:
        super().__init__()
        self._accepted: Acceptance | None = None

    @workflow.run
    async def run(self, request: OrderRequest) -> OrderOutcome:
        """See an order through to its one final state."""
        try:
            async with self.saga as saga:
                lines = await self._price(saga, request)
                lines = await self._place(saga, request, lines)
                if request.payment.kind == "card":
                    await self._pay_by_card(saga, request, lines)
                else:
                    await self._pay_by_transfer(saga, request, lines)
                await self._complete(saga, request)
        except SagaUndone as undone:
            status: Literal["cancelled", "refused"] = "cancelled" if self._accepted else "refused"
            return self._outcome(request, status, undone.reason)
        return self._outcome(request, "completed", None)

    @workflow.update
    async def accepted(self, fingerprint: str) -> Acceptance:
        """Answer as soon as the order is on record, or with the refusal."""
        await workflow.wait_condition(lambda: self._accepted is not None or self.saga.failure is not None)
        if self._accepted is None:
            assert self.saga.failure is not None
            raise self.saga.failure.for_caller()
        return self._accepted

    @accepted.validator
    def _same_order(self, fingerprint: str) -> None:
        self.saga.check_same_request(fingerprint)

    @workflow.query
    def answered(self) -> Acceptance | Refusal | None:
        """What `accepted` has said, or would have, for who asks again when all is over."""
        return self._accepted or self.saga.refusal

    @workflow.update
    def cancel(self) -> Position:
        """The customer changed their mind: stop and undo; answers how far the order had come."""
        self.saga.cancel(CANCELLED_BY_CUSTOMER)
        return self.saga.position

    @cancel.validator
    def _not_too_late(self) -> None:
        if not self.saga.can_be_cancelled:
            raise ApplicationError("The order is past cancelling", type="TooLate")

    async def _price(self, saga: Saga, request: OrderRequest) -> tuple[PricedLine, ...]:
        return await saga.do("look up the prices", Call(Catalogue.price, request.lines, local=True))

    async def _place(self, saga: Saga, request: OrderRequest, lines: tuple[PricedLine, ...]) -> tuple[PricedLine, ...]:
        place = Place(order_id=request.order_id, customer_id=request.customer_id, lines=lines)
        receipt = await saga.do(
            f"place the order over {total_of(lines)}",
            place,
            undo=lambda why: Cancel(order_id=request.order_id, reason=why),
            undo_last=True,
        )
        self._accepted = Acceptance(order_id=request.order_id, position=receipt.position)
        # what is on record is what is paid, though the workflow was reset and the prices have changed since
        return receipt.first(place).lines

    async def _pay_by_card(self, saga: Saga, request: OrderRequest, lines: tuple[PricedLine, ...]) -> None:
        """A card answers at once, so the goods are set aside when they are paid, or the money is held."""
        payment, reservation = self._payment(request, lines), self._reservation(request)
        await saga.sub("payment", Payment, payment)
        await saga.sub("reservation", InventoryReservation, reservation)
        if payment.method.mode == "authorise":
            await capture_payment(saga, payment)

    async def _pay_by_transfer(self, saga: Saga, request: OrderRequest, lines: tuple[PricedLine, ...]) -> None:
        """A transfer takes days: the goods are held meanwhile, but not for ever."""
        payment, reservation = self._payment(request, lines), self._reservation(request, hold=HOLD)
        await saga.sub("reservation", InventoryReservation, reservation)
        await saga.child("payment", Payment, payment)
        await confirm_reservation(saga, reservation)

    def _payment(self, request: OrderRequest, lines: tuple[PricedLine, ...]) -> PaymentRequest:
        return PaymentRequest(
            payment_id=request.order_id,
            order_id=request.order_id,
            customer_id=request.customer_id,
            amount=total_of(lines),
            method=request.payment,
        )

    def _reservation(self, request: OrderRequest, hold: timedelta | None = None) -> Reservation:
        seconds = None if hold is None else int(hold.total_seconds())
        return Reservation(reservation_id=request.order_id, lines=request.lines, hold=seconds)

    async def _complete(self, saga: Saga, request: OrderRequest) -> None:
        await saga.do("complete the order", Complete(order_id=request.order_id), pivot=True)
        await saga.all(*(self._ship(saga, request.order_id, line) for line in request.lines))

    async def _ship(self, saga: Saga, order_id: Key, line: Line) -> None:
        await saga.do(f"commit {line.quantity} × {line.sku}", CommitStock(sku=line.sku, reservation_id=order_id))

    def _outcome(
        self, request: OrderRequest, status: Literal["completed", "cancelled", "refused"], reason: str | None
    ) -> OrderOutcome:
        return OrderOutcome(order_id=request.order_id, status=status, reason=reason, position=self.saga.position)
