"""The shop's client: place orders, cancel and refund them, send commands, ask the views.

Longer than other modules, for it is one class: what a web backend imports is found in one place. Read models are
imported when they are first asked, for they bring SQLAlchemy: half of what the import of this module would take.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from temporalio.client import (
    RPCError,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCStatusCode

from activities.webhooks import read_webhook
from amends.client import Client, checked_key, checked_request_id
from amends.errors import InvalidInput, NoAnswer, Refused, SagaError, StartupError
from amends.messages import Command
from amends.money import Money
from amends.records import START, Position, Receipt
from domain.customer import ForgetCustomer
from domain.order import UnknownOrder
from domain.payment import NotifyPayment
from domain.replenishment import DeliveryDiffers, RecordDelivery, ReplenishmentEnded, UnknownReplenishment
from domain.values import Line
from workflows.forget_customer import ErasureCertificate, ErasureRequest, Forget
from workflows.payment import Payment, PaymentMethod
from workflows.place_order import OrderOutcome, OrderRequest, PlaceOrder
from workflows.reactions import workflow_of
from workflows.refund_order import RefundOrder, RefundOutcome, RefundRequest
from workflows.replenish import Replenish

if TYPE_CHECKING:
    from amends.freshness import Freshness
    from amends.query import Query
    from amends.settings import Settings
    from read_models.order_changes import OrderChange
    from read_models.order_history import OrderRow

__all__ = ["OrderRefund", "PaymentNotAwaited", "PlacedOrder", "Shop", "TooLate", "UnknownRefund"]

T = TypeVar("T")

CANCELLATION = "cancel"
"""The update that cancels an order: one for each, so that asking again gets the first answer."""

FRESH_WITHIN = 15.0
"""Seconds that a read of this client waits for what the client itself has written."""

TIMELINE = "order_timeline"
"""The view that is watched."""

LOOK_AGAIN = 15.0
"""Seconds after which whoever watches an order looks whether it is over, though nothing has happened to it."""


class TooLate(Refused):
    """The order can no longer be cancelled"""


class UnknownRefund(Refused):
    """There is no return with this id"""


class PaymentNotAwaited(Refused):
    """Nobody waits for news of the payment"""


@dataclass(frozen=True)
class PlacedOrder:
    """An order that is on record.

    Args:
        order_id: its id.
        position: from here on readers can see it.
    """

    order_id: str
    position: Position
    _shop: Shop

    async def result(self) -> OrderOutcome:
        """Wait for the order's end: completed, or cancelled with the reason."""
        return await self._shop.result(self.order_id)


@dataclass(frozen=True)
class OrderRefund:
    """A return that is on record.

    Args:
        refund_id: its id.
        amount: what the customer gets, in minor units.
        position: from here on readers can see it.
    """

    refund_id: str
    amount: Money
    position: Position
    _shop: Shop

    async def result(self) -> RefundOutcome:
        """Wait for the return's end: refunded, or withdrawn with the reason."""
        return await self._shop.refund_result(self.refund_id)


class Shop:
    """The shop, from outside: `async with await Shop.connect() as shop`.

    Args:
        client: the engine's half.
    """

    def __init__(self, client: Client) -> None:
        self.client = client

    @classmethod
    async def connect(cls, settings: Settings | None = None, *, actor: str = "shop") -> Self:
        """Connect, by the settings or the environment; errors as `amends.client.Client.connect`."""
        from amends.sources import Sources
        from read_models.contents import PROJECTIONS, VIEWS

        return cls(await Client.connect(settings, actor=actor, sources=Sources(PROJECTIONS, VIEWS)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.close()

    async def place_order(
        self,
        customer_id: str,
        lines: Sequence[Line],
        payment: PaymentMethod,
        *,
        request_id: str | None = None,
        actor: str | None = None,
    ) -> PlacedOrder:
        """Place an order; returns as soon as it is on record, while payment and goods are still being seen to.

        Args:
            customer_id: a registered customer.
            lines: what and how much; prices come from the catalogue.
            payment: card or transfer, by the provider's token.
            request_id: names the intent and becomes the order's id; the same order again gets the first answer.
            actor: in whose name.

        Raises:
            InvalidInput: no lines, an unknown or discontinued product, mixed currencies, an unregistered customer, …;
                names each field. No saga was started.
            CommandIdReused: the request id stands for another order.
            NoAnswer: no worker has answered in time; ask again with the same request id.
            Stale: a name is unknown to read models that are behind.
            Refused: a rule said no in the very last moment; whatever had been done is undone.
        """
        order_id = checked_request_id(request_id)
        request = OrderRequest(order_id=order_id, customer_id=customer_id, lines=lines, payment=payment)
        await self._check(request)
        acceptance = await self.client.start(
            PlaceOrder,
            request,
            id=_workflow_id(order_id),
            accepted=PlaceOrder.accepted,
            answered=PlaceOrder.answered,
            labels={"order_id": order_id},
            attributes={"OrderId": order_id, "CustomerId": customer_id},
            summary=f"{_pieces(request.lines)} pieces for {customer_id}, by {request.payment.kind}",
            actor=actor,
        )
        self.client.saw(acceptance.position)
        return PlacedOrder(order_id, acceptance.position, self)

    async def result(self, order_id: str) -> OrderOutcome:
        """Wait for an order's end.

        Raises:
            UnknownOrder: there is none.
            InvalidInput: no order can have that id.
            SagaError: it was terminated, or needs somebody's attention.
        """
        handle = self.client.temporal.get_workflow_handle_for(PlaceOrder.run, _workflow_id(order_id))
        outcome = await self._end_of(handle, UnknownOrder(order_id=order_id))
        self.client.saw(outcome.position)
        return outcome

    async def cancel(self, order_id: str) -> Position:
        """Cancel an order in the customer's name; `result` tells when all is undone, and how far readers must be then.

        Told twice, it counts once.

        Returns:
            how far the order had come by then; what is undone comes after it.

        Raises:
            TooLate: it is completed or as good as, or has ended already.
            UnknownOrder: there is none.
            NoAnswer: no worker has answered in time; it may still be cancelled, ask again.
        """
        handle = self.client.temporal.get_workflow_handle_for(PlaceOrder.run, _workflow_id(order_id))
        answer_seconds = timedelta(seconds=self.client.settings.answer_seconds)
        try:
            told: Position | None = await handle.execute_update(
                PlaceOrder.cancel, id=CANCELLATION, rpc_timeout=answer_seconds
            )
        except WorkflowUpdateRPCTimeoutOrCancelledError as error:
            raise NoAnswer(f"No answer about the cancellation of {order_id}; ask again") from error
        except WorkflowUpdateFailedError as error:
            raise TooLate(order_id=order_id) from error
        except RPCError as error:
            # not found says so of an order that has ended too, before or while this was on its way
            if error.status == RPCStatusCode.NOT_FOUND and await self._exists(_workflow_id(order_id)):
                raise TooLate(order_id=order_id) from error
            if error.status == RPCStatusCode.NOT_FOUND:
                raise UnknownOrder(order_id=order_id) from error
            raise self.client.away(error, f"the cancellation of {order_id}: it may be cancelled, ask again") from error
        position = START if told is None else told  # a worker of an older version says nothing
        self.client.saw(position)
        return position

    async def refund_order(
        self,
        order_id: str,
        lines: Sequence[Line] | None = None,
        *,
        request_id: str | None = None,
        restock: bool = True,
        actor: str | None = None,
    ) -> OrderRefund:
        """Take goods of an order back for their money; returns as soon as the return is on record.

        Args:
            order_id: a completed order.
            lines: what comes back, and how much of it; all that the customer still has when not given.
            request_id: names the return; the same return again gets the first answer.
            restock: whether the goods can be sold again.
            actor: in whose name.

        Raises:
            InvalidInput: no lines, a product twice, a quantity or id that is none; names the field.
            UnknownOrder, OrderNotCompleted, TooManyReturned, NothingPaid: a rule said no, and nothing has changed.
            CommandIdReused: the request id stands for another return.
            NoAnswer: no worker has answered in time; ask again with the same request id.
        """
        refund_id = checked_request_id(request_id)
        request = RefundRequest(refund_id=refund_id, order_id=order_id, lines=lines, restock=restock)
        pieces = "all" if request.lines is None else f"{_pieces(request.lines)} pieces"
        acceptance = await self.client.start(
            RefundOrder,
            request,
            id=_refund_workflow(refund_id),
            accepted=RefundOrder.accepted,
            answered=RefundOrder.answered,
            labels={"order_id": order_id, "refund_id": refund_id},
            attributes={"OrderId": order_id},
            summary=f"{pieces} of order {order_id} back",
            actor=actor,
        )
        self.client.saw(acceptance.position)
        return OrderRefund(refund_id, acceptance.amount, acceptance.position, self)

    async def refund_result(self, refund_id: str) -> RefundOutcome:
        """Wait for a return's end.

        Raises:
            UnknownRefund: there is none.
            SagaError: it was terminated, or needs somebody's attention.
        """
        handle = self.client.temporal.get_workflow_handle_for(RefundOrder.run, _refund_workflow(refund_id))
        outcome = await self._end_of(handle, UnknownRefund(refund_id=refund_id))
        self.client.saw(outcome.position)
        return outcome

    async def forget(self, customer_id: str, reason: str, *, actor: str | None = None) -> ErasureCertificate:
        """Forget a customer for good: orders and revenue stay, who it was can't be read any more, wherever it is kept.

        Told twice, it counts once.

        Args:
            customer_id: the customer.
            reason: why, for the record; nothing personal.
            actor: in whose name.

        Returns:
            what was done, as `views.erasures` keeps it.

        Raises:
            UnknownCustomer: there is none.
            InvalidInput: the id or the reason is none; names the field.
            NoAnswer: a read model is behind, or no worker has answered; it goes on, ask again.
        """
        asked = ForgetCustomer(customer_id=customer_id, reason=reason)
        certificate = await self.client.run(
            Forget,
            ErasureRequest(customer_id=asked.customer_id, reason=asked.reason),
            id=f"forget-{asked.customer_id}",
            labels={"customer_id": asked.customer_id},
            attributes={"CustomerId": asked.customer_id},
            summary=f"forget {asked.customer_id}",
            actor=actor,
        )
        self.client.saw(certificate.position)
        return certificate

    async def webhook(self, body: bytes, signature: str) -> None:
        """Take a webhook of the payment provider; whoever waits for that payment asks the provider what is new.

        Args:
            body: as received, byte for byte.
            signature: the header that came with it, `t=<unix seconds>,v1=<hex>`.

        Raises:
            InvalidInput: that is no body, or no signature.
            StartupError: no secret is set to check it by.
            WebhookForged, WebhookStale, WebhookMalformed: it is not the provider's, not of now, or nothing we know.
            UnknownPayment: there is no such payment.
            PaymentAlreadyProcessed, PaymentAlreadyFailed, PaymentAlreadyRefunded: nothing new is to come of it.
            PaymentNotAwaited: whoever took it is gone.
        """
        if not isinstance(body, bytes) or not isinstance(signature, str):
            raise InvalidInput({"webhook": "its body is bytes, as received, and its signature a text"})
        secret = self.client.settings.webhook_secret
        if secret is None or not secret.get_secret_value():
            raise StartupError("Set AMENDS_WEBHOOK_SECRET to the secret that the payment provider signs webhooks with")
        news = read_webhook(body, signature, secret.get_secret_value(), datetime.now(UTC))
        notify = NotifyPayment(payment_id=news.payment_id)
        await self.execute(notify, actor="payment provider")
        if not await self._wake(news.payment_id):
            await self.execute(notify, actor="payment provider")  # it may have ended just now, and says how
            raise PaymentNotAwaited(payment_id=news.payment_id)

    async def payment_settled(self, order_id: str) -> None:
        """Tell an order's payment that the provider has news; without it, the payment looks by itself, later.

        Raises:
            UnknownOrder: no payment of such an order is waiting.
        """
        if not await self._wake(order_id):
            raise UnknownOrder(order_id=order_id)

    async def delivery_arrived(self, replenishment_id: str, quantity: int) -> Position:
        """Put a supplier's delivery on the shelf; returns as soon as it is there, and told twice, it counts once.

        Args:
            replenishment_id: as the delivery note has it.
            quantity: pieces that came; more or fewer than ordered.

        Returns:
            from here on readers can see the goods.

        Raises:
            InvalidInput: the id or the quantity is none; names the field.
            UnknownReplenishment: there is none.
            ReplenishmentEnded: it was given up, or is delivered; what has come is received by `ReceiveStock`.
            DeliveryDiffers: another quantity was told before; what else has come is received by `ReceiveStock`.
            NoAnswer: no worker has answered in time; tell it again.
        """
        told = RecordDelivery(replenishment_id=replenishment_id, quantity=quantity)
        handle = self.client.temporal.get_workflow_handle_for(Replenish.run, workflow_of(replenishment_id))
        answer_seconds = timedelta(seconds=self.client.settings.answer_seconds)
        try:
            position = await handle.execute_update(
                Replenish.delivered, told.quantity, id=f"delivered-{told.quantity}", rpc_timeout=answer_seconds
            )
        except WorkflowUpdateRPCTimeoutOrCancelledError as error:
            raise NoAnswer(f"No answer about {replenishment_id}; tell it again") from error
        except WorkflowUpdateFailedError as error:
            differs = isinstance(error.cause, ApplicationError) and error.cause.type == DeliveryDiffers.__name__
            refusal = DeliveryDiffers if differs else ReplenishmentEnded
            raise refusal(replenishment_id=replenishment_id, told=quantity) from error
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                wanted = f"the delivery of {replenishment_id}: told again, it counts once"
                raise self.client.away(error, wanted) from error
            if await self._exists(workflow_of(replenishment_id)):
                raise ReplenishmentEnded(replenishment_id=replenishment_id, told=quantity) from error
            raise UnknownReplenishment(replenishment_id=replenishment_id) from error
        self.client.saw(position)
        return position

    async def watch(
        self, order_id: str, after: Position | str = START, *, forever: bool = False
    ) -> AsyncGenerator[OrderChange, None]:
        """What happens to an order, each thing once, as it happens: `async for change in shop.watch(order_id)`.

        It survives lost connections. To go on elsewhere, or later, keep the last change's `cursor`.

        Args:
            order_id: the order.
            after: where to go on: a change's cursor, or a position; by default with the first thing that happened.
            forever: go on when the order is over: its goods may come back. Otherwise it ends once the order is
                cancelled, or completed with its goods sent, and nothing of it is being returned.

        Raises:
            UnknownOrder: there is none.
            Stale: the order is unknown to read models that are behind.
            InvalidInput: the cursor is none, or of another log: of another database, or of one restored since.
        """
        from amends.watching import patiently
        from read_models import order_changes

        after = await self.client.reader.resume(after)
        if await self.client.query(order_changes.end_of(order_id)) is None:
            await self.require(max(await self.client.reader.head(), self.client.seen), projections=TIMELINE)
            await self.status(order_id)
        while forever or not await patiently(partial(self._seen_all, order_id, after)):
            for change in await self.client.reader.changes(order_changes.changes, order_id, after, LOOK_AGAIN):
                after = change.position
                yield change

    async def status(self, order_id: str) -> OrderRow:
        """Where an order stands, no staler than what this client has done itself.

        Raises:
            UnknownOrder: there is none.
        """
        from read_models import order_history

        row = await self.query(order_history.order(order_id))
        if row is None:
            raise UnknownOrder(order_id=order_id)
        return row

    async def execute(self, command: Command, *, request_id: str | None = None, actor: str | None = None) -> Receipt:
        """Have a command done that needs no saga: register a customer, receive stock; see `Client.execute`."""
        return await self.client.execute(command, request_id=request_id, actor=actor)

    async def query(self, query: Query[T]) -> T:
        """Ask the views, no staler than what this client has done itself.

        Raises:
            Stale: they have not caught up with that in time; `client.query` takes them as they are.
        """
        return await self.client.query_own(query, FRESH_WITHIN)

    async def at_least(
        self,
        position: Position,
        timeout: float = FRESH_WITHIN,
        projections: str | Collection[str] = (),
        *,
        key: str | None = None,
    ) -> Freshness:
        """Wait until read models show everything up to a position.

        Args:
            position: from a receipt, an acceptance or an outcome.
            timeout: seconds; 0 only looks.
            projections: names of views or projections, e.g. "order_timeline"; all of the shop's when none are given.
            key: e.g. an order's id: stale too where events of that order could not be applied, whoever else's could.

        Returns:
            fresh, or stale and why.

        Raises:
            InvalidInput: there is no view or projection of that name.
        """
        return await self.client.at_least(position, projections or _all(), timeout, key)

    async def require(
        self,
        position: Position,
        timeout: float = FRESH_WITHIN,
        projections: str | Collection[str] = (),
        *,
        key: str | None = None,
    ) -> None:
        """As `at_least`, for answers that would be wrong when they are stale.

        Raises:
            Stale: the read models have not caught up in time, or can't.
        """
        await self.client.require(position, timeout, projections or _all(), key)

    async def _seen_all(self, order_id: str, after: Position) -> bool:
        """Whether an order is over, and nothing happened to it after this position."""
        from read_models import order_changes

        end = await self.client.query(order_changes.end_of(order_id))
        if end is None or not end.final:
            return False
        if not end.sent:  # sending goods takes a moment; what somebody has skipped by hand, or imported, is never sent
            if await self._is_running(order_id):
                return False
            await self.require(await self.client.reader.head(), projections=TIMELINE)
            end = await self.client.query(order_changes.end_of(order_id))
        return end is not None and after >= end.last

    async def _wake(self, payment_id: str) -> bool:
        """Signal whoever takes a payment: its order's child, a process of its own, or its order itself."""
        order = _workflow_id(payment_id)
        for workflow_id in (f"{order}/payment", f"payment-{payment_id}", order):
            try:
                await self.client.temporal.get_workflow_handle(workflow_id).signal(Payment.settled)
            except RPCError as error:
                if error.status != RPCStatusCode.NOT_FOUND:
                    wanted = f"the news of payment {payment_id}: tell it again, or the payment looks by itself, later"
                    raise self.client.away(error, wanted) from error
            else:
                return True
        return False

    async def _check(self, request: OrderRequest) -> None:
        """Refuse what can't become an order; a name the views don't know yet is looked up in fresh ones."""
        from read_models import order_check

        ask = self.client.query
        problems = await order_check.problems_of_order(ask, request.customer_id, request.lines)
        if problems:
            head = await self.client.reader.head()
            await self.require(max(head, self.client.seen), projections=order_check.READ_MODELS)
            problems = await order_check.problems_of_order(ask, request.customer_id, request.lines)
        # a repeat of an order that is placed gets the first answer, whatever has changed since
        if problems and not await self._exists(_workflow_id(request.order_id)):
            raise InvalidInput(problems)

    async def _is_running(self, order_id: str) -> bool:
        """Whether an order's saga is under way; one that was placed without a saga is not."""
        saga = await self._described(_workflow_id(order_id))
        return saga is not None and saga.status == WorkflowExecutionStatus.RUNNING

    async def _exists(self, workflow_id: str) -> bool:
        """Whether there is such a workflow, or was."""
        return await self._described(workflow_id) is not None

    async def _described(self, workflow_id: str) -> WorkflowExecutionDescription | None:
        try:
            return await self.client.temporal.get_workflow_handle(workflow_id).describe()
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return None
            raise self.client.away(error) from error

    async def _end_of(self, handle: WorkflowHandle[Any, T], unknown: Refused) -> T:
        """What a saga came to."""
        try:
            return await handle.result()
        except RPCError as error:
            raise (unknown if error.status == RPCStatusCode.NOT_FOUND else self.client.away(error)) from error
        except WorkflowFailureError as error:
            raise SagaError(f"{handle.id} did not come to its end: {error.cause}") from error


def _pieces(lines: Sequence[Line]) -> int:
    return sum(line.quantity for line in lines)


def _all() -> list[str]:
    from read_models.contents import PROJECTIONS

    return [projection.name for projection in PROJECTIONS]


def _workflow_id(order_id: str) -> str:
    return f"order-{checked_key(order_id, 'order_id')}"


def _refund_workflow(refund_id: str) -> str:
    return f"refund-{checked_key(refund_id, 'refund_id')}"
