"""What customers, products, stock and orders of another system become here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import Field, ValidationInfo, field_validator

from amends import Command, Money, Personal
from amends.importing import Shown, SourceKey, SourceRecord
from amends.values import Value
from domain.customer import ChangeEmail, Email, RegisterCustomer
from domain.order import ImportOrder
from domain.past_order import ImportedEnding
from domain.product import AddProduct, ChangePrice, DiscontinueProduct
from domain.stock import ReceiveStock
from domain.values import (
    MAX_LINES,
    NotNegativeMoney,
    PastMoment,
    PositiveMoney,
    PricedLine,
    Quantity,
    ShortText,
)

__all__ = ["RECORDS", "SourceCustomer", "SourceLine", "SourceOrder", "SourceProduct", "SourceStock"]

DELIVERY = 1_000_000
"""Most pieces that one delivery has."""

MAX_OPENING = 100 * DELIVERY
"""Most pieces of a product that can be taken over."""


class SourceCustomer(SourceRecord, kind="customer"):
    """A customer; a changed address is followed, a changed name can't be.

    Args:
        name: what the customer is called.
        email: where mail goes.
        member_since: when the customer joined.
    """

    followed = frozenset({"email"})

    name: Personal[ShortText]
    email: Personal[Email]
    member_since: PastMoment | None = None

    def commands(self) -> Sequence[Command]:
        """A registration that remembers when it was."""
        since = self.member_since
        return [RegisterCustomer(customer_id=self.id, name=self.name, email=self.email, member_since=since)]

    def changes(self) -> Sequence[Command]:
        """Mail goes elsewhere."""
        return [ChangeEmail(customer_id=self.id, email=self.email)]

    def shown(self) -> Sequence[Shown]:
        """The customer's own row; when they registered, where that is known."""
        columns: dict[str, str | datetime] = {"name": self.name, "email": self.email}
        if self.member_since is not None:
            columns["registered_at"] = self.member_since
        return [Shown("customers", "customer_id", self.id, columns, personal=frozenset({"name", "email"}))]


class SourceProduct(SourceRecord, kind="product"):
    """A product; its price and its end are followed.

    Args:
        name: what customers read.
        price: for one piece, in minor units.
        discontinued: no longer sold.
    """

    followed = frozenset({"price", "discontinued"})

    name: ShortText
    price: PositiveMoney
    discontinued: bool = False

    def commands(self) -> Sequence[Command]:
        """A product on sale, or once on sale."""
        added = AddProduct(sku=self.id, name=self.name, price=self.price)
        return [added, DiscontinueProduct(sku=self.id)] if self.discontinued else [added]

    def changes(self) -> Sequence[Command]:
        """Another price, and then the end where it has come: afterwards no price could be changed."""
        priced = ChangePrice(sku=self.id, price=self.price)
        return [priced, DiscontinueProduct(sku=self.id)] if self.discontinued else [priced]

    def shown(self) -> Sequence[Shown]:
        """Its row in the catalogue."""
        told = {"name": self.name, "price": self.price.amount, "currency": self.price.currency}
        return [Shown("product_catalog", "sku", self.id, told | {"discontinued": self.discontinued})]


class SourceStock(SourceRecord, kind="stock"):
    """What lies on the shelf of a product at the cut-over; it is not followed, for both systems would sell from it.

    Args:
        quantity: pieces.
    """

    quantity: int = Field(strict=True, ge=0, le=MAX_OPENING)

    def commands(self) -> Sequence[Command]:
        """One delivery, or several where there is more than one delivery can have."""
        full, rest = divmod(self.quantity, DELIVERY)
        return [ReceiveStock(sku=self.id, quantity=pieces) for pieces in [DELIVERY] * full + [rest] * (rest > 0)]

    def shown(self) -> Sequence[Shown]:
        """What is on hand; of a product that never had any there is no row."""
        return [Shown("inventory_levels", "sku", self.id, {"on_hand": self.quantity}, needed=self.quantity > 0)]


class SourceLine(Value):
    """So many pieces of one product, at the price they were sold for.

    Args:
        sku: the other system's key of the product.
        quantity: pieces.
        unit_price: for one piece, in minor units.
    """

    sku: SourceKey
    quantity: Quantity
    unit_price: PositiveMoney


class SourceOrder(SourceRecord, kind="order"):
    """An order that has ended; as long as it has not, it is rejected.

    Args:
        customer_id: the other system's key of the customer.
        lines: what, how much of it, at which price.
        total: of all lines, in minor units; checked where it is given.
        status: completed, cancelled, or refunded when everything came back.
        reason: why it was cancelled.
        paid: taken from the customer, in minor units; when not given, the total, and nothing where it was cancelled.
        refunded: given back, in minor units; when not given, what fits the status.
        placed_at: when it was placed, with its time zone.
        ended_at: when it ended.
    """

    customer_id: SourceKey
    lines: tuple[SourceLine, ...] = Field(max_length=MAX_LINES)
    total: NotNegativeMoney | None = None
    status: ImportedEnding
    reason: ShortText | None = None
    paid: NotNegativeMoney | None = None
    refunded: NotNegativeMoney | None = None
    placed_at: PastMoment
    ended_at: PastMoment

    @field_validator("lines")
    @classmethod
    def _some(cls, lines: tuple[SourceLine, ...], info: ValidationInfo) -> tuple[SourceLine, ...]:
        if not lines:
            raise ValueError("must hold at least one line")
        return lines

    def commands(self) -> Sequence[Command]:
        """The order as history; what it leaves out is what its status says."""
        return [
            ImportOrder(
                order_id=self.id,
                customer_id=self.customer_id,
                lines=self._priced(),
                total=self.total,
                status=self.status,
                reason=self.reason,
                paid=self._paid(),
                refunded=self._refunded(),
                placed_at=self.placed_at,
                ended_at=self.ended_at,
            )
        ]

    def shown(self) -> Sequence[Shown]:
        """Its row in the history."""
        sold = self._sold()
        columns = {
            "customer_id": self.customer_id,
            "status": self.status,
            "reason": self.reason,
            "lines": [line.model_dump(mode="json") for line in self._priced()],
            "currency": sold.currency,
            "total": (self.total or sold).amount,
            "paid": self._paid().amount,
            "refunded": self._refunded().amount,
            "placed_at": self.placed_at,
            "ended_at": self.ended_at,
        }
        return [Shown("order_history", "order_id", self.id, columns)]

    def _priced(self) -> tuple[PricedLine, ...]:
        return tuple(PricedLine(**dict(line)) for line in self.lines)

    def _sold(self) -> Money:
        cents = sum(line.unit_price.amount * line.quantity for line in self.lines)
        return Money(amount=cents, currency=self.lines[0].unit_price.currency)

    def _paid(self) -> Money:
        return self.paid or (self._sold() * 0 if self.status == "cancelled" else self._sold())

    def _refunded(self) -> Money:
        return self.refunded or (self._sold() * 0 if self.status == "completed" else self._paid())


RECORDS = (SourceCustomer, SourceProduct, SourceStock, SourceOrder)
"""What can be taken over; customers come before the orders that name them."""
