"""What the shop does by itself when something has happened: which event starts which process."""

from __future__ import annotations

from datetime import timedelta

from amends import ProcessManager, Recorded, Start
from domain.stock import StockRanLow, StockReserved
from workflows.lease import Lease, ReservationLease
from workflows.replenish import Replenish, ReplenishRequest

__all__ = ["leasing", "replenishing", "workflow_of"]

leasing = ProcessManager("leasing")
replenishing = ProcessManager("replenishing")


@leasing.on(StockReserved)
def lease(event: StockReserved, fact: Recorded) -> Start[Lease] | None:
    """Goods held for a time go back when it is over, counted from the reservation."""
    if event.hold is None:
        return None
    until = fact.recorded_at + timedelta(seconds=event.hold)
    return Start(
        ReservationLease,
        Lease(sku=event.sku, reservation_id=event.reservation_id, until=until),
        labels={"sku": event.sku, "reservation_id": event.reservation_id},
        attributes={"OrderId": event.reservation_id},
        summary=f"{event.quantity} × {event.sku} for {event.reservation_id}",
    )


@replenishing.on(StockRanLow)
def replenish(event: StockRanLow, fact: Recorded) -> Start[ReplenishRequest]:
    """More is ordered of what has run low."""
    id = str(fact.event_id)
    return Start(
        Replenish,
        ReplenishRequest(replenishment_id=id, sku=event.sku, quantity=event.quantity),
        labels={"sku": event.sku, "replenishment_id": id},
        summary=f"{event.quantity} × {event.sku}, {event.available} left",
    )


def workflow_of(replenishment_id: str) -> str:
    """The workflow id of a replenishment."""
    return f"{replenishing.name}-{replenishment_id}"
