"""The order on DBOS Transact: a workflow in this process, its steps recorded in the same PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dbos import DBOS, DBOSConfig, SetWorkflowID

from bench.saga_process import Place, resources
from bench.saga_steps import OrderSteps
from workflows.place_order import OrderRequest

__all__ = ["on_dbos"]


@asynccontextmanager
async def on_dbos(url: str) -> AsyncIterator[Place]:
    """DBOS with its system tables in the shop's database.

    Args:
        url: the database.
    """
    system = url.replace("postgresql://", "postgresql+psycopg://")
    async with resources(url) as given:
        steps = OrderSteps(given)
        DBOS(config=DBOSConfig(name="bench", system_database_url=system, log_level="ERROR", sys_db_pool_size=20))

        @DBOS.step()
        async def place(request: str) -> int:
            return await steps.place(_read(request))

        @DBOS.step()
        async def request_payment(request: str, total: int) -> None:
            await steps.request_payment(_read(request), total)

        @DBOS.step()
        async def charge(request: str, total: int) -> str:
            return await steps.charge(_read(request), total)

        @DBOS.step()
        async def record_payment(request: str, total: int, reference: str) -> None:
            await steps.record_payment(_read(request), total, reference)

        @DBOS.step()
        async def reserve(request: str) -> None:
            await steps.reserve(_read(request))

        @DBOS.step()
        async def complete(request: str) -> None:
            await steps.complete(_read(request))

        @DBOS.step()
        async def commit(request: str) -> None:
            await steps.commit(_read(request))

        @DBOS.step()
        async def undo(request: str) -> None:
            await steps.undo(_read(request))

        @DBOS.workflow()
        async def order(request: str) -> str:
            try:
                total = await place(request)
                await request_payment(request, total)
                reference = await charge(request, total)
                await record_payment(request, total, reference)
                await reserve(request)
            except Exception:
                await undo(request)
                raise
            await complete(request)
            await commit(request)
            return "completed"

        DBOS.launch()
        try:

            async def through(request: OrderRequest) -> None:
                with SetWorkflowID(f"order-{request.order_id}"):
                    handle = await DBOS.start_workflow_async(order, _sent(request))
                assert await handle.get_result() == "completed"

            yield through
        finally:
            DBOS.destroy()


def _sent(request: OrderRequest) -> str:
    return request.model_dump_json()


def _read(sent: str) -> OrderRequest:
    return OrderRequest.model_validate_json(sent)
