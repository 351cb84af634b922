"""One contender of the saga benchmark, in a process of its own, so that its CPU and memory can be told from others'.

Reads a line of JSON for each round from standard input, `{"run": …, "orders": …, "concurrent": …}`, and answers by one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from time import perf_counter, process_time
from uuid import uuid4

import structlog
from pydantic import SecretStr
from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from amends import Command, Context, Money
from amends.app import Resources
from amends.client import Client as AmendsClient
from amends.connect import connect
from amends.database import open_pool
from amends.handler import CommandHandler
from amends.settings import Settings
from amends.store import EventStore
from amends.worker import CACHED_WORKFLOWS, open_worker
from app import app as shop
from bench.memory import peak
from bench.saga_steps import OrderSteps
from bench.saga_workflows import ByHand, Steps, Tutorial
from client import Shop
from domain.product import AddProduct
from domain.stock import ReceiveStock
from domain.values import Line
from workflows.payment import PaymentMethod
from workflows.place_order import OrderRequest, PlaceOrder

__all__ = ["SKUS", "Place", "main", "order_of", "resources"]

SKUS = 20
"""Products that orders are spread over."""

PASSED_THROUGH = SandboxRestrictions.default.with_passthrough_all_modules()

Place = Callable[[OrderRequest], Awaitable[str | None]]
"""Place an order and wait for its end; returns the id of its workflow in Temporal, if it has one."""


def order_of(run: str, number: int) -> OrderRequest:
    """An order of one piece, paid by card."""
    line = Line(sku=f"BENCH-{number % SKUS}", quantity=1)
    return OrderRequest(
        order_id=f"{run}-{number}", customer_id="c1", lines=(line,), payment=PaymentMethod(token="tok_ok")
    )


@asynccontextmanager
async def resources(url: str) -> AsyncIterator[Resources]:
    """Pool and handler, as a worker has them; the products are on the shelf."""
    async with open_pool(url, "writer", 16) as pool:
        handler = CommandHandler(EventStore(pool), shop.aggregates)
        for number in range(SKUS):
            sku = f"BENCH-{number}"
            await _send(handler, AddProduct(sku=sku, name=sku, price=Money(amount=1250, currency="EUR")))
            await _send(handler, ReceiveStock(sku=sku, quantity=1_000_000))
        yield Resources(pool, handler)


async def _send(handler: CommandHandler, command: Command) -> None:
    id = uuid4().hex
    receipt = await handler.handle(command, Context(command_id=id, actor="bench", correlation_id=id, causation_id=id))
    receipt.raise_refusal()


@asynccontextmanager
async def ours(url: str, temporal: str) -> AsyncIterator[Place]:
    """The shop's worker, and a client that places orders as the shop's does, but for the look at the catalogue."""
    settings = Settings(
        database_url=SecretStr(url), temporal_address=temporal, task_queue=f"bench-{uuid4().hex[:8]}", drain_seconds=5
    )
    client = await connect(settings)
    async with resources(url), open_worker(shop, settings, client) as worker:
        running = asyncio.create_task(worker.run())
        async with await AmendsClient.connect(settings, actor="bench") as sdk:
            orders = Shop(sdk)

            async def place(request: OrderRequest) -> str:
                await sdk.start(
                    PlaceOrder,
                    request,
                    id=f"order-{request.order_id}",
                    accepted=PlaceOrder.accepted,
                    answered=PlaceOrder.answered,
                    labels={"order_id": request.order_id},
                    attributes={"OrderId": request.order_id, "CustomerId": request.customer_id},
                    summary="1 piece",
                )
                outcome = await orders.result(request.order_id)
                assert outcome.status == "completed", outcome
                return f"order-{request.order_id}"

            yield place
        await worker.shutdown()
        await running


@asynccontextmanager
async def on_temporal(url: str, temporal: str, process: type[ByHand] | type[Tutorial]) -> AsyncIterator[Place]:
    """A worker for one of the workflows without Amends' sagas, configured as ours."""
    client: Client = await connect(Settings(temporal_address=temporal))
    queue = f"bench-{uuid4().hex[:8]}"
    async with resources(url) as given:
        steps = Steps(OrderSteps(given))
        worker = Worker(
            client,
            task_queue=queue,
            workflows=[process],
            activities=[
                *(steps.place, steps.request, steps.charge, steps.record, steps.reserve, steps.complete),
                *(steps.commit, steps.undo, steps.pay, steps.finish),
            ],
            workflow_runner=SandboxedWorkflowRunner(restrictions=PASSED_THROUGH),
            max_cached_workflows=CACHED_WORKFLOWS,
            max_concurrent_activities=200,
            max_concurrent_local_activities=200,
        )

        async def place(request: OrderRequest) -> str:
            id = f"order-{queue}-{request.order_id}"
            starting = WithStartWorkflowOperation(
                process.run, request, id=id, task_queue=queue, id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING
            )
            await client.execute_update_with_start_workflow(process.accepted, start_workflow_operation=starting)
            handle = await starting.workflow_handle()
            assert await handle.result() == "completed"
            return id

        async with worker:
            yield place


async def serve(kind: str, url: str, temporal: str) -> None:
    """Answer rounds until standard input ends."""
    if kind == "ours":
        opened = ours(url, temporal)
    elif kind == "dbos":
        opened = import_module("bench.peers.dbos_sagas").on_dbos(url)
    else:
        opened = on_temporal(url, temporal, ByHand if kind == "hand" else Tutorial)
    async with opened as place:
        print(json.dumps({"ready": True}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await _round(place, **json.loads(line))), flush=True)


async def _round(place: Place, run: str, orders: int, concurrent: int) -> dict[str, object]:
    gate, latencies, workflows = asyncio.Semaphore(concurrent), [], []

    async def one(number: int) -> None:
        async with gate:
            begun = perf_counter()
            workflows.append(await place(order_of(run, number)))
            latencies.append(perf_counter() - begun)

    cpu, begun = process_time(), perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(orders):
            group.create_task(one(number))
    seconds = perf_counter() - begun
    memory = peak()
    spent = process_time() - cpu
    return {
        "seconds": seconds,
        "latencies": latencies,
        "cpu": spent,
        "memory": memory,
        "workflow": workflows[-1],
    }


def main() -> None:
    """Arguments: who, the database, Temporal's address."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.disable(logging.WARNING)
    asyncio.run(serve(*sys.argv[1:4]))


if __name__ == "__main__":
    main()
