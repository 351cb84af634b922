"""Supervises process managers, by a workflow each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from temporalio import activity, workflow
from temporalio.client import Client

from amends.database import Pool
from amends.errors import ProjectionError
from amends.supervision import keep_following, see_to, tail

if TYPE_CHECKING:
    from amends.delivering import Delivery
    from amends.process_manager import ProcessManager

__all__ = ["ProcessManagerActivities", "RunProcessManager", "start_process_managers"]


class ProcessManagerActivities:
    """Tails the feed for one process manager at a time; built anew by every worker.

    Args:
        managers: those that the app lists.
        url: database, for the connection that listens.
        pool: connections of the projector role.
        delivery: starts and signals workflows.
    """

    def __init__(self, managers: Sequence[ProcessManager], url: str, pool: Pool, delivery: Delivery) -> None:
        self._managers = {manager.name: manager for manager in managers}
        self._url = url
        self._pool = pool
        self._delivery = delivery

    @activity.defn(name="process_manager.tail")
    async def react(self, name: str) -> None:
        """Let a process manager react to events until this worker is told to stop."""
        from amends.reacting import Reactor

        if name not in self._managers:
            raise ProjectionError(
                f"This worker's app lists no process manager {name!r}; deploy one that does, or end this"
            )
        await tail(Reactor(self._managers[name], self._pool, self._url, self._delivery))


@workflow.defn
class RunProcessManager:
    """Keeps one process manager reacting, for ever."""

    @workflow.run
    async def run(self, name: str) -> None:
        """Start the tailing activity, and again whenever its worker stops."""
        workflow.set_current_details(f"Lets the process manager **{name}** react to what happens.")
        await keep_following(ProcessManagerActivities.react, name)


async def start_process_managers(client: Client, managers: Iterable[ProcessManager], task_queue: str) -> None:
    """See to it that every process manager has its workflow; those that run already are left alone.

    Args:
        client: connected to Temporal.
        managers: those that the app lists.
        task_queue: where workers poll.
    """
    for manager in managers:
        await see_to(
            client,
            RunProcessManager.run,
            manager.name,
            id=f"process-manager-{manager.name}",
            task_queue=task_queue,
            summary=f"Process manager {manager.name}",
        )
