"""The order of things: first build, rebuilds one after the other under traffic, replay, comparison."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter

import psycopg
from rich.progress import Progress, TaskID

from amends.database import Pool, open_pool
from amends.feed import Feed
from amends.projection import Projection
from bench.rebuild.alone import Rebuild, rebuilt
from bench.rebuild.reading import Looks, watch
from bench.rebuild.reference import Replay, differences, replay
from bench.rebuild.story import Told
from bench.rebuild.traffic import Traffic, followers, traffic

__all__ = ["Figures", "Measured", "RowsDiffer", "measure"]

LOOK = 0.5
"""Seconds between two looks at how far a rebuild is."""

BUILT = "select coalesce(min(events), 0) from amends.checkpoints where projection = %s and role = 'building'"
"""How many events a build has read."""


class RowsDiffer(Exception):
    """Rows are not what they must be; says which."""


@dataclass(frozen=True)
class Figures:
    """What the rebuild of one read model took.

    Args:
        projection: its name.
        first_seconds: its first build, by the serving path in its ordinary batches, with nothing else going on.
        rebuild: what the process that has rebuilt it says.
        written: events that were appended meanwhile.
        looks: what a reader has seen meanwhile.
    """

    projection: str
    first_seconds: float
    rebuild: Rebuild
    written: int
    looks: Looks


@dataclass(frozen=True)
class Measured:
    """All of it.

    Args:
        figures: by read model.
        written: events and commands while it was rebuilt.
        traffic_seconds: how long that was.
        replay: every event by itself.
        replay_seconds: how long that took, for all read models together.
    """

    figures: list[Figures]
    written: Traffic
    traffic_seconds: float
    replay: Replay
    replay_seconds: float


async def measure(
    url: str, told: Iterator[Told], events: int, projections: Sequence[Projection], progress: Progress
) -> Measured:
    """Build, rebuild, replay, compare.

    Args:
        url: of the database, as its owner; its log is filled.
        told: the story, which goes on.
        events: in the log.
        projections: whose views.
        progress: shows how far it is.

    Raises:
        RowsDiffer: rows of a rebuild, or at the end, are not those of the serving path, or of the replay.
        RowsLost: a reader has missed some.
    """
    async with open_pool(url, "projector", 4) as pool:
        first = await _first_builds(pool, url, events, projections, progress)
        figures, began = [], perf_counter()
        async with traffic(url, told, projections) as written:
            for each in projections:
                before, looks = written.events, Looks()
                task = progress.add_task(f"Rebuild {each.name}", total=events + before)
                async with _watched(url, each, looks), _shown(pool, each, progress, task):
                    done = await rebuilt(url, each.name)
                if done.outcome != "swapped":
                    raise RowsDiffer(f"The rebuild of {each.name} {done.outcome}: {done.report}")
                progress.update(task, completed=done.events, total=done.events)
                figures.append(Figures(each.name, first[each.name], done, written.events - before, looks))
        traffic_seconds = perf_counter() - began
    task, began = progress.add_task("Replay, one by one", total=events + written.events), perf_counter()
    replayed = await replay(url, projections, lambda n: progress.update(task, completed=n))
    replay_seconds = perf_counter() - began
    task = progress.add_task("Compare", total=None)
    with psycopg.connect(url) as connection:
        differing = list(await asyncio.to_thread(lambda: list(differences(connection, projections))))
    progress.update(task, completed=1, total=1)
    if differing:
        raise RowsDiffer("\n".join(map(str, differing)))
    return Measured(figures, written, traffic_seconds, replayed, replay_seconds)


async def _first_builds(
    pool: Pool, url: str, events: int, projections: Sequence[Projection], progress: Progress
) -> dict[str, float]:
    """What is served to begin with; returns the seconds of each."""
    task, at, seconds = progress.add_task("First builds", total=events * len(projections)), await Feed(pool).head(), {}
    for each in projections:
        began = perf_counter()
        for follower in followers(pool, url, [each]):
            await follower.catch_up(at)
        seconds[each.name] = perf_counter() - began
        progress.advance(task, events)
    return seconds


@asynccontextmanager
async def _watched(url: str, projection: Projection, looks: Looks) -> AsyncIterator[None]:
    """A reader looks at the views while the block runs."""
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        reader = group.create_task(watch(url, projection, ready, looks))
        await ready.wait()
        yield
        reader.cancel()


@asynccontextmanager
async def _shown(pool: Pool, projection: Projection, progress: Progress, task: TaskID) -> AsyncIterator[None]:
    """The bar moves while the block runs."""

    async def look() -> None:
        while True:
            async with pool.connection() as connection:
                row = await (await connection.execute(BUILT, (projection.name,))).fetchone()
            if row and row[0]:
                progress.update(task, completed=row[0])
            await asyncio.sleep(LOOK)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
