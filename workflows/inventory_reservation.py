"""Setting the goods of an order aside, all of them or none."""

from __future__ import annotations

from collections.abc import Sequence

from temporalio import workflow

from amends import Key, Process, Undo, Value
from domain.stock import ReleaseStock, ReserveStock
from domain.values import OrderLines

__all__ = ["InventoryReservation", "Reservation"]


class Reservation(Value):
    """The goods to set aside, under a name of their own."""

    reservation_id: Key
    lines: OrderLines


@workflow.defn
class InventoryReservation(Process[Reservation, None]):
    """Reserve every line side by side; when one is out of stock, what the others got goes back."""

    @workflow.run
    async def run(self, request: Reservation) -> None:
        """Reserve the goods.

        Raises:
            OutOfStock: a line asks for more than there is.
        """
        async with self.saga as saga:
            await saga.all(
                *(
                    saga.do(
                        f"reserve {line.quantity} × {line.sku}",
                        ReserveStock(sku=line.sku, reservation_id=request.reservation_id, quantity=line.quantity),
                        undo=ReleaseStock(sku=line.sku, reservation_id=request.reservation_id),
                    )
                    for line in request.lines
                )
            )

    @classmethod
    def undo(cls, request: Reservation) -> Sequence[Undo]:
        """Release every line."""
        return [ReleaseStock(sku=line.sku, reservation_id=request.reservation_id) for line in request.lines]
