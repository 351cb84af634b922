"""Replenishments: what is on order at a supplier, until it is delivered or called off."""

from __future__ import annotations

from typing import Literal, Self, assert_never

from amends import Aggregate, Claim, Command, Decision, Event, Key, Refused
from domain.values import Quantity, ShortText

__all__ = [
    "CancelReplenishment",
    "DeliveryDiffers",
    "OpenReplenishment",
    "RecordDelivery",
    "Replenishment",
    "ReplenishmentCancelled",
    "ReplenishmentCommand",
    "ReplenishmentDelivered",
    "ReplenishmentEnded",
    "ReplenishmentEvent",
    "ReplenishmentExists",
    "ReplenishmentOpened",
    "UnknownReplenishment",
]


class ReplenishmentExists(Refused):
    """There is another replenishment with this id already"""


class ReplenishmentEnded(Refused):
    """The replenishment has ended; goods that come all the same are received as stock of their own"""


class UnknownReplenishment(Refused):
    """There is no replenishment with this id"""


class DeliveryDiffers(Refused):
    """Another delivery has come for the replenishment; what comes besides is received as stock of its own"""


class OpenReplenishment(Command, name="replenishment.open"):
    """Put pieces on order.

    Args:
        replenishment_id: names the replenishment, for ever.
        sku: which product.
        quantity: pieces.
    """

    replenishment_id: Key
    sku: Key
    quantity: Quantity


class RecordDelivery(Command, name="replenishment.record_delivery"):
    """Note that the goods have come, all there will be of them.

    Args:
        replenishment_id: which one.
        quantity: pieces that came; more or fewer than ordered.
    """

    replenishment_id: Key
    quantity: Quantity


class CancelReplenishment(Command, name="replenishment.cancel"):
    """Call a replenishment off; where there is none yet, see to it that none can come later.

    Args:
        replenishment_id: which one.
        reason: why, for people.
    """

    replenishment_id: Key
    reason: ShortText


class ReplenishmentOpened(Event, name="replenishment.opened"):
    """Pieces are on order.

    Args:
        replenishment_id: which replenishment.
        sku: which product.
        quantity: pieces.
    """

    replenishment_id: Key
    sku: Key
    quantity: int


class ReplenishmentDelivered(Event, name="replenishment.delivered"):
    """The goods have come, and nothing is on order any more.

    Args:
        replenishment_id: which replenishment.
        sku: which product.
        quantity: pieces that came.
        ordered: pieces that had been on order.
    """

    replenishment_id: Key
    sku: Key
    quantity: int
    ordered: int


class ReplenishmentCancelled(Event, name="replenishment.cancelled"):
    """Nothing has come, and nothing is on order any more.

    Args:
        replenishment_id: which replenishment.
        sku: which product.
        ordered: pieces that had been on order.
        reason: why.
    """

    replenishment_id: Key
    sku: Key
    ordered: int
    reason: str


ReplenishmentCommand = OpenReplenishment | RecordDelivery | CancelReplenishment
ReplenishmentEvent = ReplenishmentOpened | ReplenishmentDelivered | ReplenishmentCancelled


class Replenishment(
    Aggregate[ReplenishmentCommand, ReplenishmentEvent], category="replenishment", key="replenishment_id"
):
    """A replenishment: it ends exactly once, delivered or cancelled.

    Args:
        status: how far it has come; new while nobody has opened it.
        sku: which product.
        ordered: pieces on order.
        delivered: pieces that came.
    """

    status: Literal["new", "open", "delivered", "cancelled"] = "new"
    sku: str = ""
    ordered: int = 0
    delivered: int = 0

    def decide(self, command: ReplenishmentCommand) -> Decision:
        """What may become of a replenishment."""
        match command:
            case OpenReplenishment(replenishment_id=id, sku=sku, quantity=quantity) if self.status == "new":
                opened = ReplenishmentOpened(replenishment_id=id, sku=sku, quantity=quantity)
                return [_once(id, ReplenishmentEnded(replenishment_id=id)), opened]
            case OpenReplenishment(sku=self.sku, quantity=self.ordered) if self.status == "open":
                return []
            case OpenReplenishment(replenishment_id=id):
                raise ReplenishmentExists(replenishment_id=id, status=self.status)

            case RecordDelivery(replenishment_id=id) if self.status == "new":
                raise UnknownReplenishment(replenishment_id=id)
            case RecordDelivery(replenishment_id=id) if self.status == "cancelled":
                raise ReplenishmentEnded(replenishment_id=id)
            case RecordDelivery(replenishment_id=id, quantity=quantity) if self.status == "delivered":
                if quantity != self.delivered:
                    raise DeliveryDiffers(replenishment_id=id, told=quantity, recorded=self.delivered)
                return []
            case RecordDelivery(replenishment_id=id, quantity=quantity):
                ordered = self.ordered
                return [ReplenishmentDelivered(replenishment_id=id, sku=self.sku, quantity=quantity, ordered=ordered)]

            case CancelReplenishment(replenishment_id=id) if self.status == "new":
                return [_once(id, None)]
            case CancelReplenishment(replenishment_id=id, reason=reason) if self.status == "open":
                return [ReplenishmentCancelled(replenishment_id=id, sku=self.sku, ordered=self.ordered, reason=reason)]
            case CancelReplenishment():
                return []
            case _:
                assert_never(command)

    def evolve(self, event: ReplenishmentEvent) -> Self:
        """The replenishment after an event."""
        match event:
            case ReplenishmentOpened(sku=sku, quantity=quantity):
                return self.having(status="open", sku=sku, ordered=quantity)
            case ReplenishmentDelivered(quantity=quantity):
                return self.having(status="delivered", delivered=quantity)
            case ReplenishmentCancelled():
                return self.having(status="cancelled")
            case _:
                assert_never(event)


def _once(replenishment_id: str, otherwise: Refused | None) -> Claim:
    """An id works once: whoever claims it first, the replenishment or its undo, settles it for ever."""
    return Claim("replenishment", replenishment_id, otherwise)
