"""Runs one projection: reads the feed, folds, writes rows and checkpoint in one transaction, waits for more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from psycopg import DataError, IntegrityError

from amends.batch import Batch, fold
from amends.database import Pool
from amends.errors import InvalidInput, ProjectionError, Superseded, UnreadableBatch
from amends.feed import Feed
from amends.listen import Listener
from amends.notify import CHECKPOINTS, EVENTS, NOTIFY
from amends.projection import Projection
from amends.records import START, Position

__all__ = ["BATCH", "POLL", "Projector"]

LOAD = "select xid::text::bigint, position from amends.checkpoints where projection = %s and version = %s"
"""Where a projection stands."""

MOVE = """
update amends.checkpoints
set xid = %s::xid8, position = %s, events = events + %s, updated_at = clock_timestamp()
where projection = %s and version = %s and xid = %s::xid8 and position = %s
"""
"""Move the checkpoint on, unless somebody else has: then no row is found."""

BATCH = 2000
"""Most events that are folded into one transaction."""

POLL = 0.25
"""Seconds after which the feed is read again although nobody said that there is anything."""

FIRST_LOOK = 0.002
"""Seconds until the second look for what was announced but is not shown yet; doubles up to the polling interval."""

BEAT = 1.0
"""Most seconds between two signs of life."""


class Projector:
    """Keeps one projection's rows up to date; one holder at a time, which the checkpoint sees to.

    Args:
        projection: what to do.
        pool: connections of the projector role.
        url: of the same database, for the connection that listens.
        batch: most events in a transaction.
        poll: seconds between looks when no notification comes.
        feed: where events come from; the pool's, when not given.
    """

    def __init__(
        self,
        projection: Projection,
        pool: Pool,
        url: str,
        *,
        batch: int = BATCH,
        poll: float = POLL,
        feed: Feed | None = None,
    ) -> None:
        self._projection, self._pool, self._url = projection, pool, url
        self._feed = feed or Feed(pool)
        self._batch, self._poll = batch, poll
        self._at = self._announced = START
        self._look = FIRST_LOOK

    async def run(self, stop: asyncio.Event, beat: Callable[[Position], None]) -> None:
        """Follow the feed until asked to stop; a batch that was begun is finished.

        Args:
            stop: set it to end.
            beat: called after each batch, and every second or so while there is nothing to do.

        Raises:
            Superseded: somebody else moves this checkpoint.
            UnreadableBatch: an event can't be read or applied; nothing of its batch was written.
            ProjectionError: the projection is not installed.
        """
        async with Listener(self._url, "projector", EVENTS) as wake:
            self._at = await self._load()
            while not stop.is_set():
                if await self._step():
                    beat(self._at)
                else:
                    await self._idle(wake, stop, beat)

    async def catch_up(self, until: Position) -> Position:
        """Go on until a position is passed; errors as `run`.

        Args:
            until: as from a receipt, or `Feed.head()`.

        Returns:
            where the projection stands then.
        """
        self._at = await self._load()
        while self._at < until:
            if not await self._step():
                await asyncio.sleep(FIRST_LOOK)
        return self._at

    async def _step(self) -> bool:
        """Apply the next batch, if there is any."""
        found = await self._feed.read(self._at, self._batch)
        if not found:
            return False
        await self._write(fold(self._projection, found))
        self._look = FIRST_LOOK
        return True

    async def _idle(self, wake: Listener, stop: asyncio.Event, beat: Callable[[Position], None]) -> None:
        """Wait until it is worth looking again.

        What was announced may not be shown yet, for an older transaction is still open: look again soon, then later.
        """
        pause = self._poll
        if self._announced > self._at:
            pause, self._look = min(self._look, self._poll), min(2 * self._look, self._poll)
        clock = asyncio.get_running_loop().time
        until = clock() + pause
        beat(self._at)
        while (left := until - clock()) > 0 and not stop.is_set():
            heard = await _unless(stop, wake.wait(min(left, BEAT)))
            beat(self._at)
            if heard is not None:
                self._hear(heard)
                return

    def _hear(self, payload: str) -> None:
        try:
            announced = Position.parse(payload)
        except InvalidInput:  # none after a reconnection; or somebody notifies by hand: look, that is all
            return
        if announced > self._announced:
            self._announced, self._look = announced, FIRST_LOOK

    async def _write(self, batch: Batch) -> None:
        """Rows and checkpoint in one transaction, then word to those who wait for it."""
        name, version = self._projection.name, self._projection.version
        statements = list(batch.rows.statements())
        to, at = batch.last, self._at
        moved = (str(to.xid), to.number, batch.events, name, version, str(at.xid), at.number)
        async with self._pool.connection() as connection:
            async with connection.transaction():
                if (await connection.execute(MOVE, moved)).rowcount == 0:
                    raise Superseded(
                        f"The checkpoint of projection {name!r} version {version} is no longer at {self._at}: another "
                        "holder runs it, or it was reset. This one stops; nothing of its batch was written"
                    )
                for table, payload in statements:
                    try:
                        # never a cached plan: one made for the empty table would scan the full one
                        await connection.execute(table.merge, (payload.decode(),), prepare=False)
                    except (DataError, IntegrityError) as error:
                        raise UnreadableBatch(
                            f"Projection {name!r} can't write table {table.name!r} for the events from {batch.first} "
                            f"to {batch.last}: {error}. Mend its handler or table and deploy"
                        ) from error
            self._at = batch.last
            await connection.execute(NOTIFY, (CHECKPOINTS, f"{name}:{self._at}"))

    async def _load(self) -> Position:
        name, version = self._projection.name, self._projection.version
        async with self._pool.connection() as connection:
            row = await (await connection.execute(LOAD, (name, version))).fetchone()
        if row is None:
            raise ProjectionError(f"Projection {name!r} version {version} has no checkpoint; install it first")
        return Position(*row)


async def _unless(stop: asyncio.Event, waiting: Coroutine[Any, Any, str | None]) -> str | None:
    """The result of waiting, or None as soon as `stop` is set."""
    tasks = asyncio.ensure_future(waiting), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
