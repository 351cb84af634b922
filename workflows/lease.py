"""The lease of a reservation: goods that nobody confirms in time go back."""

from __future__ import annotations

from datetime import datetime, timedelta

from temporalio import workflow

from amends import Key, Process, Value
from domain.stock import LapseStock, LeaseStock

__all__ = ["Lease", "ReservationLease"]


class Lease(Value):
    """Which reservation is held, until when.

    Args:
        sku: which product.
        reservation_id: as reserved.
        until: when it lapses, unless it was confirmed.
    """

    sku: Key
    reservation_id: Key
    until: datetime


@workflow.defn
class ReservationLease(Process[Lease, None]):
    """Wait until the time of a reservation is over, and let it lapse unless it was confirmed or has ended."""

    @workflow.run
    async def run(self, request: Lease) -> None:
        """See a lease through to its end."""
        left = max(request.until - workflow.now(), timedelta(0))
        sku, id = request.sku, request.reservation_id
        lapse = LapseStock(sku=sku, reservation_id=id)
        async with self.saga as saga:
            # whoever ends the lease ends the hold, too early rather than never
            await saga.do("keep the lease", LeaseStock(sku=sku, reservation_id=id), undo=lapse)
            await saga.sleep("hold the goods", left)
            await saga.do("let the reservation lapse", lapse)
