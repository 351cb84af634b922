"""Harm to processes: workers and servers are killed, frozen, drained, restarted; a worker's clock jumps."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import suppress

from amends.embedded.supervisor import Supervised
from amends.errors import ServerFailed
from chaos.arena import Arena
from chaos.faults import Fault

__all__ = [
    "clock_jump",
    "drain_worker",
    "freeze_temporal",
    "freeze_worker",
    "kill_postgres",
    "kill_temporal",
    "kill_worker",
    "restart_postgres",
    "restart_temporal",
]

LOOK_SECONDS = 0.1
STOP_SECONDS = 10.0
LARGEST_JUMP = 2 * 3600


async def kill_worker(arena: Arena, fault: Fault) -> None:
    """SIGKILL; the arena puts another in its place."""
    arena.seats[fault.target].send(signal.SIGKILL)


async def freeze_worker(arena: Arena, fault: Fault) -> None:
    """SIGSTOP, and after a while SIGCONT: it goes on as if nothing had happened, though its work may be others' now."""
    seat = arena.seats[fault.target]
    seat.send(signal.SIGSTOP)
    try:
        await asyncio.sleep(fault.seconds)
    finally:
        seat.send(signal.SIGCONT)


async def drain_worker(arena: Arena, fault: Fault) -> None:
    """SIGTERM, then a new one, as a deploy does."""
    seat = arena.seats[fault.target]
    seat.wanted = False
    try:
        seat.worker.drain()
        for _ in range(int(2 * STOP_SECONDS / LOOK_SECONDS)):
            if seat.worker.poll() is not None:
                break
            await asyncio.sleep(LOOK_SECONDS)
        else:
            arena.timeline.note(seat.name, f"did not drain within {2 * STOP_SECONDS:.0f} s, killed")
            seat.send(signal.SIGKILL)
    finally:
        seat.wanted = True


async def clock_jump(arena: Arena, fault: Fault) -> None:
    """A worker's wall clock jumps, by up to two hours to either side, and later back."""
    clock = arena.seats[fault.target].clock
    jump = random.Random(fault.dice).randint(-LARGEST_JUMP, LARGEST_JUMP)
    if not clock.can_jump:
        arena.timeline.note(fault.target, "no clock jump: it takes Linux and a C compiler")
        return
    arena.timeline.note(fault.target, f"clock jumps by {jump:+} s")
    clock.set(jump)
    try:
        await asyncio.sleep(fault.seconds)
    finally:
        clock.set(0)


async def kill_temporal(arena: Arena, fault: Fault) -> None:
    """SIGKILL, and after a while a new server on the same file."""
    _send(arena.temporal.pid, signal.SIGKILL)
    await _gone(arena.temporal)
    try:
        await asyncio.sleep(fault.seconds)
    finally:
        await arena.start_temporal()


async def restart_temporal(arena: Arena, fault: Fault) -> None:
    """Shut down in order, and after a while started."""
    await asyncio.to_thread(arena.temporal.stop, STOP_SECONDS)
    try:
        await asyncio.sleep(fault.seconds)
    finally:
        await arena.start_temporal()


async def freeze_temporal(arena: Arena, fault: Fault) -> None:
    """SIGSTOP, and after a while SIGCONT."""
    _send(arena.temporal.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(fault.seconds)
    finally:
        _send(arena.temporal.pid, signal.SIGCONT)


async def kill_postgres(arena: Arena, fault: Fault) -> None:
    """SIGKILL of the postmaster, and after a while a new one, which recovers from the log."""
    _send(arena.postgres.pid, signal.SIGKILL)
    await _gone(arena.postgres)
    try:
        await asyncio.sleep(fault.seconds)
    finally:
        await arena.start_postgres()


async def restart_postgres(arena: Arena, fault: Fault) -> None:
    """A fast shutdown, which rolls back what is open, and after a while a start."""
    await asyncio.to_thread(arena.postgres.stop, STOP_SECONDS)
    try:
        await asyncio.sleep(fault.seconds)
    finally:
        await arena.start_postgres()


async def _gone(server: Supervised) -> None:
    for _ in range(int(STOP_SECONDS / LOOK_SECONDS)):
        if server.poll() is not None:
            return
        await asyncio.sleep(LOOK_SECONDS)
    raise ServerFailed(f"{server.name} is still there {STOP_SECONDS:.0f} s after SIGKILL")


def _send(pid: int | None, number: signal.Signals) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
