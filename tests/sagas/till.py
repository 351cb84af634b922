"""The shop's till under test: the provider's books and webhooks, and time that passes when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from pydantic import SecretStr
from temporalio.client import RPCError
from temporalio.service import RPCStatusCode
from temporalio.testing import TimeSkipper

from activities.sandbox_gateway import SandboxGateway, webhook_of
from amends import Money
from amends.app import App
from amends.client import Client
from amends.connect import connect
from amends.database import open_pool
from amends.embedded import EmbeddedTemporal
from amends.projection_workflow import start_projections
from amends.settings import Settings
from amends.worker import open_worker
from app import app as shop_app
from client import OrderRefund, PlacedOrder, Shop
from domain.values import Line
from read_models import inventory_levels
from read_models.inventory_levels import LevelRow
from read_models.order_history import OrderRow
from tests.sagas.given import Handle, replays, rows, saga_status, until
from tests.sagas.given import story as told
from tests.sagas.shopping import Market, card, name, new_database
from workflows.payment import Payment, PaymentMethod, PaymentRequest
from workflows.place_order import OrderOutcome
from workflows.refund_order import RefundOutcome

SECRET = "whsec_of_the_tests"
EVENTS = "select count(*)::int from amends.events where stream = %s and name = %s"
FACTS = """
select (select count(*) from amends.events where stream not like 'saga-%%')::int,
       (select count(*) from gateway.requests)::int,
       (select coalesce(sum(attempts), 0) from gateway.requests)::int,
       (select md5(coalesce(string_agg(c::text, ' ' order by provider_ref), '')) from gateway.charges c)
"""
COMMANDS = "select count(*)::int from amends.commands"


@dataclass
class Till(Market):
    """The shop, its payment provider, and a clock that can be put forward."""

    gateway: SandboxGateway
    skipper: TimeSkipper

    async def webhook(self, payment_id: str, *, secret: str = SECRET, at: datetime | None = None) -> None:
        """The provider sends word that a payment has changed."""
        await self.shop.webhook(*webhook_of(payment_id, secret, at))

    async def facts(self) -> tuple[object, ...]:
        """Everything that a rule's no must leave as it is: the shop's events, and the provider's books."""
        [facts] = await rows(self.url, FACTS)
        return facts

    async def commands(self) -> int:
        [(count,)] = await rows(self.url, COMMANDS)
        return int(count)

    async def times(self, payment_id: str, event: str) -> int:
        """How often something has happened to a payment."""
        [(count,)] = await rows(self.url, EVENTS, f"payment-{payment_id}", event)
        return int(count)

    def handle(self, workflow_id: str) -> Handle:
        return self.shop.client.temporal.get_workflow_handle(workflow_id)

    async def taker(self, order_id: str) -> Handle:
        """The workflow that takes an order's payment: the order's, or its child's."""
        child = self.handle(f"order-{order_id}/payment")
        own = self.shop.client.settings.mount == "inline"
        return self.saga(order_id) if own else child

    async def waiting(self, taker: Handle, times: int = 1) -> None:
        """Wait until a workflow waits for the confirmation of a payment, for so many times."""

        async def waits() -> bool:
            try:
                lines = [line for line in await told(taker) if line.startswith("wait for the confirmation")]
            except RPCError as error:
                if error.status == RPCStatusCode.NOT_FOUND:
                    return False  # the child is still to be started
                raise
            return len(lines) == times and lines[-1].endswith("running")

        await until("the confirmation is waited for", waits)

    async def asked(self, taker: Handle) -> int:
        """How often a workflow has asked the provider."""
        return sum(line.startswith("ask the provider") for line in await told(taker))

    async def completed(self, *quantities: int, price: int = 250) -> tuple[PlacedOrder, list[Line]]:
        """An order that is paid and has gone out."""
        lines = [Line(sku=await self.product(price), quantity=quantity) for quantity in quantities]
        placed = await self.place(card(), lines)
        assert (await placed.result()).status == "completed"
        return placed, lines

    async def row(self, order_id: str) -> OrderRow:
        return await self.shop.status(order_id)

    async def level(self, sku: str) -> LevelRow:
        head = await self.shop.client.reader.head()
        assert (await self.shop.at_least(head, 15)).fresh
        [level] = await self.shop.query(inventory_levels.levels([sku]))
        return level

    async def shelf(self, *lines: Line) -> list[int]:
        """Pieces of these products that can be sold."""
        return [(await self.level(line.sku)).available for line in lines]

    async def afterwards(self, order_id: str) -> list[str]:
        """What has happened to an order since it was completed."""
        happened = await self.timeline(order_id)
        return happened[happened.index("order.completed") + 1 :]

    async def start_payment(self, method: PaymentMethod, *, skipping: bool = False) -> tuple[str, Handle]:
        """A payment that belongs to no order's saga."""
        id = name("payment")
        amount = Money(amount=500, currency="EUR")
        request = PaymentRequest(payment_id=id, order_id=id, customer_id="ada", amount=amount, method=method)
        client = self.skipper.client if skipping else self.shop.client.temporal
        queue = self.shop.client.settings.task_queue
        handle = await client.start_workflow(Payment.run, request, id=f"payment-{id}", task_queue=queue)
        return id, handle


@asynccontextmanager
async def open_till(
    app: App, postgres_url: str, template: str, temporal: EmbeddedTemporal, home: Path
) -> AsyncIterator[Till]:
    """A shop with a worker in this process, on a database of its own."""
    url = new_database(postgres_url, template)
    settings = Settings(
        home=home,
        database_url=SecretStr(url),
        temporal_address=temporal.address,
        task_queue=f"test-{uuid4().hex}",
        webhook_secret=SecretStr(SECRET),
        drain_seconds=5,
    )
    client = await connect(settings)
    async with open_worker(app, settings, client) as worker, open_pool(url, "writer", 2) as pool:
        running = asyncio.create_task(worker.run())
        await start_projections(client, app.projections, settings.task_queue)
        async with await Shop.connect(settings, actor="Ada's browser") as shop:
            yield Till(shop, url, SandboxGateway(pool), TimeSkipper(client))
        await worker.shutdown()
        await running


def mounting(till: Till, mount: str) -> Till:
    """The same till, for a client that mounts sub-processes in this way."""
    known = till.shop.client
    settings = known.settings.model_copy(update={"mount": mount})
    shop = Shop(Client(known.temporal, known.reader, settings, known.actor, known.keys))
    return Till(shop, till.url, till.gateway, till.skipper)


async def order_ended(till: Till, order_id: str, reason: str | None, story: Sequence[str]) -> OrderOutcome:
    """Wait for an order's end and assert that everybody tells the same of it; goods only where the story does."""
    outcome = await till.shop.result(order_id)
    status = "cancelled" if reason else "completed"
    assert (outcome.status, outcome.reason) == (status, reason)
    row = await till.row(order_id)
    assert (row.status, row.reason) == (status, reason)
    assert row.paid - row.refunded == (0 if reason else row.total)
    goods = any(event.startswith("stock.") for event in story)
    happened = await till.timeline(order_id)
    assert [event for event in happened if goods or not event.startswith("stock.")] == list(story)
    assert await saga_status(till.saga(order_id)) == ("Compensated" if reason else "Completed")
    await till.balances()
    await replays([till.saga(order_id)], shop_app.workflows)
    return outcome


async def refund_ended(
    till: Till, refund: OrderRefund, status: str, reason: str | None, amount: int | None
) -> RefundOutcome:
    """Wait for a return's end and assert that the books agree."""
    outcome = await refund.result()
    assert (outcome.status, outcome.reason) == (status, reason)
    assert outcome.amount == (None if amount is None else Money(amount=amount, currency="EUR"))
    saga = till.handle(f"refund-{refund.refund_id}")
    assert await saga_status(saga) == ("Completed" if status == "refunded" else "Compensated")
    await till.balances()
    await replays([saga], shop_app.workflows)
    return outcome
