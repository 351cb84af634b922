"""Money, by the payment provider's own ledger: taken once, what was agreed; given back to whoever got nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chaos.client_book import ClientBook, OrderEntry
from chaos.oracles.verdicts import by_payment, is_completed, refunds
from chaos.reading import Charge

__all__ = ["check_money"]


def check_money(book: ClientBook, ledger: Sequence[Charge]) -> list[str]:
    """Compare the ledger with what clients asked for and were told.

    Args:
        book: of the clients.
        ledger: of the provider.

    Returns:
        broken promises.
    """
    payments = by_payment(ledger)
    broken = [
        f"{id}: the provider knows a payment that no client has asked for" for id in payments.keys() - book.orders
    ]
    for entry in book.orders.values():
        broken += [f"{entry.order_id}: {what}" for what in _order(book, entry, payments.get(entry.order_id, []))]
    return broken


def _order(book: ClientBook, entry: OrderEntry, charges: Sequence[Charge]) -> Iterator[str]:
    if len(charges) > 1:
        yield f"its customer was asked for money {len(charges)} times"
    for charge in charges:
        if charge.status in ("authorised", "pending"):
            yield f"{charge.amount} {charge.currency} are still {charge.status}"
    taken = [charge for charge in charges if charge.status == "charged"]
    refunded = sum(charge.refunded for charge in taken)
    if not entry.accepted:
        if sum(charge.amount for charge in taken) != refunded:
            yield "money was kept, though its client was never told that it is on record"
        return
    if not is_completed(entry, charges):
        yield from (f"{c.amount - c.refunded} were kept of an order that ended otherwise" for c in taken if _kept(c))
        return
    if not taken:
        yield "it is completed, and nothing was taken for it"
        return
    totals = book.possible_totals(entry)
    if taken[0].amount not in totals:
        yield f"{taken[0].amount} were taken, though only {sorted(totals)} can have been agreed"
    promised = sum(amount for _, amount in refunds(entry, charges))
    if refunded != promised:
        yield f"{refunded} were given back, {promised} were promised for what came back"


def _kept(charge: Charge) -> bool:
    return charge.amount != charge.refunded
