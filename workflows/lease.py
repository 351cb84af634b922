"""The lease of a reservation: goods that nobody confirms in time go back."""

from __future__ import annotations

from datetime import datetime, timedelta

from temporalio import workflow

from amends import Key, Process, Value
from domain.stock import LapseStock

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
        async with self.saga as saga:
            await saga.sleep("hold the goods", left)
            lapse = LapseStock(sku=request.sku, reservation_id=request.reservation_id)
            await saga.do("let the reservation lapse", lapse)
