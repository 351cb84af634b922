"""Delivers the reactions of process managers: starts and signals workflows, each once, however often it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import SignalWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from amends.client import fingerprint_of, shown
from amends.errors import InvalidInput, NotDelivered
from amends.process_manager import Reaction, Signal, Start
from amends.records import Recorded
from amends.sealing import has_personal
from amends.settings import Settings
from amends.visibility import MEMO, SagaMemo

__all__ = ["Delivery", "Due"]

log = structlog.get_logger("amends.process_managers")

AT_ONCE = 10
"""Most reactions that are on their way at a time."""


@dataclass(frozen=True)
class Due:
    """A reaction that is to be delivered.

    Args:
        id: names it for ever; a repeat under the same id has no effect.
        reaction: what is to be done.
        fact: the event that led to it.
    """

    id: str
    reaction: Reaction
    fact: Recorded

    @property
    def workflow_id(self) -> str:
        """Whom it is for."""
        return self.reaction.workflow_id if isinstance(self.reaction, Signal) else self.id


class Delivery:
    """Starts and signals workflows for process managers.

    Args:
        client: connected to Temporal.
        settings: task queue, and how sub-processes are mounted.
    """

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client, self._settings = client, settings

    async def deliver(self, manager: str, due: Sequence[Due], delivered: Callable[[], None]) -> None:
        """Deliver reactions side by side, those for the same workflow in order.

        Args:
            manager: name of the process manager they come from.
            due: in the order of their events.
            delivered: called after each.

        Raises:
            NotDelivered: one could not be, and perhaps others; deliver all of them again.
        """
        lanes: dict[str, list[Due]] = {}
        for one in due:
            lanes.setdefault(one.workflow_id, []).append(one)
        turns = asyncio.Semaphore(AT_ONCE)

        async def run(lane: list[Due]) -> None:
            for one in lane:
                async with turns:
                    await self._deliver(manager, one)
                delivered()

        try:
            async with asyncio.TaskGroup() as group:
                for lane in lanes.values():
                    group.create_task(run(lane))
        except ExceptionGroup as failed:
            first = failed.exceptions[0]
            raise first from first.__cause__

    async def _deliver(self, manager: str, due: Due) -> None:
        try:
            sent = due.reaction.request if isinstance(due.reaction, Start) else due.reaction.argument
            if has_personal(sent):
                raise InvalidInput(
                    {"request": "carries personal data, which Temporal must not keep; send a key instead"}
                )
            if isinstance(due.reaction, Start):
                await self._start(manager, due, due.reaction)
            else:
                await self._signal(manager, due, due.reaction)
        except Exception as error:
            raise NotDelivered(
                f"Process manager {manager!r} can't deliver {due.id}, its reaction to "
                f"{due.fact.event.message_name!r} at position {due.fact.position}: {error}. It is tried again"
            ) from error

    async def _start(self, manager: str, due: Due, start: Start[Any]) -> None:
        memo = SagaMemo(
            actor=f"process-manager:{manager}",
            trace=due.fact.trace,
            labels=dict(start.labels),
            mount=self._settings.mount,
            fingerprint=fingerprint_of(start.request),
            causation=str(due.fact.event_id),
        )
        try:
            await self._client.start_workflow(
                start.process.run,
                start.request,
                id=due.id,
                task_queue=self._settings.task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                memo={MEMO: memo},
                search_attributes=shown(start.attributes),
                static_summary=start.summary or start.process.__name__,
            )
        except WorkflowAlreadyStartedError:
            log.info("already_started", process_manager=manager, workflow_id=due.id)

    async def _signal(self, manager: str, due: Due, signal: Signal[Any]) -> None:
        # the client's own call draws a new request id each time, by which the server could not tell a repeat
        request = SignalWorkflowExecutionRequest(
            namespace=self._client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=signal.workflow_id),
            signal_name=signal.name,
            request_id=due.id,
            identity=self._client.identity,
        )
        if signal.arguments:
            request.input.payloads.extend(await self._client.data_converter.encode(signal.arguments))
        try:
            await self._client.workflow_service.signal_workflow_execution(request, retry=True)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            log.warning(
                "signal_to_nobody",
                process_manager=manager,
                signal=signal.name,
                workflow_id=signal.workflow_id,
                event_id=str(due.fact.event_id),
                reason=error.message,
            )
