"""Setting the goods of an order aside, all of them or none, for good or for a time."""

from __future__ import annotations

from temporalio import workflow

from amends import Key, Process, Saga, Value
from domain.stock import ConfirmStock, Hold, ReleaseStock, ReserveStock
from domain.values import OrderLines

__all__ = ["InventoryReservation", "Reservation", "confirm_reservation"]


class Reservation(Value):
    """The goods to set aside, under a name of their own.

    Args:
        reservation_id: names the reservation of every line.
        lines: which goods.
        hold: seconds after which they lapse, unless they are confirmed; None holds them until they are released.
    """

    reservation_id: Key
    lines: OrderLines
    hold: Hold | None = None


@workflow.defn
class InventoryReservation(Process[Reservation, None]):
    """Reserve every line side by side; when one is out of stock, what the others got goes back."""

    @workflow.run
    async def run(self, request: Reservation) -> None:
        """Reserve the goods.

        Raises:
            OutOfStock: a line asks for more than there is.
        """
        id, hold = request.reservation_id, request.hold
        async with self.saga as saga:
            await saga.all(
                *(
                    saga.do(
                        f"reserve {line.quantity} × {line.sku}",
                        ReserveStock(sku=line.sku, reservation_id=id, quantity=line.quantity, hold=hold),
                        undo=ReleaseStock(sku=line.sku, reservation_id=id),
                    )
                    for line in request.lines
                )
            )


async def confirm_reservation(saga: Saga, reservation: Reservation) -> None:
    """Keep goods for good that were reserved for a time; what takes the reservation back, takes this back too.

    Args:
        saga: whose steps these are; the one that has reserved them, before its pivot.
        reservation: as it was made.

    Raises:
        ReservationLapsed: a line was not confirmed in time.
    """
    await saga.all(
        *(
            saga.do(
                f"confirm {line.quantity} × {line.sku}",
                ConfirmStock(sku=line.sku, reservation_id=reservation.reservation_id),
            )
            for line in reservation.lines
        )
    )
