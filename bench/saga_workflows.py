"""The order on bare Temporal: the shop's topology by hand, and the four ordinary activities that tutorials show."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import activity, workflow

from bench.saga_steps import OrderSteps
from workflows.place_order import OrderRequest

__all__ = ["ByHand", "Steps", "Tutorial"]

ATTEMPT, DEADLINE = timedelta(seconds=30), timedelta(hours=1)


class Steps:
    """The steps as activities.

    Args:
        steps: what they do.
    """

    def __init__(self, steps: OrderSteps) -> None:
        self._steps = steps

    @activity.defn(name="hand.place")
    async def place(self, request: OrderRequest) -> int:
        """Price and place."""
        return await self._steps.place(request)

    @activity.defn(name="hand.request")
    async def request(self, request: OrderRequest, total: int) -> None:
        """Ask for the money."""
        await self._steps.request_payment(request, total)

    @activity.defn(name="hand.charge")
    async def charge(self, request: OrderRequest, total: int) -> str:
        """Take it."""
        return await self._steps.charge(request, total)

    @activity.defn(name="hand.record")
    async def record(self, request: OrderRequest, total: int, reference: str) -> None:
        """Record that."""
        await self._steps.record_payment(request, total, reference)

    @activity.defn(name="hand.reserve")
    async def reserve(self, request: OrderRequest) -> None:
        """Set the goods aside."""
        await self._steps.reserve(request)

    @activity.defn(name="hand.complete")
    async def complete(self, request: OrderRequest) -> None:
        """End well."""
        await self._steps.complete(request)

    @activity.defn(name="hand.commit")
    async def commit(self, request: OrderRequest) -> None:
        """Hand the goods out."""
        await self._steps.commit(request)

    @activity.defn(name="hand.undo")
    async def undo(self, request: OrderRequest) -> None:
        """Take all back."""
        await self._steps.undo(request)

    @activity.defn(name="tutorial.pay")
    async def pay(self, request: OrderRequest, total: int) -> None:
        """Ask for the money, take it, record that."""
        await self._steps.request_payment(request, total)
        reference = await self._steps.charge(request, total)
        await self._steps.record_payment(request, total, reference)

    @activity.defn(name="tutorial.finish")
    async def finish(self, request: OrderRequest) -> None:
        """End well, hand the goods out."""
        await self._steps.complete(request)
        await self._steps.commit(request)


@workflow.defn(name="BenchByHand")
class ByHand:
    """The shop's order: commands as local activities, the charge as an ordinary one, an update that answers early."""

    def __init__(self) -> None:
        self._placed = False

    @workflow.run
    async def run(self, request: OrderRequest) -> str:
        """See the order through, or undo it."""
        try:
            total = await _local(Steps.place, request)
            self._placed = True
            await _local(Steps.request, request, total)
            reference = await _remote(Steps.charge, request, total)
            await _local(Steps.record, request, total, reference)
            await _local(Steps.reserve, request)
        except BaseException:
            await _remote(Steps.undo, request)
            raise
        await _local(Steps.complete, request)
        await _local(Steps.commit, request)
        return "completed"

    @workflow.update
    async def accepted(self) -> None:
        """Answer as soon as the order is on record."""
        await workflow.wait_condition(lambda: self._placed)


@workflow.defn(name="BenchTutorial")
class Tutorial:
    """Four ordinary activities and an undo."""

    def __init__(self) -> None:
        self._placed = False

    @workflow.run
    async def run(self, request: OrderRequest) -> str:
        """See the order through, or undo it."""
        try:
            total = await _remote(Steps.place, request)
            self._placed = True
            await _remote(Steps.pay, request, total)
            await _remote(Steps.reserve, request)
        except BaseException:
            await _remote(Steps.undo, request)
            raise
        await _remote(Steps.finish, request)
        return "completed"

    @workflow.update
    async def accepted(self) -> None:
        """Answer as soon as the order is on record."""
        await workflow.wait_condition(lambda: self._placed)


async def _local(step: Any, *arguments: Any) -> Any:
    return await workflow.execute_local_activity_method(
        step, args=arguments, start_to_close_timeout=ATTEMPT, schedule_to_close_timeout=DEADLINE
    )


async def _remote(step: Any, *arguments: Any) -> Any:
    return await workflow.execute_activity_method(
        step, args=arguments, start_to_close_timeout=ATTEMPT, schedule_to_close_timeout=DEADLINE
    )
