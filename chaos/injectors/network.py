"""Harm to connections: cut, cut at the commit, stalled, refused."""

from __future__ import annotations

import asyncio
import random

from chaos.arena import Arena
from chaos.faults import Fault
from chaos.links import ANSWERED, COMMITTING, Link

__all__ = [
    "cut_database",
    "cut_temporal",
    "lose_answers",
    "lose_commits",
    "partition_database",
    "partition_temporal",
    "stall_database",
]

MOST_LOST = 8
LOSING_SECONDS = 10.0
"""How long commits or their answers are waited for that are to be lost."""


async def cut_database(arena: Arena, fault: Fault) -> None:
    """Reset all connections of one process to PostgreSQL, whatever they are in the middle of."""
    _cut(arena, arena.to_database[fault.target])


async def cut_temporal(arena: Arena, fault: Fault) -> None:
    """Reset all connections of one process to Temporal."""
    _cut(arena, arena.to_temporal[fault.target])


async def lose_answers(arena: Arena, fault: Fault) -> None:
    """The next commits are done, but whoever asked for them does not hear of it."""
    link = arena.to_database[fault.target]
    link.lose_answers(ANSWERED, random.Random(fault.dice).randint(1, MOST_LOST))
    await _and_restore(link, LOSING_SECONDS)


async def lose_commits(arena: Arena, fault: Fault) -> None:
    """The next transactions are cut when their commit is sent, before the server hears of it."""
    link = arena.to_database[fault.target]
    link.lose_questions(COMMITTING, random.Random(fault.dice).randint(1, MOST_LOST))
    await _and_restore(link, LOSING_SECONDS)


async def stall_database(arena: Arena, fault: Fault) -> None:
    """Nothing gets through, and nobody is told."""
    link = arena.to_database[fault.target]
    link.stall()
    await _and_restore(link, fault.seconds)


async def partition_database(arena: Arena, fault: Fault) -> None:
    """One process can't reach PostgreSQL, while the others can."""
    link = arena.to_database[fault.target]
    link.refuse()
    await _and_restore(link, fault.seconds)


async def partition_temporal(arena: Arena, fault: Fault) -> None:
    """One process can't reach Temporal, while it still reaches PostgreSQL."""
    link = arena.to_temporal[fault.target]
    link.refuse()
    await _and_restore(link, fault.seconds)


def _cut(arena: Arena, link: Link) -> None:
    arena.timeline.note(link.name, f"{link.cut()} connections cut")


async def _and_restore(link: Link, seconds: float) -> None:
    try:
        await asyncio.sleep(seconds)
    finally:
        link.restore()
