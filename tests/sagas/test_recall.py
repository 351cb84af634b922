"""What an event had started and somebody ended before its first step is begun anew, to be called off properly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from temporalio.client import RPCError, WorkflowExecutionStatus, WorkflowFailureError

from amends.app import App
from amends.embedded import EmbeddedTemporal
from amends.process import Process
from amends.sweep import start_sweep
from amends.visibility import MEMO, SagaMemo
from app import app as shop_app
from tests.sagas.given import Handle, replays, rows, saga_status, until
from tests.sagas.shopping import name
from tests.sagas.stockroom import Stockroom, open_stockroom
from workflows.lease import Lease, ReservationLease
from workflows.replenish import Replenish, ReplenishRequest

HOUR = 3600
app: App = shop_app
RUN = "select process, status, reason from views.saga_runs where workflow_id = %s"


@pytest.fixture(scope="module")
async def room(
    postgres_url: str, template: str, temporal: EmbeddedTemporal, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stockroom]:
    """A shop of this module."""
    async with open_stockroom(app, postgres_url, template, temporal, tmp_path_factory.mktemp("amends")) as room:
        yield room


async def unbegun(
    room: Stockroom, process: type[Process[Any, Any]], request: BaseModel, *, cause: str | None = "an event"
) -> Handle:
    """A process that is started and does not begin for an hour: no worker has taken its first task."""
    return await room.shop.client.temporal.start_workflow(
        process.run,
        request,
        id=name("unbegun"),
        task_queue=room.shop.client.settings.task_queue,
        start_delay=timedelta(hours=1),
        memo={MEMO: SagaMemo(actor="process-manager:test", labels={"sku": "1"}, causation=cause)},
        static_summary="looks after it",
    )


async def lease(room: Stockroom, sku: str, *, cause: str | None = "an event") -> Handle:
    """A lease of four pieces that has not begun; the reservation's own one is out of the way."""
    id = await room.reserve(sku, 4, hold=HOUR)
    until = datetime.now(UTC) + timedelta(hours=1)
    return await unbegun(room, ReservationLease, Lease(sku=sku, reservation_id=id, until=until), cause=cause)


async def ended(handle: Handle) -> None:
    with pytest.raises(WorkflowFailureError):
        await asyncio.wait_for(handle.result(), 60)


async def swept(room: Stockroom, handle: Handle) -> None:
    """Sweep until the process is found, which lists show with a little delay."""
    client = room.shop.client

    async def found() -> bool:
        return handle.id in await start_sweep(client.temporal, client.settings.task_queue)

    await until("the sweep finds it", found)


async def test_given_a_lease_terminated_before_its_first_step_when_swept_then_the_goods_go_back(
    room: Stockroom,
) -> None:
    # given
    sku = await room.product()
    handle = await lease(room, sku)
    await handle.terminate("to see what happens")
    await ended(handle)
    assert await room.happened(sku) == ["stock.reserved"]
    # when
    await swept(room, handle)
    again = room.handle(handle.id)
    await ended(again)
    # then
    assert await room.happened(sku) == ["stock.reserved", "stock.lapsed"]
    assert (await room.level(sku)).available == 10
    assert await saga_status(again) == "Compensated"
    assert await rows(room.url, RUN, handle.id) == [("ReservationLease", "Compensated", "terminated")]
    assert await (await again.describe()).static_summary() == "looks after it"
    assert await start_sweep(room.shop.client.temporal, room.shop.client.settings.task_queue) == []
    await replays([again], app.workflows)


async def test_given_a_lease_cancelled_before_its_first_step_then_the_goods_go_back_without_a_sweep(
    room: Stockroom,
) -> None:
    sku = await room.product()
    handle = await lease(room, sku)
    await handle.cancel()
    await ended(handle)
    assert await room.happened(sku) == ["stock.reserved", "stock.lapsed"]
    assert await saga_status(handle) == "Compensated"


async def test_given_a_recalled_lease_that_is_terminated_again_when_swept_then_the_goods_go_back(
    room: Stockroom,
) -> None:
    sku = await room.product()
    handle = await lease(room, sku)
    await handle.terminate("to see what happens")
    await swept(room, handle)
    with suppress(RPCError):  # it may have been faster
        await room.handle(handle.id).terminate("and again")

    async def back() -> bool:
        await start_sweep(room.shop.client.temporal, room.shop.client.settings.task_queue)
        return (await room.happened(sku))[-1] == "stock.lapsed"

    await until("the goods", back)


async def test_given_a_replenishment_ended_before_its_first_step_when_swept_then_it_is_called_off(
    room: Stockroom,
) -> None:
    sku = await room.product()
    handle = await unbegun(room, Replenish, ReplenishRequest(replenishment_id=name("r"), sku=sku, quantity=5))
    await handle.terminate("not wanted")
    await swept(room, handle)
    outcome = await room.handle(handle.id).result()
    assert (outcome["status"], outcome["reason"]) == ("cancelled", "terminated")
    await room.stock_balances(sku)
    assert {order.status for order in await room.supplier.orders_of([sku])} <= {"cancelled"}
    assert await rows(room.url, RUN, handle.id) == [("Replenish", "Compensated", "terminated")]


async def test_given_a_process_that_a_client_had_started_when_ended_before_its_first_step_then_nothing_is_done(
    room: Stockroom,
) -> None:
    sku = await room.product()
    handle = await lease(room, sku, cause=None)
    await handle.terminate("not wanted")
    await swept(room, handle)
    compensation = room.handle(f"compensation-{handle.id}")
    assert await compensation.result() == "undone"
    assert (await room.handle(handle.id).describe()).status == WorkflowExecutionStatus.TERMINATED
    assert await room.happened(sku) == ["stock.reserved"]
