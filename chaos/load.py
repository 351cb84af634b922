"""The clients: they place, repeat, cancel and return, insist on an answer, and write down what they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import TypeVar

from psycopg import OperationalError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from temporalio.client import RPCError, WorkflowUpdateRPCTimeoutOrCancelledError

from activities.sandbox_gateway import SandboxGateway
from amends import Refused
from amends.database import open_pool
from amends.errors import NoAnswer, SagaError, ServerFailed, Stale, Unavailable
from chaos.client_book import ClientBook, OrderEntry, PriceEntry, RefundEntry, RestockEntry
from chaos.meddling import meddle, terminate
from chaos.orders import Errand, OrderPlan, Return, first_commands
from chaos.supplying import supply
from chaos.timeline import Timeline
from client import Shop, TooLate
from domain.order import UnknownOrder
from domain.product import ChangePrice
from domain.values import Line

__all__ = ["Clients"]

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
"""Seconds before a client asks again; the pause doubles, for a server that has fallen behind is not helped by more."""

PATIENCE = 30.0
"""Seconds that a client waits for one answer that has no limit of its own, before it asks again."""

AWAY = (
    Unavailable,
    RPCError,
    WorkflowUpdateRPCTimeoutOrCancelledError,  # what an update makes of our patience's end
    NoAnswer,
    Stale,
    ServerFailed,
    DBAPIError,
    PoolExhausted,
    OperationalError,
    OSError,
    TimeoutError,
)
"""What a client may meet while something is away; its request ids make asking again harmless."""


class Clients:
    """Everybody outside.

    Args:
        shop: their way in.
        database_url: where the provider's books are, for the bank that decides on transfers.
        book: what they write down.
        timeline: is told what is done in the server behind the shop's back.
        limit: seconds on the monotonic clock after which nobody asks again.
    """

    def __init__(self, shop: Shop, database_url: str, book: ClientBook, timeline: Timeline, limit: float) -> None:
        self._shop, self._database_url, self._book, self._timeline = shop, database_url, book, timeline
        self._limit = limit
        self.ended = 0
        self._under_way: dict[str, str] = {}

    async def fill_the_shop(self, seed: int) -> None:
        """Products, stock, customers."""
        async with asyncio.TaskGroup() as group:
            for id, command in first_commands(seed):
                group.create_task(self._shop.execute(command, request_id=f"s{seed}-{id}"))

    async def order(self, plan: OrderPlan) -> None:
        """One customer's order, from the first click to the last return."""
        await self._until(plan.at)
        entry = self._book.orders[plan.order_id] = OrderEntry(plan)
        self._under_way[plan.order_id] = "places"
        try:
            await self._place(entry)
            self._under_way[plan.order_id] = "meddles"
            await self._meddle(entry)
            self._under_way[plan.order_id] = "waits for the end"
            await self._end(entry)
            if entry.outcome is not None and entry.outcome.status == "completed":
                self._under_way[plan.order_id] = "returns"
                for number, each in enumerate(plan.returns):
                    await self._return(entry, number, each)
        except Exception as error:
            entry.trouble.append(f"{type(error).__name__}: {error}")
            self._timeline.note(entry.order_id, f"its client met {type(error).__name__}: {error}")
        finally:
            self.ended += 1
            self._under_way.pop(plan.order_id)

    def waiting(self, errands_done: bool) -> list[str]:
        """Who still waits for an answer."""
        who = [f"{id}: {what}" for id, what in self._under_way.items()]
        return who if errands_done else [*who, "the shop's people"]

    async def supply(self) -> None:
        """What runs low is delivered, for ever."""
        await supply(self._shop, self._database_url, self._book, self._insist)

    async def restock_and_price(self, errands: Sequence[Errand]) -> None:
        """The shop's people, one errand after the other."""
        for errand in errands:
            await self._until(errand.at)
            command = errand.command
            if isinstance(command, ChangePrice):
                price = PriceEntry(command.price.amount, self._timeline.now)
                self._book.prices[command.sku].append(price)
                await self._insist(lambda e=errand: self._shop.execute(e.command, request_id=e.id))  # type: ignore[misc]
                price.told = self._timeline.now
            else:
                restock = RestockEntry(command.sku, command.quantity)
                self._book.restocks.append(restock)
                await self._insist(lambda e=errand: self._shop.execute(e.command, request_id=e.id))  # type: ignore[misc]
                restock.told = True

    async def _place(self, entry: OrderEntry) -> None:
        plan = entry.plan
        entry.asked_at = self._timeline.now

        async def place() -> None:
            placed = await self._insist(
                lambda: self._shop.place_order(
                    plan.customer_id, plan.lines, plan.habit.payment, request_id=plan.order_id
                )
            )
            if not entry.accepted:
                entry.accepted_at = self._timeline.now
            entry.accepted.append(placed.position)

        await asyncio.gather(*(place() for _ in range(plan.copies)))

    async def _meddle(self, entry: OrderEntry) -> None:
        """What happens to an order while it is under way."""
        plan = entry.plan
        if plan.cancel_after is not None:
            await asyncio.sleep(plan.cancel_after)
            with suppress(TooLate):
                await self._insist(lambda: self._shop.cancel(plan.order_id))
                entry.cancelled = True
        if plan.meddling is not None:
            after, what = plan.meddling
            await asyncio.sleep(after)
            entry.meddled = True
            self._timeline.note(plan.order_id, what)
            await self._insist(lambda: meddle(self._shop.client.temporal, plan.order_id, what))
        if plan.habit.settles is not None:
            await self._insist(lambda: self._settle(entry))

    async def _settle(self, entry: OrderEntry) -> None:
        """The bank decides, and the provider sends word, which may find nobody who waits yet."""
        assert entry.plan.habit.settles is not None
        async with open_pool(self._database_url, "writer", 1) as pool:
            while not entry.outcome:
                await SandboxGateway(pool).settle(entry.order_id, entry.plan.habit.settles)
                with suppress(UnknownOrder):
                    await self._shop.payment_settled(entry.order_id)
                with suppress(TimeoutError, SagaError):
                    async with asyncio.timeout(2):
                        entry.outcome = await self._shop.result(entry.order_id)

    async def _end(self, entry: OrderEntry) -> None:
        try:
            entry.outcome = await self._insist(lambda: self._shop.result(entry.order_id), patient=True)
        except SagaError:
            if not entry.may_have_no_answer:
                raise
            self._timeline.note(entry.order_id, "its client is told that it did not come to its end")

    async def _return(self, entry: OrderEntry, number: int, plan: Return) -> None:
        refund = RefundEntry(f"{entry.order_id}-r{number}", plan)
        entry.refunds.append(refund)
        first = entry.plan.lines[0]
        lines = None if plan.pieces is None else [Line(sku=first.sku, quantity=plan.pieces)]

        async def ask() -> None:
            told = await self._insist(
                lambda: self._shop.refund_order(
                    entry.order_id, lines, request_id=refund.refund_id, restock=plan.restock
                )
            )
            refund.amounts.append(told.amount.amount)

        try:
            await asyncio.gather(*(ask() for _ in range(plan.copies)))
        except Refused as refused:
            refund.refused = refused.name
            return
        if plan.terminate_after is not None:
            await asyncio.sleep(plan.terminate_after)
            refund.terminated = True
            self._timeline.note(refund.refund_id, "terminated")
            await self._insist(lambda: terminate(self._shop.client.temporal, f"refund-{refund.refund_id}"))
        try:
            refund.outcome = await self._insist(lambda: self._shop.refund_result(refund.refund_id), patient=True)
        except SagaError:
            if not refund.terminated:
                raise

    async def _insist(self, call: Callable[[], Awaitable[T]], *, patient: bool = False) -> T:
        """Ask until there is an answer, yes or no; a patient one knows that it may take long."""
        pause = FIRST_PAUSE
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    return await call()
            except AWAY as error:
                if not patient or not isinstance(error, TimeoutError):
                    self._book.errors[f"{type(error).__module__.split('.')[0]}.{type(error).__name__}"] += 1
                if monotonic() > self._limit:
                    raise ServerFailed(f"Still no answer after the storm: {error!r}") from error
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self._timeline.now))
