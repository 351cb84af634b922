"""What workflows may ask of a supplier: the interface alone, light to import."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pydantic import Field
from temporalio import activity

from amends import AmendsError, Context, Key, Refused, Value
from domain.values import Quantity

__all__ = ["AlreadyDelivered", "NotSupplied", "Promise", "SupplierUnavailable", "Suppliers", "SupplyOrder"]


class SupplierUnavailable(AmendsError):
    """No answer in time: the supplier may have acted or not. Ask again with the same key."""


class NotSupplied(Refused):
    """The supplier does not take the order"""


class AlreadyDelivered(Refused):
    """The supplier has delivered already, so there is nothing to cancel"""


class SupplyOrder(Value):
    """What is ordered.

    Args:
        order_id: our name for the order, which the delivery note bears.
        sku: which product.
        quantity: pieces.
    """

    order_id: Key
    sku: Key
    quantity: Quantity


class Promise(Value):
    """When the supplier will deliver.

    Args:
        days: lead time from now on.
    """

    days: int = Field(ge=1, le=1000)


class Suppliers(ABC):
    """Calls of a supplier; each is repeated under the same key until it is answered, and acts once for each key."""

    @abstractmethod
    @activity.defn(name="supplier.order")
    async def order(self, order: SupplyOrder, context: Context) -> Promise:
        """Order goods; refused for what the supplier does not sell, and for an order that was cancelled before."""

    @abstractmethod
    @activity.defn(name="supplier.status")
    async def status(self, order_id: Key, context: Context) -> Promise | None:
        """When an order will be delivered; None when the supplier has no such order."""

    @abstractmethod
    @activity.defn(name="supplier.chase")
    async def chase(self, order_id: Key, context: Context) -> Promise:
        """Remind the supplier of an order that is late, and hear when it will be delivered instead."""

    @abstractmethod
    @activity.defn(name="supplier.cancel")
    async def cancel(self, order_id: Key, context: Context) -> None:
        """Take an order back; one that never came can't come later, and one that was delivered is refused."""
