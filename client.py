"""The shop's client: place orders, cancel them, send commands, ask the views."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from temporalio.client import RPCError, WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.service import RPCStatusCode

from amends.client import Client, checked_request_id
from amends.errors import InvalidInput, Refused, SagaError, Stale
from amends.freshness import Freshness
from amends.messages import Command
from amends.money import MAX_AMOUNT
from amends.query import Query
from amends.records import Position, Receipt
from amends.settings import Settings
from domain.order import UnknownOrder
from domain.values import Line
from read_models import directory, order_history
from read_models.order_history import OrderRow
from workflows.payment import Payment, PaymentMethod
from workflows.place_order import OrderOutcome, OrderRequest, PlaceOrder

__all__ = ["PlacedOrder", "Shop", "TooLate"]

T = TypeVar("T")

FRESH_WITHIN = 15.0
"""Seconds that a read of this client waits for what the client itself has written."""


class TooLate(Refused):
    """The order can no longer be cancelled"""


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
        return cls(await Client.connect(settings, actor=actor))

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
        request = OrderRequest(order_id=order_id, customer_id=customer_id, lines=tuple(lines), payment=payment)
        await self._check(request)
        acceptance = await self.client.start(
            PlaceOrder,
            request,
            id=_workflow_id(order_id),
            accepted=PlaceOrder.accepted,
            labels={"order_id": order_id},
            attributes={"OrderId": order_id, "CustomerId": customer_id},
            summary=f"{sum(line.quantity for line in lines)} pieces for {customer_id}, by {payment.kind}",
            actor=actor,
        )
        self.client.saw(acceptance.position)
        return PlacedOrder(order_id, acceptance.position, self)

    async def result(self, order_id: str) -> OrderOutcome:
        """Wait for an order's end.

        Raises:
            UnknownOrder: there is none.
            SagaError: it was terminated, or needs somebody's attention.
        """
        handle = self.client.temporal.get_workflow_handle_for(PlaceOrder.run, _workflow_id(order_id))
        try:
            outcome = await handle.result()
        except RPCError as error:
            raise _unknown(error, order_id) from error
        except WorkflowFailureError as error:
            raise SagaError(f"Order {order_id} did not come to its end: {error.cause}") from error
        self.client.saw(outcome.position)
        return outcome

    async def cancel(self, order_id: str) -> None:
        """Cancel an order in the customer's name; `result` tells when all is undone.

        Raises:
            TooLate: it is completed or as good as, or has ended already.
            UnknownOrder: there is none.
        """
        handle = self.client.temporal.get_workflow_handle_for(PlaceOrder.run, _workflow_id(order_id))
        try:
            await handle.execute_update(PlaceOrder.cancel)
        except WorkflowUpdateFailedError as error:
            raise TooLate(order_id=order_id) from error
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND and "completed" in error.message:
                raise TooLate(order_id=order_id) from error
            raise _unknown(error, order_id) from error

    async def payment_settled(self, order_id: str) -> None:
        """Tell an order's payment that the provider has news; without it, the payment looks by itself, later.

        Raises:
            UnknownOrder: no payment of such an order is waiting.
        """
        for workflow_id in (f"{_workflow_id(order_id)}/payment", _workflow_id(order_id)):
            try:
                await self.client.temporal.get_workflow_handle(workflow_id).signal(Payment.settled)
            except RPCError as error:
                refused = _unknown(error, order_id)
            else:
                return
        raise refused

    async def status(self, order_id: str) -> OrderRow:
        """Where an order stands, no staler than what this client has done itself.

        Raises:
            UnknownOrder: there is none.
        """
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
        await self.require(self.client.seen)
        return await self.client.query(query)

    async def at_least(
        self, position: Position, timeout: float = FRESH_WITHIN, projections: Collection[str] = ()
    ) -> Freshness:
        """Wait until read models show everything up to a position.

        Args:
            position: from a receipt, an acceptance or an outcome.
            timeout: seconds.
            projections: names; all of the shop's when none are given.
        """
        names = projections or (order_history.history.name, "inventory_levels", directory.directory.name)
        return await self.client.at_least(position, names, timeout)

    async def require(
        self, position: Position, timeout: float = FRESH_WITHIN, projections: Collection[str] = ()
    ) -> None:
        """As `at_least`, for answers that would be wrong when they are stale.

        Raises:
            Stale: the read models have not caught up in time.
        """
        freshness = await self.at_least(position, timeout, projections)
        if not freshness.fresh:
            raise Stale(
                f"Read model {freshness.projection} is at {freshness.position}, not yet at {position}, after "
                f"{timeout:g} s; see whether a worker runs, and views.projection_status"
            )

    async def _check(self, request: OrderRequest) -> None:
        """Refuse what can't become an order; a name the views don't know yet is looked up in fresh ones."""
        problems = await self._problems(request)
        if problems:
            head = await self.client.reader.head()
            await self.require(max(head, self.client.seen), projections=[directory.directory.name])
            problems = await self._problems(request)
        if problems and not await self._is_placed(request.order_id):
            raise InvalidInput(problems)

    async def _is_placed(self, order_id: str) -> bool:
        """Whether there is such an order already; a repeat of it gets the first answer, whatever has changed since."""
        try:
            await self.client.temporal.get_workflow_handle(_workflow_id(order_id)).describe()
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return False
            raise
        return True

    async def _problems(self, request: OrderRequest) -> dict[str, str]:
        problems = {}
        if await self.client.query(directory.customer(request.customer_id)) is None:
            problems["customer_id"] = f"{request.customer_id} is not registered"
        found = await self.client.query(directory.products([line.sku for line in request.lines]))
        known = {product.sku: product for product in found}
        for number, line in enumerate(request.lines):
            if line.sku not in known:
                problems[f"lines.{number}.sku"] = f"there is no product {line.sku}"
            elif known[line.sku].discontinued:
                problems[f"lines.{number}.sku"] = f"{line.sku} is no longer sold"
        total = sum(line.quantity * known[line.sku].price for line in request.lines if line.sku in known)
        if total > MAX_AMOUNT:
            problems["lines"] = f"an order is at most {MAX_AMOUNT} minor units, not {total}"
        currencies = sorted({product.currency for product in found})
        if len(currencies) > 1:
            problems["lines"] = f"an order is in one currency, not in {' and '.join(currencies)}"
        return problems


def _workflow_id(order_id: str) -> str:
    return f"order-{order_id}"


def _unknown(error: RPCError, order_id: str) -> Exception:
    return UnknownOrder(order_id=order_id) if error.status == RPCStatusCode.NOT_FOUND else error
