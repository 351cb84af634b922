"""Stock: what lies on the shelf, and what of it is promised to an order."""

from __future__ import annotations

from typing import Self, assert_never

from pydantic import Field

from amends import Aggregate, Claim, Command, Decision, Event, Key, Refused
from domain.values import Quantity

__all__ = [
    "MAX_ON_HAND",
    "CommitStock",
    "OutOfStock",
    "ReceiveStock",
    "ReleaseStock",
    "ReservationDiffers",
    "ReservationEnded",
    "ReservationNotOpen",
    "ReserveStock",
    "ShelfFull",
    "StockCommand",
    "StockCommitted",
    "StockEvent",
    "StockItem",
    "StockReceived",
    "StockReleased",
    "StockReserved",
]

MAX_ON_HAND = 10**12
"""Most pieces of one product that the shop can hold."""


class OutOfStock(Refused):
    """Not that many pieces are available"""


class ReservationEnded(Refused):
    """The reservation has ended; a new one needs a new id"""


class ReservationDiffers(Refused):
    """The reservation is open with another quantity"""


class ReservationNotOpen(Refused):
    """There is no such open reservation"""


class ShelfFull(Refused):
    """More pieces than the shop can hold"""


class ReceiveStock(Command, name="stock.receive"):
    """Put delivered goods on the shelf.

    Args:
        sku: which product.
        quantity: pieces delivered.
    """

    sku: Key
    quantity: Quantity


class ReserveStock(Command, name="stock.reserve"):
    """Hold goods back for somebody, all of them or none.

    Args:
        sku: which product.
        reservation_id: names the reservation; works once, for ever.
        quantity: pieces.
    """

    sku: Key
    reservation_id: Key
    quantity: Quantity


class ReleaseStock(Command, name="stock.release"):
    """Give a reservation up; where there is none, see to it that none can come later.

    Args:
        sku: which product.
        reservation_id: as reserved.
    """

    sku: Key
    reservation_id: Key


class CommitStock(Command, name="stock.commit"):
    """Hand reserved goods out: they leave the shelf.

    Args:
        sku: which product.
        reservation_id: as reserved.
    """

    sku: Key
    reservation_id: Key


class StockReceived(Event, name="stock.received"):
    """Goods came in.

    Args:
        sku: which product.
        quantity: pieces.
    """

    sku: Key
    quantity: int


class StockReserved(Event, name="stock.reserved"):
    """Goods are held back.

    Args:
        sku: which product.
        reservation_id: for which reservation.
        quantity: pieces.
    """

    sku: Key
    reservation_id: Key
    quantity: int


class StockReleased(Event, name="stock.released"):
    """Goods held back are available again.

    Args:
        sku: which product.
        reservation_id: of which reservation.
        quantity: pieces.
    """

    sku: Key
    reservation_id: Key
    quantity: int


class StockCommitted(Event, name="stock.committed"):
    """Reserved goods have left the shelf.

    Args:
        sku: which product.
        reservation_id: of which reservation.
        quantity: pieces.
    """

    sku: Key
    reservation_id: Key
    quantity: int


StockCommand = ReceiveStock | ReserveStock | ReleaseStock | CommitStock
StockEvent = StockReceived | StockReserved | StockReleased | StockCommitted


class StockItem(Aggregate[StockCommand, StockEvent], category="stock", key="sku"):
    """The stock of one product: never more promised than there is.

    Ended reservations leave the state, so that it stays as small as what is open; their ids stay claimed instead.

    Args:
        on_hand: pieces on the shelf, the reserved ones among them.
        reserved: pieces in open reservations, all together.
        open: pieces of each open reservation, by its id.
    """

    on_hand: int = 0
    reserved: int = 0
    open: dict[str, int] = Field(default_factory=dict)

    @property
    def available(self) -> int:
        """Pieces that can still be reserved."""
        return self.on_hand - self.reserved

    def decide(self, command: StockCommand) -> Decision:
        """What may be done to stock."""
        match command:
            case ReceiveStock(sku=sku, quantity=quantity) if self.on_hand + quantity > MAX_ON_HAND:
                raise ShelfFull(sku=sku, on_hand=self.on_hand, quantity=quantity, limit=MAX_ON_HAND)
            case ReceiveStock(sku=sku, quantity=quantity):
                return [StockReceived(sku=sku, quantity=quantity)]

            case ReserveStock(sku=sku, reservation_id=id, quantity=wanted) if id in self.open:
                if wanted != self.open[id]:
                    raise ReservationDiffers(sku=sku, reservation_id=id, wanted=wanted, reserved=self.open[id])
                return []
            case ReserveStock(sku=sku, quantity=wanted) if wanted > self.available:
                raise OutOfStock(sku=sku, wanted=wanted, available=self.available)
            case ReserveStock(sku=sku, reservation_id=id, quantity=wanted):
                ended = ReservationEnded(sku=sku, reservation_id=id)
                return [_once(sku, id, ended), StockReserved(sku=sku, reservation_id=id, quantity=wanted)]

            case ReleaseStock(sku=sku, reservation_id=id) if id in self.open:
                return [StockReleased(sku=sku, reservation_id=id, quantity=self.open[id])]
            case ReleaseStock(sku=sku, reservation_id=id):
                return [_once(sku, id, None)]

            case CommitStock(sku=sku, reservation_id=id) if id not in self.open:
                raise ReservationNotOpen(sku=sku, reservation_id=id)
            case CommitStock(sku=sku, reservation_id=id):
                return [StockCommitted(sku=sku, reservation_id=id, quantity=self.open[id])]
            case _:
                assert_never(command)

    def evolve(self, event: StockEvent) -> Self:
        """The stock after an event."""
        match event:
            case StockReceived(quantity=quantity):
                return self.having(on_hand=self.on_hand + quantity)
            case StockReserved(reservation_id=id, quantity=quantity):
                return self.having(reserved=self.reserved + quantity, open=self.open | {id: quantity})
            case StockReleased(reservation_id=id, quantity=quantity):
                return self._without(id, quantity)
            case StockCommitted(reservation_id=id, quantity=quantity):
                return self._without(id, quantity).having(on_hand=self.on_hand - quantity)
            case _:
                assert_never(event)

    def _without(self, reservation_id: str, quantity: int) -> Self:
        rest = self.open.copy()
        rest.pop(reservation_id, None)
        return self.having(reserved=self.reserved - quantity, open=rest)


def _once(sku: str, reservation_id: str, otherwise: Refused | None) -> Claim:
    """A reservation id works once: whoever claims it first, the reservation or its undo, settles it for ever."""
    return Claim("stock.reservation", f"{sku}/{reservation_id}", otherwise)
