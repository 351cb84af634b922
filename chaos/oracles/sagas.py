"""Sagas: each has come to an end, or waits for a person and says why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chaos.client_book import ClientBook
from chaos.oracles.verdicts import by_payment, is_completed
from chaos.quiesce import OpenSaga, ParkedSaga
from chaos.reading import Charge

__all__ = ["check_runs", "check_sagas"]


def check_sagas(open_sagas: Sequence[OpenSaga], parked: Sequence[ParkedSaga]) -> list[str]:
    """Look for sagas without an end.

    Args:
        open_sagas: under way when everything should be over.
        parked: those of them that wait for a person.

    Returns:
        broken promises.
    """
    waiting = {each.workflow_id for each in parked if any(why.strip() for why in each.why)}
    return [
        f"{saga.workflow_id}: a {saga.process} without an end, {saga.status or 'of no status'}"
        for saga in open_sagas
        if saga.workflow_id not in waiting
    ]


def check_runs(book: ClientBook, ledger: Sequence[Charge], runs: Mapping[str, str]) -> list[str]:
    """Compare what people see of sagas with what became of their orders.

    Args:
        book: of the clients.
        ledger: of the provider; says what became of orders that were terminated.
        runs: the status of each saga, by its workflow, as `views.saga_runs` shows it.

    Returns:
        broken promises.
    """
    payments = by_payment(ledger)
    broken = []
    for entry in book.accepted():
        expected = "Completed" if is_completed(entry, payments.get(entry.order_id, [])) else "Compensated"
        seen = runs.get(f"order-{entry.order_id}", "not at all")
        if seen != expected:
            broken.append(f"{entry.order_id}: people see its saga {seen}, but it is {expected}")
    return broken
