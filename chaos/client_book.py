"""What clients asked for and what they were told: kept by them, apart from everything the system writes down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

from amends.records import Position
from chaos.orders import PRODUCTS, OrderPlan, Return
from workflows.place_order import OrderOutcome
from workflows.refund_order import RefundOutcome

__all__ = ["ClientBook", "OrderEntry", "PriceEntry", "RefundEntry", "RestockEntry"]


@dataclass
class RefundEntry:
    """A return.

    Args:
        plan: what was wanted.
        amounts: what each copy of the request was told that the customer gets, in minor units.
        outcome: what its end was said to be.
        refused: it was refused at once, by this rule.
        terminated: somebody ended its workflow in the server.
    """

    refund_id: str
    plan: Return
    amounts: list[int] = field(default_factory=list)
    outcome: RefundOutcome | None = None
    refused: str | None = None
    terminated: bool = False


@dataclass
class OrderEntry:
    """An order.

    Args:
        plan: what was wanted.
        asked_at: seconds, when it was first sent.
        accepted: what each copy of the request was told.
        accepted_at: seconds, of the first answer.
        outcome: what its end was said to be; None when nobody could say, because it was terminated.
        cancelled: the customer was told that it is cancelled.
        meddled: somebody did something to its workflow in the server.
        refunds: what came back.
        trouble: errors that no client should see.
    """

    plan: OrderPlan
    asked_at: float = 0.0
    accepted: list[Position] = field(default_factory=list)
    accepted_at: float = 0.0
    outcome: OrderOutcome | None = None
    cancelled: bool = False
    meddled: bool = False
    refunds: list[RefundEntry] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    @property
    def may_have_no_answer(self) -> bool:
        """Whether the workflow that would tell its end was ended itself."""
        return self.meddled and self.plan.meddling is not None and self.plan.meddling[1].ends_it

    @property
    def order_id(self) -> str:
        """The order's id."""
        return self.plan.order_id


@dataclass
class PriceEntry:
    """A price: sent at, and told to be valid at, in seconds; `told` is infinite until then."""

    amount: int
    sent: float
    told: float = float("inf")


@dataclass
class RestockEntry:
    """Pieces put on a shelf; whether that was confirmed."""

    sku: str
    quantity: int
    told: bool = False


@dataclass
class ClientBook:
    """All of it.

    Args:
        orders: by id.
        prices: of each product, oldest first; changed by one client, one after the other.
        restocks: of all products.
        errors: how often clients met which error and asked again.
    """

    orders: dict[str, OrderEntry] = field(default_factory=dict)
    prices: dict[str, list[PriceEntry]] = field(
        default_factory=lambda: {sku: [PriceEntry(each.price, 0.0, 0.0)] for sku, each in PRODUCTS.items()}
    )
    restocks: list[RestockEntry] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def accepted(self) -> Iterator[OrderEntry]:
        """Orders of which a client was told that they are on record."""
        return (entry for entry in self.orders.values() if entry.accepted)

    def possible_prices(self, sku: str, since: float, until: float) -> list[int]:
        """Every price that an order placed in that time can have got, in minor units.

        Args:
            sku: of which product.
            since: seconds, when the order was asked for.
            until: seconds, when it was on record.
        """
        prices: Sequence[PriceEntry] = self.prices[sku]
        first = max(n for n, price in enumerate(prices) if price.told <= since)
        return [price.amount for price in prices[first:] if price.sent <= until]

    def possible_totals(self, entry: OrderEntry) -> set[int]:
        """Every amount that an order can come to, in minor units."""
        choices = [
            [line.quantity * price for price in self.possible_prices(line.sku, entry.asked_at, entry.accepted_at)]
            for line in entry.plan.lines
        ]
        return {sum(choice) for choice in product(*choices)}
