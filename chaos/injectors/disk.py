"""A full disk: the event log lies on a small file system of its own that somebody fills; else writes to it fail."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psycopg

from chaos.arena import Arena
from chaos.faults import Fault

__all__ = ["disk_full", "fail_writes", "let_writes", "small_disk", "unmount"]

SIZE_MB = 256
PAUSE = 0.5
FOLDER = "small-disk"
BALLAST = "ballast"
CHUNK, PAGE = 1 << 20, 1 << 12

TABLESPACE = "create tablespace small location '{}'"
"""Where the event log is to lie."""

MOVES = (
    "alter table amends.events set tablespace {}",
    "alter index amends.events_pkey set tablespace {}",
    "alter table amends.commands set tablespace {}",
)
"""Put somewhere whatever grows."""

SMALL, USUAL = "small", "pg_default"

FORGET = "drop tablespace small"
"""The small disk goes away."""

FAIL = """
create or replace function amends.chaos_disk_full() returns trigger language plpgsql as $$
begin
    raise exception 'could not extend file: No space left on device' using errcode = 'disk_full';
end $$;
create trigger chaos_disk_full before insert on amends.events
    for each statement execute function amends.chaos_disk_full()
"""
"""Where no file system can be mounted: every write fails as it would on a full one."""

MEND = "drop trigger if exists chaos_disk_full on amends.events"
"""There is room again."""


@asynccontextmanager
async def small_disk(arena: Arena) -> AsyncIterator[None]:
    """Put what grows in the database on a small file system, where we may mount one; taken away at the end."""
    folder = arena.folder / FOLDER
    mounted = _mount(folder)
    try:
        if mounted:
            owner = (arena.folder / "postgres").stat()
            os.chown(folder, owner.st_uid, owner.st_gid)
            folder.chmod(0o700)
            async with await _connect(arena.postgres.url) as connection:
                await connection.execute(TABLESPACE.format(folder).encode())
                for move in MOVES:
                    await connection.execute(move.format(SMALL).encode())
        how = f"a file system of {SIZE_MB} MB holds the event log" if mounted else "writes fail by a trigger"
        arena.timeline.note("disk", how)
        yield
    finally:
        (folder / BALLAST).unlink(missing_ok=True)
        if mounted:
            await _move_back(arena.postgres.url)


async def _move_back(url: str) -> None:
    """Leave the data whole, for whoever wants to look at what went wrong; as far as the server is there."""
    with suppress(psycopg.Error):
        async with await _connect(url) as connection:
            for move in MOVES:
                await connection.execute(move.format(USUAL).encode())
            await connection.execute(FORGET)


def unmount(folder: Path) -> None:
    """Take the small file system away; nobody may use it any more."""
    if _is_mounted(folder / FOLDER):
        subprocess.run(["umount", "-l", str(folder / FOLDER)], check=False, capture_output=True)


async def disk_full(arena: Arena, fault: Fault) -> None:
    """No event can be written, until there is room again."""
    folder = arena.folder / FOLDER
    if _is_mounted(folder):
        try:
            filled = await asyncio.to_thread(_fill, folder / BALLAST)
            arena.timeline.note("disk", f"{filled} MB of ballast, none left")
            await asyncio.sleep(fault.seconds)
        finally:
            (folder / BALLAST).unlink(missing_ok=True)
        return
    await fail_writes(arena.postgres.url)
    try:
        await asyncio.sleep(fault.seconds)
    finally:
        while True:
            if await let_writes(arena.postgres.url):
                break
            await asyncio.sleep(PAUSE)  # the server may just be away


async def fail_writes(url: str) -> None:
    """Let every event that is written fail as on a full disk."""
    async with await _connect(url) as connection:
        await connection.execute(FAIL)


async def let_writes(url: str) -> bool:
    """Whether events can be written again."""
    with suppress(psycopg.Error):
        async with await _connect(url) as connection:
            await connection.execute(MEND)
            return True
    return False


def _mount(folder: Path) -> bool:
    unmount(folder.parent)
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "chaos", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _is_mounted(folder: Path) -> bool:
    return os.path.ismount(folder)


def _fill(ballast: Path) -> int:
    """Take all the room there is; the megabytes taken."""
    taken = 0
    with ballast.open("wb") as file:
        for size in (CHUNK, PAGE):
            with suppress(OSError):
                while True:
                    os.posix_fallocate(file.fileno(), taken, size)
                    taken += size
    return taken // CHUNK


async def _connect(url: str) -> psycopg.AsyncConnection[tuple[object, ...]]:
    return await psycopg.AsyncConnection.connect(url, autocommit=True, options="-c lock_timeout=3s", connect_timeout=5)
