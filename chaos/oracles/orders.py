"""Orders, by what clients were told: none lost, none made up, each in one final state that can be explained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chaos.client_book import ClientBook, OrderEntry
from chaos.meddling import REASONS
from chaos.oracles.verdicts import by_payment, is_completed
from chaos.reading import Charge, HistoryRow

__all__ = ["check_orders"]

OUT_OF_STOCK = "OutOfStock"
DECLINED = "PaymentDeclined"
BY_CUSTOMER = "cancelled_by_customer"


def check_orders(book: ClientBook, ledger: Sequence[Charge], history: Sequence[HistoryRow]) -> list[str]:
    """Compare the orders people see with those that clients placed.

    Args:
        book: of the clients.
        ledger: of the provider; says what became of orders that were terminated.
        history: what the shop says of its orders.

    Returns:
        broken promises.
    """
    rows = {row.order_id: row for row in history}
    payments = by_payment(ledger)
    broken = [f"{id}: the shop shows an order that no client has placed" for id in rows.keys() - book.orders.keys()]
    for entry in book.orders.values():
        told = _told(entry)
        seen = _seen(entry, rows.get(entry.order_id), is_completed(entry, payments.get(entry.order_id, [])))
        broken += [f"{entry.order_id}: {what}" for what in (*told, *seen)]
    return broken


def _told(entry: OrderEntry) -> Iterator[str]:
    """Whether what its client was told makes sense."""
    yield from (f"its client met {trouble}" for trouble in entry.trouble)
    if not entry.accepted and not entry.trouble:
        yield "its client never got an answer"
    if len(set(entry.accepted)) > 1:
        yield f"the same request was answered differently: {entry.accepted}"
    for refund in entry.refunds:
        if len(set(refund.amounts)) > 1:
            yield f"the same return was answered differently: {refund.amounts}"
        if refund.outcome is None and refund.refused is None and not refund.terminated and not entry.trouble:
            yield f"the return {refund.refund_id} has no end"
    outcome = entry.outcome
    if outcome is None:
        if not entry.may_have_no_answer and not entry.trouble:
            yield "its client was never told its end"
        return
    if entry.cancelled and outcome.status == "completed":
        yield "it was completed, though its client was told that it is cancelled"
    if outcome.status == "completed" and (not entry.plan.habit.completes or entry.plan.never_there):
        yield "it was completed, though it can't have been paid or there were no goods"
    if outcome.status != "completed" and outcome.reason not in _reasons(entry):
        yield f"it was {outcome.status} for {outcome.reason}, which nobody has caused"


def _reasons(entry: OrderEntry) -> set[str]:
    """Why this order may end otherwise than completed; servers that are away for a moment are no reason."""
    reasons = set()
    if entry.plan.may_run_out or entry.plan.never_there:
        reasons.add(OUT_OF_STOCK)
    if not entry.plan.habit.completes:
        reasons.add(DECLINED)
    if entry.plan.cancel_after is not None:
        reasons.add(BY_CUSTOMER)
    if entry.plan.meddling is not None and entry.meddled:
        reasons |= REASONS[entry.plan.meddling[1]]
    return reasons


def _seen(entry: OrderEntry, row: HistoryRow | None, completed: bool) -> Iterator[str]:
    """Whether people see of it what its client was told."""
    if row is None:
        if entry.accepted:
            yield "it was accepted, and nobody can see it"
        return
    if row.endings != 1:
        yield f"it has ended {row.endings} times"
    if row.open_returns:
        yield f"{row.open_returns} returns are under way for ever"
    expected = {"completed", "refunded"} if completed else {"cancelled"}
    if row.status not in expected:
        yield f"people see it {row.status}, but it is {' or '.join(sorted(expected))}"
    if completed and row.paid - row.refunded < 0:
        yield f"people see {row.paid} paid and {row.refunded} given back"
