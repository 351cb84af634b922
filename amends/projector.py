"""Runs one projection: folds what it reads from the feed, writes rows and checkpoint in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from amends.applying import Writer
from amends.batch import Batch, sort_out
from amends.database import Connection, Pool
from amends.dead_letters import (
    alarm,
    alert_parked,
    blocked_keys,
    carry_skips,
    keep,
    known,
    letters_of,
    lock,
    park,
    retried_keys,
)
from amends.errors import Superseded
from amends.feed import Feed, Row
from amends.following import Follower
from amends.notify import CHECKPOINTS, NOTIFY, clear
from amends.projection import Projection
from amends.records import Position
from amends.wakeups import POLL

__all__ = ["BATCH", "Projector"]

log = structlog.get_logger("amends.projections")

SLOWEST = """
select xid::text::bigint, position from amends.checkpoints
where projection = %s and version = %s and generation = %s order by xid, position limit 1
"""
"""How far all of it has come."""

BATCH = 2000
"""Most events that are folded into one transaction."""


class Projector(Follower):
    """Keeps one projection's rows up to date; an event that can't be applied is parked, with the later ones of its key.

    Args:
        projection: what to do.
        pool: connections of the projector role.
        url: of the same database, for the connection that listens.
        partition: which part of the keys, from 0.
        role: the build that is served, or the one that is being built.
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
        partition: int = 0,
        role: str = "served",
        batch: int = BATCH,
        poll: float = POLL,
        feed: Feed | None = None,
    ) -> None:
        super().__init__(
            "Projection",
            projection.name,
            projection.version,
            pool,
            url,
            partition=partition,
            role=role,
            batch=batch,
            poll=poll,
            feed=feed,
        )
        self._projection = projection
        self._writer = Writer(projection, pool, partition)

    async def redrive(self) -> None:
        """Apply the parked events that somebody wants applied, key by key, each key's in order and one transaction."""
        if await self._find():
            await self._redrive()

    async def _apply(self, found: Sequence[Row]) -> None:
        """Rows, parked events and checkpoint in one transaction."""
        await self._write(found, None if self._dead_letters else await self._folded(found))

    async def _folded(self, found: Sequence[Row]) -> Batch:
        return sort_out(self._projection, found, self._partition, skipped=self._writer.skipped)

    async def _find(self) -> bool:
        if not await super()._find():
            return False
        async with self._pool.connection() as connection:
            # while it is served, only what is parked can be skipped, and that it has passed
            self._writer.skipped = await carry_skips(connection, self._build, self._at)
            self._writer.known = await known(connection, self._build)
        return True

    async def _begin(self, connection: Connection, some: Sequence[Row]) -> set[str]:
        """Move the checkpoint; returns the keys that are parked."""
        self._dead_letters = await self._move(connection, some[-1].position, len(some))
        return await blocked_keys(connection, self._build) if self._dead_letters else set()

    async def _write(self, found: Sequence[Row], folded: Batch | None) -> None:
        async def end(connection: Connection, batch: Batch, blocked: set[str]) -> None:
            if batch.letters:
                await park(connection, self._build, batch.letters, blocked)
                if self._role == "served":  # a build is compared, and that tells what is new
                    await alert_parked(connection, self._build, batch.letters)

        done = await self._writer.apply(self._build.generation, found, self._begin, end, folded=folded)
        self._dead_letters += len(done.letters)
        alarm(self._build, done.letters)
        async with self._pool.connection() as connection:
            await self._moved(connection, found[-1].position, len(found))

    async def _redrive(self) -> None:
        async with self._pool.connection() as connection:
            keys = await retried_keys(connection, self._build)
        for key in keys:
            await self._redrive_key(key)

    async def _redrive_key(self, key: str) -> None:
        async with self._pool.connection() as connection:
            tried = await letters_of(connection, self._build, key)

        async def begin(connection: Connection, some: Sequence[Row]) -> set[str]:
            role = await lock(connection, self._build)
            if role != self._role or await letters_of(connection, self._build, key) != tried:
                raise Superseded(
                    f"{self._told}: the parked events of key {key!r} have changed; they are looked at again"
                )
            return set()

        async def end(connection: Connection, batch: Batch, blocked: set[str]) -> None:
            settled = await keep(connection, self._build, tried, batch.letters)
            log.info("dead_letters_retried", projection=self._name, key=key, **settled._asdict())

        if tried:
            try:
                await self._writer.apply(self._build.generation, tried, begin, end)
            except Superseded as changed:
                log.info("dead_letters_changed", projection=self._name, key=key, reason=str(changed))
                return
            async with self._pool.connection() as connection:
                await self._announce(connection)  # what the views show of this key has changed, if not the position

    async def _announce(self, connection: Connection) -> None:
        """Send word, unless nobody sees these rows yet; of the slowest, where several share the work."""
        if self._role == "served":
            at, more = self._at, "" if self._dead_letters else clear(self._build.version, self._build.generation)
            if self._projection.partitions > 1:
                row = await (await connection.execute(SLOWEST, self._build[:3])).fetchone()
                at, more = at if row is None else Position(*row), ""  # of the others' parked events nothing is known
            await connection.execute(NOTIFY, (CHECKPOINTS, f"{self._name}:{at}{more}"))
