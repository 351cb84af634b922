"""Replenishing: goods that ran low are ordered from the supplier, awaited for days, and put on the shelf."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from activities.suppliers import Promise, Suppliers, SupplyOrder
from amends import Call, Key, Position, Process, Refused, Saga, SagaUndone, Value
from amends.policies import Policy
from amends.records import START
from domain.replenishment import (
    CancelReplenishment,
    DeliveryDiffers,
    OpenReplenishment,
    RecordDelivery,
    ReplenishmentEnded,
)
from domain.stock import ReceiveStock
from domain.values import Quantity

__all__ = ["DeliveryOverdue", "Replenish", "ReplenishOutcome", "ReplenishRequest"]

CHASES = 3
"""How often a late supplier is reminded before the shop gives up."""

SUPPLIER = Policy(
    attempt=timedelta(seconds=30),
    deadline=timedelta(days=1),
    first_pause=timedelta(seconds=1),
    longest_pause=timedelta(minutes=5),
    heartbeat=timedelta(seconds=5),
)
"""A supplier who can't be reached for an hour is no reason to give up what takes days."""


class DeliveryOverdue(Refused):
    """The supplier has not delivered, although it was reminded"""


class ReplenishRequest(Value):
    """What is to be ordered.

    Args:
        replenishment_id: names the order, here and at the supplier; the delivery note bears it.
        sku: which product.
        quantity: pieces.
    """

    replenishment_id: Key
    sku: Key
    quantity: Quantity


class ReplenishOutcome(Value):
    """How a replenishment ended.

    Args:
        status: delivered; or cancelled, and then nothing is on order any more.
        delivered: pieces that came.
        reason: short code of why not, e.g. DeliveryOverdue; None when delivered.
        position: where its last event stands in the feed.
    """

    replenishment_id: Key
    status: Literal["delivered", "cancelled"]
    delivered: int
    reason: str | None
    position: Position = START


@workflow.defn
class Replenish(Process[ReplenishRequest, ReplenishOutcome]):
    """Order from the supplier, wait for the delivery, chase it when it is late, put it on the shelf."""

    def __init__(self) -> None:
        super().__init__()
        self._came: int | None = None
        self._on_the_shelf: Position | None = None

    @workflow.run
    async def run(self, request: ReplenishRequest) -> ReplenishOutcome:
        """See a replenishment through: delivered, or cancelled."""
        id = request.replenishment_id
        try:
            async with self.saga as saga:
                await self._open(saga, request)
                promise = await self._order(saga, request)
                quantity = await self._delivery(saga, request, promise)
                await self._receive(saga, request, quantity)
        except SagaUndone as undone:
            return self._outcome(id, "cancelled", 0, undone.reason)
        return self._outcome(id, "delivered", quantity, None)

    @workflow.update
    async def delivered(self, quantity: int) -> Position:
        """Goods have come: answers when they are on the shelf, so that none that were counted are lost unnoticed."""
        self._came = quantity
        await workflow.wait_condition(lambda: self._on_the_shelf is not None or self.saga.failure is not None)
        if self._on_the_shelf is None:
            raise ApplicationError("Nothing is awaited any more", type=ReplenishmentEnded.__name__)
        return self._on_the_shelf

    @delivered.validator
    def _one_delivery(self, quantity: int) -> None:
        if self.saga.failure is not None:
            raise ApplicationError("Nothing is awaited any more", type=ReplenishmentEnded.__name__)
        if self._came not in (None, quantity):
            raise ApplicationError("Another delivery has come", type=DeliveryDiffers.__name__)

    async def _open(self, saga: Saga, request: ReplenishRequest) -> None:
        id, sku, quantity = request.replenishment_id, request.sku, request.quantity
        await saga.do(
            f"put {quantity} × {sku} on order",
            OpenReplenishment(replenishment_id=id, sku=sku, quantity=quantity),
            undo=lambda why: CancelReplenishment(replenishment_id=id, reason=why),
        )

    async def _order(self, saga: Saga, request: ReplenishRequest) -> Promise:
        id, sku, quantity = request.replenishment_id, request.sku, request.quantity
        order = SupplyOrder(order_id=id, sku=sku, quantity=quantity)
        return await saga.do(
            f"order {quantity} × {sku}",
            Call(Suppliers.order, order, SUPPLIER, ask=Call(Suppliers.status, id, SUPPLIER)),
            undo=Call(Suppliers.cancel, id, SUPPLIER),
        )

    async def _delivery(self, saga: Saga, request: ReplenishRequest, promise: Promise) -> int:
        """Wait for the goods until they are due, and again for each time the supplier was reminded."""
        chase = Call(Suppliers.chase, request.replenishment_id, SUPPLIER)
        chases = 0
        while not await self._has_come(saga, promise):
            if chases == CHASES:
                raise DeliveryOverdue(replenishment_id=request.replenishment_id, sku=request.sku, chases=chases)
            promise = await saga.do("chase the supplier", chase)
            chases += 1
        assert self._came is not None
        return self._came

    async def _has_come(self, saga: Saga, promise: Promise) -> bool:
        due = timedelta(days=promise.days)
        return await saga.wait("wait for the delivery", lambda: self._came is not None, timeout=due)

    async def _receive(self, saga: Saga, request: ReplenishRequest, quantity: int) -> None:
        """From the moment the delivery is on record there is no way back, so what was counted gets on the shelf."""
        id, sku = request.replenishment_id, request.sku
        delivered = RecordDelivery(replenishment_id=id, quantity=quantity)
        await saga.do(f"record the delivery of {quantity} × {sku}", delivered, pivot=True)
        await saga.do(f"put {quantity} × {sku} on the shelf", ReceiveStock(sku=sku, quantity=quantity))
        self._on_the_shelf = saga.position

    def _outcome(
        self, id: Key, status: Literal["delivered", "cancelled"], delivered: int, reason: str | None
    ) -> ReplenishOutcome:
        return ReplenishOutcome(
            replenishment_id=id, status=status, delivered=delivered, reason=reason, position=self.saga.position
        )
