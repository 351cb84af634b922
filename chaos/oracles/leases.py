"""Leases: whatever was held for a time has one lease, however often its process manager was killed."""

from __future__ import annotations

from collections.abc import Mapping

from chaos.client_book import ClientBook

__all__ = ["check_leases"]


def check_leases(book: ClientBook, leases: Mapping[str, int]) -> list[str]:
    """Compare the leases in Temporal with the orders whose goods were held.

    Args:
        book: of the clients.
        leases: how many lease workflows there are, by order.

    Returns:
        broken promises.
    """
    broken = [f"{id}: a lease for an order that no client has placed" for id in leases.keys() - book.orders.keys()]
    for entry in book.orders.values():
        there = leases.get(entry.order_id, 0)
        most = len(entry.plan.lines) if entry.plan.habit.payment.kind == "transfer" else 0
        fewest = most if entry.outcome is not None and entry.outcome.status == "completed" else 0
        if not fewest <= there <= most:
            broken.append(f"{entry.order_id}: {there} leases for {fewest} to {most} lines whose goods were held")
    return broken
