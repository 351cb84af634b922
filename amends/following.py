"""Follows the feed behind a checkpoint: what projections and process managers have in common."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from amends.database import Connection, Pool
from amends.errors import ProjectionError, Superseded
from amends.feed import Feed, Row
from amends.listen import Listener
from amends.notify import CHECKPOINTS, EVENTS, NOTIFY
from amends.records import START, Position
from amends.wakeups import FIRST_LOOK, POLL, Wakeups

__all__ = ["Follower"]

LOAD = "select xid::text::bigint, position from amends.checkpoints where projection = %s and version = %s"
"""Where a follower stands."""

MOVE = """
update amends.checkpoints
set xid = %s::xid8, position = %s, events = events + %s, updated_at = clock_timestamp()
where projection = %s and version = %s and xid = %s::xid8 and position = %s
"""
"""Move the checkpoint on, unless somebody else has: then no row is found."""


class Follower(ABC):
    """Does something with every event of the feed; one holder at a time, which the checkpoint sees to.

    Args:
        kind: what it is, for messages.
        name: of its checkpoint.
        version: of its checkpoint.
        pool: connections of the projector role.
        url: of the same database, for the connection that listens.
        batch: most events at a time.
        poll: seconds between looks when no notification comes.
        feed: where events come from; the pool's, when not given.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        version: int,
        pool: Pool,
        url: str,
        *,
        batch: int,
        poll: float = POLL,
        feed: Feed | None = None,
    ) -> None:
        self._told = f"{kind} {name!r} version {version}"
        self._name, self._version, self._pool, self._url = name, version, pool, url
        self._feed = feed or Feed(pool)
        self._batch, self._poll = batch, poll
        self._at = START
        self._beat: Callable[[Position], None] = lambda position: None

    async def run(self, stop: asyncio.Event, beat: Callable[[Position], None]) -> None:
        """Follow the feed until asked to stop; a batch that was begun is finished.

        Args:
            stop: set it to end.
            beat: called after each batch, and every second or so while there is nothing to do.

        Raises:
            Superseded: somebody else moves this checkpoint.
            UnreadableBatch: an event can't be read, or what is to be done with it failed; it is not passed over.
            ProjectionError: there is no such checkpoint.
            psycopg.Error: the database is gone; run it again when it is back, nothing is lost or done twice.
        """
        self._beat = beat
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
            where it stands then.
        """
        self._at = await self._load()
        while self._at < until:
            if not await self._step():
                await asyncio.sleep(FIRST_LOOK)
        return self._at

    @abstractmethod
    async def _apply(self, found: Sequence[Row]) -> None:
        """Do what these events, at least one, ask for, and `_move` the checkpoint behind it."""

    async def _move(self, connection: Connection, to: Position, events: int) -> None:
        """Move the checkpoint, in the connection's transaction if there is one.

        Raises:
            Superseded: somebody else has.
        """
        moved = (str(to.xid), to.number, events, self._name, self._version, str(self._at.xid), self._at.number)
        if (await connection.execute(MOVE, moved)).rowcount == 0:
            raise Superseded(
                f"The checkpoint of {self._told[0].lower()}{self._told[1:]} is no longer at {self._at}: another "
                "holder runs it, or it was reset. This one stops, and leaves its batch to the other"
            )

    async def _moved(self, connection: Connection, to: Position) -> None:
        """After the commit: stand there, and send word to those who wait for it."""
        self._at = to
        await connection.execute(NOTIFY, (CHECKPOINTS, f"{self._name}:{to}"))

    async def _step(self) -> bool:
        """Apply the next batch, if there is any."""
        found = await self._feed.read(self._at, self._batch)
        if found:
            await self._apply(found)
        return bool(found)

    async def _load(self) -> Position:
        async with self._pool.connection() as connection:
            row = await (await connection.execute(LOAD, (self._name, self._version))).fetchone()
        if row is None:
            raise ProjectionError(f"{self._told} has no checkpoint; install it first")
        return Position(*row)
