"""After the storm: everything runs again, and whatever is under way may come to its end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
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


async def quiesce(arena: Arena, shop: Shop, clients_done: Callable[[], bool], seconds: float) -> float | None:
    """End all faults and wait until nothing is under way any more and the views have caught up.

    Args:
        arena: where.
        shop: asks.
        clients_done: whether every client has got its answer.
        seconds: how long to wait at most.

    Returns:
        how many seconds it took; None when that was not enough.
    """
    begun = monotonic()
    for link in arena.links:
        link.restore()
    await arena.wait_for_workers()
    calm = 0
    while calm < CALM_LOOKS:
        if monotonic() - begun > seconds:
            return None
        with suppress(Exception):  # the last connections are being made anew
            calm = calm + 1 if await _nothing_left(shop, clients_done) else 0
        await asyncio.sleep(LOOK_SECONDS)
    head = await shop.client.reader.head()
    await shop.require(head, max(5.0, seconds - (monotonic() - begun)))
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


async def _nothing_left(shop: Shop, clients_done: Callable[[], bool]) -> bool:
    """Sweep, and see whether there was anything to sweep, is anything open, does anybody still wait."""
    temporal = shop.client.temporal
    swept: Awaitable[list[str]] = Operator(temporal, QUEUE).sweep()
    async with asyncio.timeout(30):
        if await swept:
            return False
        open_ones = [saga for saga in await open_sagas(temporal) if saga.status != "NeedsAttention"]
    return not open_ones and clients_done()
