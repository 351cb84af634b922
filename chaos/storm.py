"""Carries the fault plan out: each fault at its time, no two at once at the same victim."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from chaos.arena import Arena
from chaos.faults import Fault, Kind
from chaos.injectors import database, disk, network, processes

__all__ = ["INJECTORS", "rage"]

INJECTORS: Mapping[Kind, Callable[[Arena, Fault], Awaitable[None]]] = {
    Kind.KILL_WORKER: processes.kill_worker,
    Kind.FREEZE_WORKER: processes.freeze_worker,
    Kind.DRAIN_WORKER: processes.drain_worker,
    Kind.CLOCK_JUMP: processes.clock_jump,
    Kind.KILL_TEMPORAL: processes.kill_temporal,
    Kind.RESTART_TEMPORAL: processes.restart_temporal,
    Kind.FREEZE_TEMPORAL: processes.freeze_temporal,
    Kind.KILL_POSTGRES: processes.kill_postgres,
    Kind.RESTART_POSTGRES: processes.restart_postgres,
    Kind.CRASH_BACKEND: database.crash_backend,
    Kind.FREEZE_BACKEND: database.freeze_backend,
    Kind.CUT_DATABASE: network.cut_database,
    Kind.LOSE_ANSWERS: network.lose_answers,
    Kind.LOSE_COMMITS: network.lose_commits,
    Kind.STALL_DATABASE: network.stall_database,
    Kind.PARTITION_DATABASE: network.partition_database,
    Kind.CUT_TEMPORAL: network.cut_temporal,
    Kind.PARTITION_TEMPORAL: network.partition_temporal,
    Kind.HOLD_HORIZON: database.hold_horizon,
    Kind.HOLD_ROWS: database.hold_rows,
    Kind.TAKE_CONNECTIONS: database.take_connections,
    Kind.DISK_FULL: disk.disk_full,
}
"""Who does what."""

STARTS = (Kind.KILL_TEMPORAL, Kind.RESTART_TEMPORAL, Kind.KILL_POSTGRES, Kind.RESTART_POSTGRES)
"""Faults after which a server has to be up again, or nothing that follows means anything."""


async def rage(arena: Arena, faults: Sequence[Fault]) -> int:
    """Do it all, and come back when every fault is over.

    Returns:
        how many ran their course; one may meet a victim that is down already, or goes down meanwhile.

    Raises:
        ServerFailed: a server did not come back.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_inject(arena, fault)) for fault in faults]
    return sum(task.result() for task in tasks)


async def _inject(arena: Arena, fault: Fault) -> bool:
    await asyncio.sleep(max(0.0, fault.at - arena.timeline.now))
    async with arena.locks[fault.target]:
        arena.timeline.note(fault.target, str(fault))
        try:
            await INJECTORS[fault.kind](arena, fault)
        except Exception as error:  # its victim may be down: that is another fault's doing
            if fault.kind in STARTS:
                raise
            why = " ".join(str(error).split())
            arena.timeline.note(fault.target, f"cut short: {fault.kind.value}, by {type(error).__name__}: {why}")
            return False
        if fault.seconds or fault.kind in STARTS:
            arena.timeline.note(fault.target, f"over: {fault.kind.value}")
    return True
