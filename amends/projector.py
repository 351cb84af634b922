"""Runs one projection: reads the feed, folds, writes rows and checkpoint in one transaction, waits for more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from psycopg import DataError, IntegrityError

from amends.batch import Batch, fold
from amends.database import Pool
from amends.errors import ProjectionError, Superseded, UnreadableBatch
from amends.feed import Feed
from amends.listen import Listener
from amends.notify import CHECKPOINTS, EVENTS, NOTIFY
from amends.projection import Projection
from amends.records import START, Position
from amends.wakeups import FIRST_LOOK, POLL, Wakeups

__all__ = ["BATCH", "Projector"]

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
        self._at = START

    async def run(self, stop: asyncio.Event, beat: Callable[[Position], None]) -> None:
        """Follow the feed until asked to stop; a batch that was begun is finished.

        Args:
            stop: set it to end.
            beat: called after each batch, and every second or so while there is nothing to do.

        Raises:
            Superseded: somebody else moves this checkpoint.
            UnreadableBatch: an event can't be read or applied; nothing of its batch was written.
            ProjectionError: the projection is not installed.
            psycopg.Error: the database is gone; run it again when it is back, nothing is lost or done twice.
        """
        async with Listener(self._url, "projector", EVENTS) as listener:
            wakeups = Wakeups(listener, self._poll)
            self._at = await self._load()
            while not stop.is_set():
                if not await self._step():
                    await wakeups.wait(self._at, stop, beat)
                beat(self._at)

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
        return True

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
