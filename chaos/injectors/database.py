"""Harm from within PostgreSQL: backends killed and frozen, transactions left open, rows locked, connections taken."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from chaos.arena import Arena
from chaos.faults import Fault
from chaos.orders import HOT

__all__ = ["crash_backend", "freeze_backend", "hold_horizon", "hold_rows", "take_connections"]

BACKENDS = """
select pid from pg_stat_activity
where application_name in ('amends-writer', 'amends-projector') and pid <> pg_backend_pid()
order by backend_xid is null, random()
"""
"""Processes that serve workers, those first that are in a transaction that writes."""

HORIZON = "select pg_current_xact_id()"
"""Take a transaction id, so that readers of the feed wait for this transaction."""

ROWS = "select stream from amends.streams where stream = any(%s) for update"
"""Lock the heads of streams."""

QUIET = "-c lock_timeout=5s -c idle_in_transaction_session_timeout=0"


async def crash_backend(arena: Arena, fault: Fault) -> None:
    """SIGKILL of one backend: the server takes that for corrupt memory and throws everybody out."""
    for pid in (await _backends(arena))[:1]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def freeze_backend(arena: Arena, fault: Fault) -> None:
    """SIGSTOP of one backend, if there is one in the middle of a transaction, with all that it holds."""
    for pid in (await _backends(arena))[:1]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def hold_horizon(arena: Arena, fault: Fault) -> None:
    """A transaction that has written stays open, and nobody may read past it."""
    async with _session(arena) as connection, connection.transaction():
        await connection.execute(HORIZON)
        await asyncio.sleep(fault.seconds)


async def hold_rows(arena: Arena, fault: Fault) -> None:
    """A transaction holds hot products' rows: commands pile up behind it until the workers' pools are full."""
    async with _session(arena) as connection, connection.transaction():
        held = await (await connection.execute(ROWS, ([f"stock-{sku}" for sku in HOT],))).fetchall()
        arena.timeline.note(fault.target, f"{len(held)} streams locked")
        await asyncio.sleep(fault.seconds)


async def take_connections(arena: Arena, fault: Fault) -> None:
    """Somebody takes every connection that the server has left, then cuts the workers' own."""
    async with AsyncExitStack() as taken:
        count = 0
        with suppress(psycopg.OperationalError):
            while True:
                await taken.enter_async_context(_session(arena))
                count += 1
        arena.timeline.note(fault.target, f"{count} connections taken")
        link = random.Random(fault.dice).choice(list(arena.to_database.values()))
        link.cut()
        with suppress(psycopg.OperationalError):
            while True:
                await taken.enter_async_context(_session(arena))
        await asyncio.sleep(fault.seconds)


async def _backends(arena: Arena) -> list[int]:
    async with _session(arena) as connection:
        return [pid for (pid,) in await (await connection.execute(BACKENDS)).fetchall()]


@asynccontextmanager
async def _session(arena: Arena) -> AsyncIterator[AsyncConnection[TupleRow]]:
    """A session of somebody else, straight to the server."""
    connection = await AsyncConnection.connect(
        arena.postgres.url, autocommit=True, application_name="chaos", options=QUIET, connect_timeout=3
    )
    try:
        yield connection
    finally:
        with suppress(psycopg.Error):
            await connection.close()
