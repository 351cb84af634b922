"""The shop's stockroom under test: leases, suppliers, and time that passes when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

from pydantic import SecretStr
from temporalio.testing import TimeSkipper

from activities.sandbox_supplier import SandboxSupplier
from amends import Position
from amends.app import App
from amends.connect import connect
from amends.database import open_pool
from amends.embedded import EmbeddedTemporal
from amends.process_manager_workflow import start_process_managers
from amends.projection_workflow import start_projections
from amends.settings import Settings
from amends.worker import open_worker
from client import Shop
from domain.stock import ReserveStock, SetReorderPoint
from domain.values import Line
from read_models import inventory_levels
from read_models.inventory_levels import LevelRow, ReplenishmentRow
from tests.sagas.given import Handle, rows, story, until
from tests.sagas.shopping import Market, name, new_database
from workflows.reactions import leasing, workflow_of

STARTED_BY = "select event_id::text from amends.events where stream = %s and name = %s order by version"
NAMES = "select name from amends.events where stream = %s order by version"
PASSED = "select true from amends.checkpoints where projection = %s and (xid, position) >= (%s::text::xid8, %s)"


@dataclass
class Stockroom(Market):
    """The shop, its supplier, and a clock that can be put forward for one workflow."""

    supplier: SandboxSupplier
    skipper: TimeSkipper

    async def level(self, sku: str) -> LevelRow:
        [level] = await self.shop.query(inventory_levels.levels([sku]))
        return level

    async def happened(self, sku: str) -> list[str]:
        """What has happened to a product's stock since its goods came in."""
        return [event for (event,) in await rows(self.url, NAMES, f"stock-{sku}")][1:]

    async def passed(self, manager: str, position: Position) -> None:
        """Wait until a process manager has reacted to what stands up to a position."""

        async def has() -> bool:
            return bool(await rows(self.url, PASSED, manager, str(position.xid), position.number))

        await until(f"{manager} at {position}", has)

    async def skip(self, saga: Handle, duration: timedelta | None = None) -> None:
        """Put a workflow's clock forward; to its end, if not told how far."""
        await self.skipper.fast_forward(saga, duration)

    async def clock(self, saga: Handle) -> datetime:
        return await self.skipper.get_current_time(saga)

    # Leases

    async def reserve(self, sku: str, quantity: int, hold: int | None = None) -> str:
        """Reserve by a command, once the shop has reacted to it; returns the reservation's id."""
        id = name("reservation")
        reserve = ReserveStock(sku=sku, reservation_id=id, quantity=quantity, hold=hold)
        receipt = await self.shop.execute(reserve)
        await self.passed(leasing.name, receipt.position)
        return id

    async def leases(self, sku: str) -> list[Handle]:
        """The lease workflow that each reservation of a product would have."""
        events = await rows(self.url, STARTED_BY, f"stock-{sku}", "stock.reserved")
        return [self.handle(f"{leasing.name}-{event}") for (event,) in events]

    async def nothing_reserved(self, lines: Sequence[Line]) -> None:
        """Assert that these products' stock balances, with nothing promised any more."""
        for line in lines:
            level = await self.level(line.sku)
            assert level.received == level.on_hand + level.committed, level
            assert level.reserved == 0, level

    # Replenishments

    async def reorder(self, sku: str, at: int = 8, quantity: int = 50) -> None:
        await self.shop.execute(SetReorderPoint(sku=sku, at=at, quantity=quantity))

    async def low(self, quantity: int = 50) -> str:
        """A product of which ten are left, four too few."""
        sku = await self.product()
        await self.reorder(sku, at=14, quantity=quantity)
        return sku

    async def replenishments(self, sku: str) -> list[ReplenishmentRow]:
        return await self.shop.query(inventory_levels.replenishments(sku))

    async def fresh_replenishments(self) -> list[ReplenishmentRow]:
        """All replenishments, as they are now and not only as far as this client has seen."""
        head = await self.shop.client.reader.head()
        assert (await self.shop.at_least(head, 15)).fresh
        return await self.shop.query(inventory_levels.replenishments())

    async def waiting(self, saga: Handle, times: int = 1) -> None:
        """Wait until a replenishment waits for its delivery, for so many times."""

        async def begun() -> bool:
            return sum(line.startswith("wait for the delivery") for line in await story(saga)) >= times

        await until("the wait", begun)

    async def on_order(self, sku: str, nth: int = 1) -> str:
        """Wait until the supplier has the order of a product; returns its id."""

        async def booked() -> str | None:
            orders = await self.supplier.orders_of([sku])
            return orders[nth - 1].order_id if len(orders) >= nth else None

        return await until(f"an order of {sku}", booked) or ""

    def replenishing(self, replenishment_id: str) -> Handle:
        return self.handle(workflow_of(replenishment_id))

    async def chased(self, sku: str, times: int) -> None:
        """Wait until the supplier has been reminded so often."""

        async def heard() -> bool:
            [order] = await self.supplier.orders_of([sku])
            assert order.chased <= times
            return order.chased == times

        await until(f"reminder {times} about {sku}", heard)

    async def stock_balances(self, sku: str, at_first: int = 10) -> None:
        """Assert that the supplier's books, the replenishments and the shelf agree on a product."""
        head = await self.shop.client.reader.head()
        assert (await self.shop.at_least(head, 15)).fresh

        async def open_ones_ordered() -> bool:
            ordered = {order.order_id for order in await self.supplier.orders_of([sku])}
            return {row.replenishment_id for row in await self.replenishments(sku) if row.status == "open"} <= ordered

        await until(f"what is on order of {sku} is known to the supplier", open_ones_ordered)
        booked = {order.order_id: order for order in await self.supplier.orders_of([sku])}
        seen = {row.replenishment_id: row for row in await self.replenishments(sku)}
        assert booked.keys() <= seen.keys()
        for id, row in seen.items():
            if id in booked:
                order = booked[id]
                assert (order.sku, order.quantity, order.status) == (row.sku, row.ordered, row.status)
                assert order.delivered == row.delivered
            else:
                assert (row.status, row.delivered) == ("cancelled", 0)
            assert (row.ended_at is None) == (row.status == "open")
        level = await self.level(sku)
        assert level.received == at_first + sum(row.delivered for row in seen.values())
        assert level.on_order == sum(row.ordered for row in seen.values() if row.status == "open")
        assert level.on_hand == level.received - level.committed

    def handle(self, workflow_id: str) -> Handle:
        return self.shop.client.temporal.get_workflow_handle(workflow_id)


@asynccontextmanager
async def open_stockroom(
    app: App, postgres_url: str, template: str, temporal: EmbeddedTemporal, home: Path
) -> AsyncIterator[Stockroom]:
    """A shop with a worker in this process, on a database of its own."""
    url = new_database(postgres_url, template)
    settings = Settings(
        home=home,
        database_url=SecretStr(url),
        temporal_address=temporal.address,
        task_queue=f"test-{uuid4().hex}",
        drain_seconds=5,
    )
    client = await connect(settings)
    async with open_worker(app, settings, client) as worker, open_pool(url, "writer", 2) as pool:
        running = asyncio.create_task(worker.run())
        await start_projections(client, app.projections, settings.task_queue)
        await start_process_managers(client, app.process_managers, settings.task_queue)
        async with await Shop.connect(settings, actor="stockroom") as shop:
            yield Stockroom(shop, url, SandboxSupplier(pool), TimeSkipper(client))
        await worker.shutdown()
        await running
