"""Follows the feed behind a checkpoint: what projections and process managers have in common."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog
from psycopg import Error as PgError
from psycopg import OperationalError

from amends.alerts import alert
from amends.batch import told
from amends.database import Connection, Pool
from amends.dead_letters import Build
from amends.errors import NotServed, ProjectionError, Superseded
from amends.feed import Feed, Row
from amends.listen import Listener
from amends.notify import CHECKPOINTS, EVENTS, NOTIFY
from amends.records import START, Position
from amends.wakeups import FIRST_LOOK, POLL, Wakeups

__all__ = ["Follower"]

log = structlog.get_logger("amends.projections")

LOOK = 1.0
"""Seconds between two looks at whether it is to pause, to be swapped, or to try parked events again."""

BEAT = 5.0
"""Seconds between two signs of life in the database; after three missed ones the status says that nobody follows."""

FIND = """
select version, generation, xid::text::bigint, position, role, paused_at is not null, dead_letters
from amends.checkpoints where projection = %s and partition = %s and role = %s
"""
"""Where what is served, or being built, stands."""

LOOK_AT = """
select role, paused_at is not null, dead_letters, throttle, exists (
    select from amends.dead_letters d where d.projection = c.projection and d.version = c.version
    and d.generation = c.generation and d.partition = c.partition and d.state = 'retrying' and c.dead_letters > 0)
from amends.checkpoints c where projection = %s and version = %s and generation = %s and partition = %s
"""
"""What people want of a follower."""

BEATS = """
with free as (
    select from amends.checkpoints
    where projection = %(p)s and version = %(v)s and generation = %(g)s and partition = %(n)s for update skip locked
)
update amends.checkpoints set beat_at = clock_timestamp(), rate = %(rate)s
where projection = %(p)s and version = %(v)s and generation = %(g)s and partition = %(n)s and exists (select from free)
"""
"""A sign of life; not while somebody holds the row, who may hold it for a while and is a sign of life himself."""

MOVE = """
update amends.checkpoints
set xid = %s::xid8, position = %s, events = events + %s, stopped = false, updated_at = clock_timestamp(),
    beat_at = clock_timestamp()
where projection = %s and version = %s and generation = %s and partition = %s and xid = %s::xid8 and position = %s
  and role = %s and paused_at is null
returning dead_letters
"""
"""Move the checkpoint on, unless somebody else has, or it is paused, or another build has taken its place."""

STOPPED = """
update amends.checkpoints c set stopped = true, last_error = %s, failed_at = clock_timestamp()
where projection = %s and version = %s and generation = %s and partition = %s and role = %s
returning not exists (
    select from amends.checkpoints o
    where o.projection = c.projection and o.version = c.version and o.generation = c.generation and o.stopped)
"""
"""It can't go on; told in a transaction of its own, for the one that failed is gone. Tells whether that is news."""


class Wanted(NamedTuple):
    """What people want of a follower."""

    role: str
    paused: bool
    dead_letters: int
    throttle: float | None
    retrying: bool


class Follower(ABC):
    """Does something with every event of the feed; one holder at a time, which the checkpoint sees to.

    Args:
        kind: what it is, for messages.
        name: of its checkpoint.
        version: of its checkpoint.
        pool: connections of the projector role.
        url: of the same database, for the connection that listens.
        partition: which part of the keys, from 0.
        role: of the checkpoint: the one that is served, or the one that is being built.
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
        partition: int = 0,
        role: str = "served",
        batch: int,
        poll: float = POLL,
        feed: Feed | None = None,
    ) -> None:
        self._told = f"{kind} {name!r} version {version}"
        self._name, self._version, self._pool, self._url = name, version, pool, url
        self._partition, self._role = partition, role
        self._feed = feed or Feed(pool)
        self._batch, self._poll = batch, poll
        self._at = START
        self._build = Build(name, version, 0, partition)
        self._dead_letters, self._paused = 0, False
        self._beat: Callable[[Position], None] = lambda position: None
        self._looked = self._beaten = 0.0
        self._counted = 0

    async def run(self, stop: asyncio.Event, beat: Callable[[Position], None]) -> None:
        """Follow the feed until asked to stop; a batch that was begun is finished.

        It waits while it is paused, and while the views show an older version, which is being replaced by this one.

        Args:
            stop: set it to end.
            beat: called after each batch, and every second or so while there is nothing to do.

        Raises:
            Superseded: somebody else moves this checkpoint.
            NotServed: the views show a newer version than this code has.
            UnreadableBatch: an event can't be read, or what is to be done with it failed; it is not passed over.
            Broken: so much fails that the projection itself must be.
            ProjectionError: there is no such checkpoint.
            psycopg.Error: the database is gone; run it again when it is back, nothing is lost or done twice.
        """
        self._beat = beat
        async with Listener(self._url, "projector", EVENTS) as listener:
            wakeups = Wakeups(listener, self._poll)
            while not stop.is_set():
                if not await self._find():
                    await wakeups.wait(self._at, stop, beat, self._find)
                    continue
                try:
                    await self._follow(stop, wakeups, beat)
                except Superseded:
                    wanted = await self._look()
                    if wanted is not None and wanted.role == self._role and not wanted.paused:
                        raise
                except (OperationalError, NotServed):
                    raise
                except Exception as error:
                    await self._stopped(error)
                    raise

    async def catch_up(self, until: Position) -> Position:
        """Go on until a position is passed; errors as `run`.

        Args:
            until: as from a receipt, or `Feed.head()`.

        Returns:
            where it stands then.
        """
        if not await self._find():
            raise NotServed(
                f"{self._told} is not what the views show; build it first: amends views rebuild {self._name}"
            )
        while self._at < until:
            if not await self._step():
                await asyncio.sleep(FIRST_LOOK)
        return self._at

    @abstractmethod
    async def _apply(self, found: Sequence[Row]) -> None:
        """Do what these events, at least one, ask for, and `_move` the checkpoint behind it."""

    async def _redrive(self) -> None:  # noqa: B027 - a process manager parks nothing
        """Apply parked events once more, where somebody wants it."""

    async def _follow(self, stop: asyncio.Event, wakeups: Wakeups, beat: Callable[[Position], None]) -> None:
        """Follow until stopped, or until another build has taken this one's place."""
        while not stop.is_set():
            if wakeups.called or self._due(LOOK, self._looked):
                wakeups.called = False
                wanted = await self._look()
                if wanted is None or wanted.role != self._role:
                    return
                self._paused = wanted.paused
                if wanted.retrying and not wanted.paused:
                    await self._redrive()
            if self._paused or not await self._step():
                await wakeups.wait(self._at, stop, beat, self._changed)
            beat(self._at)

    async def _move(self, connection: Connection, to: Position, events: int) -> int:
        """Move the checkpoint, in the connection's transaction if there is one.

        Returns:
            how many events are parked.

        Raises:
            Superseded: somebody else has, or it is paused, or no longer what it was.
        """
        moved = (str(to.xid), to.number, events, *self._build, str(self._at.xid), self._at.number, self._role)
        row = await (await connection.execute(MOVE, moved)).fetchone()
        if row is None:
            raise Superseded(
                f"The checkpoint of {self._told[0].lower()}{self._told[1:]} is no longer at {self._at}: another "
                "holder runs it, or it was reset, paused or replaced. This one stops, and leaves its batch to the other"
            )
        return int(row[0])

    async def _moved(self, connection: Connection, to: Position, events: int) -> None:
        """After the commit: stand there, and send word to those who wait for it."""
        self._at = to
        self._counted += events
        await self._announce(connection)

    async def _announce(self, connection: Connection) -> None:
        await connection.execute(NOTIFY, (CHECKPOINTS, f"{self._name}:{self._at}"))

    async def _step(self) -> bool:
        """Apply the next batch, if there is any."""
        found = await self._feed.read(self._at, self._batch)
        if found:
            await self._apply(found)
        return bool(found)

    async def _find(self) -> bool:
        """Find the build to follow and where it stands; False while the views show an older version."""
        async with self._pool.connection() as connection:
            row = await (await connection.execute(FIND, (self._name, self._partition, self._role))).fetchone()
            if row is None:
                raise ProjectionError(f"{self._told} has no checkpoint; install it first")
            version, generation, xid, number, _, _, self._dead_letters = row
            if version > self._version:
                raise NotServed(
                    f"{self._told} is not followed: the views show version {version} by now, which this worker's code "
                    "does not have. A worker with that version goes on; stop this one"
                )
            if version < self._version:
                return False
            self._at = Position(xid, number)
            build = Build(self._name, version, generation, self._partition)
            if build != self._build:  # tell at once that somebody follows it
                self._build, self._looked, self._beaten = build, 0.0, 0.0
                await self._announce(connection)  # who held it may have died between its commit and its note
        return True

    async def _look(self) -> Wanted | None:
        """What people want of it, and now and then a sign of life; None when the build is gone."""
        clock = asyncio.get_running_loop().time()
        async with self._pool.connection() as connection:
            if self._due(BEAT, self._beaten):
                rate = self._counted / (clock - self._beaten) if self._beaten else 0.0
                await connection.execute(BEATS, {**dict(zip("pvgn", self._build, strict=True)), "rate": rate})
                self._beaten, self._counted = clock, 0
            row = await (await connection.execute(LOOK_AT, self._build)).fetchone()
        self._looked = clock
        if row is None:
            return None
        wanted = Wanted(*row)
        self._dead_letters = wanted.dead_letters
        return wanted

    async def _changed(self) -> bool:
        """While it waits: whether there is something else to do than to wait on."""
        if not self._due(LOOK, self._looked):
            return False
        wanted = await self._look()
        if wanted is None or wanted.role != self._role or wanted.paused != self._paused:
            return True
        return wanted.retrying and not wanted.paused

    def _due(self, seconds: float, last: float) -> bool:
        return not last or asyncio.get_running_loop().time() - last >= seconds

    async def _stopped(self, error: Exception) -> None:
        log.error("projection_stopped", projection=self._name, version=self._version, error=told(error))
        try:
            async with self._pool.connection() as connection, connection.transaction():
                stopped = (told(error), *self._build, self._role)
                if await (await connection.execute(STOPPED, stopped)).fetchone() == (True,):
                    await alert(connection, self._build[:3], f"stopped: {told(error)}")
        except PgError as lost:  # then the database is what is wrong, and says so itself
            log.warning("projection_stop_not_recorded", projection=self._name, error=str(lost))
