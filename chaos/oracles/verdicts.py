"""What became of orders and returns: what clients were told, and the provider's ledger where nobody could tell them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from chaos.client_book import ClientBook, OrderEntry, RefundEntry
from chaos.reading import Charge

__all__ = ["by_payment", "is_completed", "net", "refunds", "returned"]


def by_payment(ledger: Iterable[Charge]) -> dict[str, list[Charge]]:
    """The ledger's lines of each payment; an order's payment bears its id."""
    found: dict[str, list[Charge]] = {}
    for charge in ledger:
        found.setdefault(charge.payment_id, []).append(charge)
    return found


def net(charges: Iterable[Charge]) -> int:
    """What a customer has paid and not got back, in minor units."""
    return sum(charge.amount - charge.refunded for charge in charges if charge.status == "charged")


def is_completed(entry: OrderEntry, charges: Sequence[Charge]) -> bool:
    """Whether the goods are the customer's: as told; of a terminated order, whether its money was kept."""
    if entry.outcome is not None:
        return entry.outcome.status == "completed"
    return net(charges) > 0


def refunds(entry: OrderEntry, charges: Iterable[Charge]) -> list[tuple[RefundEntry, int]]:
    """Returns that went through, with what was given back: as told; of a terminated one, as the ledger has it."""
    told = [
        (refund, refund.outcome.amount.amount)
        for refund in entry.refunds
        if refund.outcome is not None and refund.outcome.amount is not None
    ]
    given = sum(charge.refunded for charge in charges if charge.status == "charged")
    for refund in entry.refunds:
        if refund.terminated and refund.outcome is None and given > sum(amount for _, amount in told):
            told.append((refund, refund.amounts[0]))
    return told


def returned(book: ClientBook, payments: Mapping[str, Sequence[Charge]]) -> dict[str, int]:
    """Pieces of each product that have come back and can be sold again."""
    back: dict[str, int] = {}
    for entry in book.accepted():
        charges = payments.get(entry.order_id, ())
        left = {line.sku: line.quantity for line in entry.plan.lines}
        for refund, _ in refunds(entry, charges) if is_completed(entry, charges) else ():
            first = entry.plan.lines[0].sku
            came = dict(left) if refund.plan.pieces is None else {first: refund.plan.pieces}
            for sku, pieces in came.items():
                left[sku] -= pieces
                if refund.plan.restock:
                    back[sku] = back.get(sku, 0) + pieces
    return back
