"""The shop goes on meanwhile: commands are sent and read models followed, as workers do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from amends.database import Pool, open_pool
from amends.feed import Feed
from amends.handler import CommandHandler
from amends.notify import Notifier
from amends.projection import Projection
from amends.projector import Projector
from amends.records import Position
from amends.store import EventStore
from app import app
from bench.rebuild.log import go_on
from bench.rebuild.story import Told

__all__ = ["Traffic", "followers", "traffic"]

PAUSE = 0.03
"""Seconds between two commands."""


@dataclass(slots=True)
class Traffic:
    """What has been written meanwhile.

    Args:
        commands: that were sent.
        events: that they led to.
    """

    commands: int = 0
    events: int = 0


def followers(pool: Pool, url: str, projections: Sequence[Projection]) -> list[Projector]:
    """Whoever keeps the views of some projections up to date.

    Args:
        pool: connections of the projector role.
        url: of the same database.
        projections: which.
    """
    return [Projector(each, pool, url, partition=n) for each in projections for n in range(each.partitions)]


@asynccontextmanager
async def traffic(url: str, told: Iterator[Told], projections: Sequence[Projection]) -> AsyncIterator[Traffic]:
    """Commands are sent and the views kept up to date while the block runs; both have come to an end after it.

    Args:
        url: of the database, as its owner.
        told: the story, which goes on.
        projections: those that are followed.
    """
    done, stop = Traffic(), asyncio.Event()

    async with open_pool(url, "projector", 4 + len(projections)) as pool, open_pool(url, "writer", 2) as writers:

        async def write(handler: CommandHandler) -> None:
            while not stop.is_set():
                done.events += await go_on(handler, told)
                done.commands += 1
                await asyncio.sleep(PAUSE)

        async with Notifier(writers) as notifier, asyncio.TaskGroup() as group:
            group.create_task(write(CommandHandler(EventStore(writers), app.aggregates, notifier.poke)))
            for follower in followers(pool, url, projections):
                group.create_task(follower.run(stop, _unheard))
            try:
                yield done
            finally:
                stop.set()
        head = await Feed(pool).head()
        for follower in followers(pool, url, projections):
            await follower.catch_up(head)


def _unheard(position: Position) -> None:
    """Nobody supervises these followers."""
