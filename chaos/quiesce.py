"""After the storm: everything runs again, and whatever is under way may come to its end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from temporalio.client import Client
from temporalio.common import SearchAttributeKey

from amends.errors import AmendsError
from amends.operator import Operator
from amends.visibility import SAGA_STATUS as STATUS
from chaos.arena import QUEUE, Arena
from client import Shop
from workflows.lease import ReservationLease

__all__ = ["OpenSaga", "ParkedSaga", "leases", "open_sagas", "parked_sagas", "quiesce"]

LOOK_SECONDS = 1.0
TELL_SECONDS = 20.0
SHOWN = 5
CALM_LOOKS = 3
"""So often in a row nothing may be left to do."""

ALWAYS_OPEN = (ReservationLease.__name__, "RunProjection", "RunProcessManager")
"""Workflows that stay: leases last for days, and what follows the feed lasts for ever."""

ORDER_ID = SearchAttributeKey.for_keyword("OrderId")

OPEN = f"ExecutionStatus = 'Running' and TaskQueue = '{QUEUE}'"


@dataclass(frozen=True)
class OpenSaga:
    """A workflow that is under way: its id, its class, and its `SagaStatus`."""

    workflow_id: str
    process: str
    status: str


@dataclass(frozen=True)
class ParkedSaga:
    """A saga that waits for a person, and why, as far as it says so."""

    workflow_id: str
    why: tuple[str, ...]


async def quiesce(arena: Arena, shop: Shop, waiting: Callable[[], Sequence[str]], seconds: float) -> float | None:
    """End all faults and wait until nothing is under way any more and the views have caught up.

    Args:
        arena: where.
        shop: asks.
        waiting: the clients that have no answer yet.
        seconds: how long to wait at most.

    Returns:
        how many seconds it took; None when that was not enough.
    """
    begun = monotonic()
    for link in arena.links:
        link.restore()
    await arena.wait_for_workers()
    calm, told = 0, begun
    while calm < CALM_LOOKS:
        try:
            left = await _left(shop, waiting)
        except Exception as error:  # the last connections are being made anew
            left = [f"{type(error).__name__}: {error}"]
        calm = 0 if left else calm + 1
        if left and monotonic() - told > TELL_SECONDS:
            told = monotonic()
            arena.timeline.note("not at rest", f"{len(left)}: {'; '.join(left[:SHOWN])}")
        if monotonic() - begun > seconds:
            return None
        await asyncio.sleep(LOOK_SECONDS)
    return monotonic() - begun


async def open_sagas(temporal: Client) -> list[OpenSaga]:
    """What is under way, and is not meant to be for ever."""
    found = [
        OpenSaga(each.id, each.workflow_type, each.typed_search_attributes.get(STATUS) or "")
        async for each in temporal.list_workflows(OPEN)
    ]
    return [each for each in found if each.process not in ALWAYS_OPEN]


async def leases(temporal: Client) -> Counter[str]:
    """How many leases there are, by the order whose goods they hold."""
    listed = temporal.list_workflows(f"WorkflowType = '{ReservationLease.__name__}' and TaskQueue = '{QUEUE}'")
    return Counter([each.typed_search_attributes.get(ORDER_ID) or each.id async for each in listed])


async def parked_sagas(temporal: Client, sagas: list[OpenSaga]) -> list[ParkedSaga]:
    """Those that wait for a person, with what they say about it."""
    operator, parked = Operator(temporal, QUEUE), []
    for saga in sagas:
        if saga.status == "NeedsAttention":
            why: tuple[str, ...] = ()
            with suppress(AmendsError):
                why = tuple(step.why for step in (await operator.view(saga.workflow_id)).parked)
            parked.append(ParkedSaga(saga.workflow_id, why))
    return parked


async def _left(shop: Shop, waiting: Callable[[], Sequence[str]]) -> list[str]:
    """What is open, which views are behind, who still waits; and when there is none of that, what there is to sweep."""
    temporal = shop.client.temporal
    async with asyncio.timeout(60):
        found = await open_sagas(temporal)
        sagas = [saga for saga in found if saga.status != "NeedsAttention"]
        parked = {saga.workflow_id for saga in found} - {saga.workflow_id for saga in sagas}
        clients = [who for who in waiting() if f"order-{who.split(':')[0]}" not in parked]
        freshness = await shop.at_least(await shop.client.reader.head(), 1.0)
        behind = [] if freshness.fresh else [f"{freshness.projection} at {freshness.position}"]
        left = [*(f"{saga.workflow_id} {saga.status}" for saga in sagas), *behind, *clients]
        # a sweep is a workflow itself: none is added to what a busy server still has to do
        return left or [f"{id} swept" for id in await Operator(temporal, QUEUE).sweep()]
