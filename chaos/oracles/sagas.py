"""Sagas: each has come to an end, or waits for a person and says why."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.quiesce import OpenSaga, ParkedSaga

__all__ = ["check_sagas"]


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
