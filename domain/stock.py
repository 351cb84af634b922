"""Stock: what lies on the shelf, what of it is promised to an order and for how long, and when more is needed."""

from __future__ import annotations

from typing import Annotated, Any, Self, assert_never

from pydantic import Field

from amends import Aggregate, Claim, Command, Decision, Event, Key, Refused, upcast
from domain.values import Quantity

__all__ = [
    "LAPSED_REMEMBERED",
    "MAX_ON_HAND",
    "CommitStock",
    "ConfirmStock",
    "Hold",
    "LapseStock",
    "OutOfStock",
    "ReceiveStock",
    "ReleaseStock",
    "ReorderPointSet",
    "ReservationDiffers",
    "ReservationEnded",
    "ReservationLapsed",
    "ReservationNotOpen",
    "ReserveStock",
    "SetReorderPoint",
    "ShelfFull",
    "StockCommand",
    "StockCommitted",
    "StockConfirmed",
    "StockEvent",
    "StockItem",
    "StockLapsed",
    "StockRanLow",
    "StockReceived",
    "StockReleased",
    "StockReserved",
]

MAX_ON_HAND = 10**12
"""Most pieces of one product that the shop can hold."""

LAPSED_REMEMBERED = 100
"""So many lapsed reservations of a product are told as lapsed, the newest; older ones only as not open."""

Hold = Annotated[int, Field(strict=True, ge=1, le=366 * 24 * 3600)]
"""How long goods are held for somebody who does not confirm: a second to a year, in seconds."""


class OutOfStock(Refused):
    """Not that many pieces are available"""


class ReservationEnded(Refused):
    """The reservation has ended; a new one needs a new id"""


class ReservationDiffers(Refused):
    """The reservation is open with another quantity"""


class ReservationNotOpen(Refused):
    """There is no such open reservation"""


class ReservationLapsed(Refused):
    """The reservation has lapsed: it was not confirmed in time"""


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
        hold: seconds after which the reservation lapses, unless it is confirmed; None holds it until it is released.
    """

    sku: Key
    reservation_id: Key
    quantity: Quantity
    hold: Hold | None = None


class _OfReservation(Command):
    """Concerns a reservation.

    Args:
        sku: which product.
        reservation_id: as reserved.
    """

    sku: Key
    reservation_id: Key


class ConfirmStock(_OfReservation, name="stock.confirm"):
    """Hold reserved goods for good: their reservation no longer lapses."""


class LeaseStock(_OfReservation, name="stock.lease"):
    """Put a reservation under a lease: whoever keeps it sees to it that the goods go back."""


class LapseStock(_OfReservation, name="stock.lapse"):
    """Give a reservation up whose time is over, unless it was confirmed or has ended."""


class ReleaseStock(_OfReservation, name="stock.release"):
    """Give a reservation up; where there is none, see to it that none can come later."""


class CommitStock(_OfReservation, name="stock.commit"):
    """Hand reserved goods out: they leave the shelf."""


class SetReorderPoint(Command, name="stock.set_reorder_point"):
    """Say when a product has run low; it is told once until goods come in, and anew after this.

    Args:
        sku: which product.
        at: it is low when fewer pieces than this are available; 0 is never.
        quantity: pieces to order then.
    """

    sku: Key
    at: int = Field(strict=True, ge=0, le=MAX_ON_HAND)
    quantity: Quantity


class StockReceived(Event, name="stock.received"):
    """Goods came in.

    Args:
        sku: which product.
        quantity: pieces.
    """

    sku: Key
    quantity: int


class StockReserved(Event, name="stock.reserved", version=2):
    """Goods are held back.

    Args:
        sku: which product.
        reservation_id: for which reservation.
        quantity: pieces.
        hold: seconds after which the reservation lapses, unless it is confirmed; None when it does not.
    """

    sku: Key
    reservation_id: Key
    quantity: int
    hold: int | None = None

    @upcast(1)
    @staticmethod
    def _held_for_good(data: dict[str, Any]) -> dict[str, Any]:
        return data | {"hold": None}


class _ToReservation(Event):
    """Happened to a reservation.

    Args:
        sku: which product.
        reservation_id: which reservation.
        quantity: pieces.
    """

    sku: Key
    reservation_id: Key
    quantity: int


class StockConfirmed(_ToReservation, name="stock.confirmed"):
    """Goods held back for a time are held for good."""


class StockLapsed(_ToReservation, name="stock.lapsed"):
    """Goods held back are available again, because nobody confirmed in time."""


class StockReleased(_ToReservation, name="stock.released"):
    """Goods held back are available again."""


class StockCommitted(_ToReservation, name="stock.committed"):
    """Reserved goods have left the shelf."""


class ReorderPointSet(Event, name="stock.reorder_point_set"):
    """It was said when the product has run low.

    Args:
        sku: which product.
        at: it is low with fewer pieces available.
        quantity: pieces to order then.
    """

    sku: Key
    at: int
    quantity: int


class StockRanLow(Event, name="stock.ran_low"):
    """More pieces are needed; told once until goods come in.

    Args:
        sku: which product.
        available: pieces that can still be reserved.
        quantity: pieces to order.
    """

    sku: Key
    available: int
    quantity: int


StockCommand = (
    ReceiveStock | ReserveStock | ConfirmStock | LeaseStock | LapseStock | ReleaseStock | CommitStock | SetReorderPoint
)
StockEvent = (
    StockReceived
    | StockReserved
    | StockConfirmed
    | StockLapsed
    | StockReleased
    | StockCommitted
    | ReorderPointSet
    | StockRanLow
)


class StockItem(Aggregate[StockCommand, StockEvent], category="stock", key="sku", snapshot_version=2):
    """The stock of one product: never more promised than there is.

    Ended reservations leave the state, so that it stays as small as what is open; their ids stay claimed instead.

    Args:
        on_hand: pieces on the shelf, the reserved ones among them.
        reserved: pieces in open reservations, all together.
        open: pieces of each open reservation, by its id.
        leased: ids of those open reservations that lapse unless they are confirmed.
        lapsed: ids of the latest lapsed reservations.
        reorder_at: the product is low with fewer pieces available.
        reorder_quantity: pieces to order then.
        low: that was told, and no goods have come in since.
    """

    on_hand: int = 0
    reserved: int = 0
    open: dict[str, int] = Field(default_factory=dict)
    leased: frozenset[str] = frozenset()
    lapsed: tuple[str, ...] = ()
    reorder_at: int = 0
    reorder_quantity: int = 0
    low: bool = False

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
                received = StockReceived(sku=sku, quantity=quantity)
                return [received, *self.evolve(received)._ran_low(sku)]

            case ReserveStock(sku=sku, reservation_id=id, quantity=wanted) if id in self.open:
                if wanted != self.open[id]:
                    raise ReservationDiffers(sku=sku, reservation_id=id, wanted=wanted, reserved=self.open[id])
                return []
            case ReserveStock(sku=sku, quantity=wanted) if wanted > self.available:
                raise OutOfStock(sku=sku, wanted=wanted, available=self.available)
            case ReserveStock(sku=sku, reservation_id=id, quantity=wanted, hold=hold):
                ended = ReservationEnded(sku=sku, reservation_id=id)
                reserved = StockReserved(sku=sku, reservation_id=id, quantity=wanted, hold=hold)
                left = self.having(reserved=self.reserved + wanted)
                return [_once(sku, id, ended), reserved, *left._ran_low(sku)]

            case ConfirmStock(sku=sku, reservation_id=id):
                quantity = self._open(sku, id)
                return [StockConfirmed(sku=sku, reservation_id=id, quantity=quantity)] if id in self.leased else []

            case LeaseStock():
                return []  # that it is recorded is enough: a lease that is ended from outside is undone by that record

            case LapseStock(sku=sku, reservation_id=id) if id in self.leased:
                return [StockLapsed(sku=sku, reservation_id=id, quantity=self.open[id])]
            case LapseStock():
                return []

            case ReleaseStock(sku=sku, reservation_id=id) if id in self.open:
                return [StockReleased(sku=sku, reservation_id=id, quantity=self.open[id])]
            case ReleaseStock(sku=sku, reservation_id=id):
                return [_once(sku, id, None)]

            case CommitStock(sku=sku, reservation_id=id):
                return [StockCommitted(sku=sku, reservation_id=id, quantity=self._open(sku, id))]

            case SetReorderPoint(sku=sku, at=at, quantity=quantity):
                point = ReorderPointSet(sku=sku, at=at, quantity=quantity)
                return [point, *self.evolve(point)._ran_low(sku)]
            case _:
                assert_never(command)

    def evolve(self, event: StockEvent) -> Self:
        """The stock after an event."""
        match event:
            case StockReceived(quantity=quantity):
                return self.having(on_hand=self.on_hand + quantity, low=False)
            case StockReserved(reservation_id=id, quantity=quantity, hold=hold):
                leased = self.leased if hold is None else self.leased | {id}
                return self.having(reserved=self.reserved + quantity, open=self.open | {id: quantity}, leased=leased)
            case StockConfirmed(reservation_id=id):
                return self.having(leased=self.leased - {id})
            case StockLapsed(reservation_id=id, quantity=quantity):
                return self._without(id, quantity).having(lapsed=(*self.lapsed, id)[-LAPSED_REMEMBERED:])
            case StockReleased(reservation_id=id, quantity=quantity):
                return self._without(id, quantity)
            case StockCommitted(reservation_id=id, quantity=quantity):
                return self._without(id, quantity).having(on_hand=self.on_hand - quantity)
            case ReorderPointSet(at=at, quantity=quantity):
                return self.having(reorder_at=at, reorder_quantity=quantity, low=False)
            case StockRanLow():
                return self.having(low=True)
            case _:
                assert_never(event)

    def _open(self, sku: str, reservation_id: str) -> int:
        """Pieces of an open reservation; one that is not is refused, with the reason as far as it is still known."""
        if reservation_id in self.open:
            return self.open[reservation_id]
        refusal = ReservationLapsed if reservation_id in self.lapsed else ReservationNotOpen
        raise refusal(sku=sku, reservation_id=reservation_id)

    def _ran_low(self, sku: str) -> list[StockRanLow]:
        """That the product is low, when it is and that was not told."""
        if self.low or self.reorder_at == 0 or self.available >= self.reorder_at:
            return []
        return [StockRanLow(sku=sku, available=self.available, quantity=self.reorder_quantity)]

    def _without(self, reservation_id: str, quantity: int) -> Self:
        rest = self.open.copy()
        rest.pop(reservation_id, None)
        return self.having(reserved=self.reserved - quantity, open=rest, leased=self.leased - {reservation_id})


def _once(sku: str, reservation_id: str, otherwise: Refused | None) -> Claim:
    """A reservation id works once: whoever claims it first, the reservation or its undo, settles it for ever."""
    return Claim("stock.reservation", f"{sku}/{reservation_id}", otherwise)
