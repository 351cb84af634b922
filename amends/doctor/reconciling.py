"""Compares the log with Temporal, after one of them was restored to an earlier point than the other.

Changes nothing. What it advises is safe to do and to repeat: a step's command id comes from workflow id and step, so a
saga that begins anew does only what the log does not know.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime

from temporalio.client import Client

from amends.doctor.disagreement import Disagreement, Turn
from amends.doctor.knowledge import Log
from amends.doctor.lost_in_log import lost_in_log
from amends.doctor.lost_in_temporal import lost_in_temporal
from amends.process_manager import ProcessManager

__all__ = ["Disagreement", "Turn", "reconcile"]

EVER = datetime.min.replace(tzinfo=UTC)
"""Since the beginning."""


async def reconcile(
    log: Log,
    client: Client,
    task_queue: str,
    processes: Sequence[str],
    managers: Iterable[ProcessManager],
    since: datetime | None = None,
) -> AsyncIterator[Disagreement]:
    """Find what the log and Temporal tell differently.

    Args:
        log: asks the database.
        client: connected to Temporal.
        task_queue: whose workflows are meant.
        processes: names of the workflows that are sagas.
        managers: the application's process managers.
        since: workflows that ended before are not looked at, nor are reactions to earlier events. Without it, all that
            Temporal still keeps, and reactions since the first that is known of.
    """
    async for found in lost_in_log(log, client, task_queue, processes, since or EVER):
        yield found
    async for found in lost_in_temporal(log, client, task_queue, managers, since):
        yield found
