"""Builds a projection's tables beside those that are served: fast, from where it was left, no faster than it may."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from psycopg import AsyncConnection, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy.schema import CreateIndex

from amends.applying import write
from amends.batch import Batch, refuse_if_broken, sort_out
from amends.database import Connection, Pool, conninfo
from amends.dead_letters import blocked_keys, carry_skips, park
from amends.errors import ProjectionError, Superseded
from amends.feed import Row, read
from amends.following import LOOK
from amends.merging import DIALECT
from amends.projection import Projection
from amends.projector import Projector
from amends.records import Position

__all__ = ["BULK", "Builder", "bulk_url", "index"]

BULK = 5000
"""Most events in one transaction of a build."""

NOT_SHOWN = 0.05
"""Seconds until the next look for events that an open transaction holds back."""

UNFINISHED = """
select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
where i.indrelid = to_regclass(%s) and not i.indisvalid
"""
"""Indexes that somebody was building when he died."""

BUILT = """
update amends.generations set built_at = clock_timestamp() where projection = %s and version = %s and generation = %s
"""
"""Its indexes are there."""


class Builder(Projector):
    """Brings one partition of a build up to a position, in large batches; the next is read and folded meanwhile.

    Args:
        projection: what to do.
        pool: connections of the projector role, by `bulk_url`.
        url: of the same database.
        partition: which part of the keys, from 0.
        batch: most events in a transaction.
    """

    def __init__(self, projection: Projection, pool: Pool, url: str, *, partition: int = 0, batch: int = BULK) -> None:
        super().__init__(projection, pool, url, partition=partition, role="building", batch=batch)
        self._most = batch
        self._throttle: float | None = None
        self._until = Position(0, 0)
        self._ahead: tuple[Position, asyncio.Task[tuple[list[Row], Batch | None]]] | None = None
        self._paced = (0.0, 0)
        self._hurried = False

    @property
    def at(self) -> Position:
        """Where it stands."""
        return self._at

    async def find(self) -> int:
        """Look where the build stands; returns its generation.

        Raises:
            ProjectionError: there is no build of this version.
        """
        if not await self._find():
            raise ProjectionError(f"{self._told}: another version is being built")
        return self._build.generation

    async def up_to(self, until: Position, *, hurried: bool = False) -> int:
        """Apply what there is up to a position, and nothing after it.

        Args:
            until: a position that readers of the feed have been shown, or will be soon.
            hurried: whatever the throttle is, for the little during which what is served stands still.

        Returns:
            how many events that were.

        Raises:
            Superseded: the build was cancelled, or somebody else works on it.
            Broken: so much fails that the projection itself must be broken.
        """
        done, self._until, self._hurried = 0, until, hurried
        await self.find()
        try:
            while self._at < until:
                if self._due(LOOK, self._looked):
                    await self._obey()
                found, folded = await self._next()
                if not found:
                    await asyncio.sleep(NOT_SHOWN)
                    continue
                ahead = asyncio.create_task(self._prepare(found[-1].position))
                self._ahead = (found[-1].position, ahead)
                await self._write(found, None if self._dead_letters else folded)
                done += len(found)
                await self._rest(len(found))
        except Exception as error:
            if not isinstance(error, Superseded):
                await self._stopped(error)
            raise
        finally:
            await self._forget()
        return done

    async def within(self, connection: Connection, until: Position) -> None:
        """The same, in a transaction that is open: for the little that is left before a swap.

        Args:
            connection: in that transaction; after a rollback of it, `find` where the build stands.
            until: a position that readers of the feed have been shown.

        Raises:
            Poisoned, DataError, IntegrityError: an event can't be applied; go `up_to` there first, which parks it.
        """
        while self._at < until:
            found = [row for row in await read(connection, self._at, self._most) if row.position <= until]
            if not found:
                raise ProjectionError(f"{self._told}: the feed does not go up to {until}, where its readers are")
            parked = await self._move(connection, found[-1].position, len(found))
            blocked = await blocked_keys(connection, self._build) if parked else set()
            batch = sort_out(self._projection, found, self._partition, blocked, skipped=self._writer.skipped)
            refuse_if_broken(self._projection, batch, self._writer.known)
            await write(connection, self._build.generation, batch)
            if batch.letters:
                await park(connection, self._build, batch.letters, blocked)
            self._at = found[-1].position

    async def _begin(self, connection: Connection, some: Sequence[Row]) -> set[str]:
        blocked = await super()._begin(connection, some)
        self._writer.skipped = await carry_skips(connection, self._build, self._at)  # somebody may have, just now
        return blocked

    async def _folded(self, found: Sequence[Row]) -> Batch:
        # in a thread: it takes long enough for the worker's other activities to notice
        passed = self._writer.skipped
        return await asyncio.to_thread(sort_out, self._projection, found, self._partition, skipped=passed)

    async def _next(self) -> tuple[list[Row], Batch | None]:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == self._at:
            return await ahead[1]
        return await self._prepare(self._at)

    async def _prepare(self, after: Position) -> tuple[list[Row], Batch | None]:
        found = [row for row in await self._feed.read(after, self._size()) if row.position <= self._until]
        return found, await self._folded(found) if found and not self._dead_letters else None

    async def _forget(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead[1].cancel()
            await asyncio.gather(ahead[1], return_exceptions=True)

    async def _obey(self) -> None:
        wanted = await self._look()
        if wanted is None or wanted.role != self._role:
            raise Superseded(f"{self._told}: the build was cancelled")
        if wanted.throttle != self._throttle:
            self._throttle, self._paced = wanted.throttle, (0.0, 0)
        if wanted.retrying:
            await self._redrive()

    def _size(self) -> int:
        if self._throttle is None or self._hurried:
            return self._most
        return max(1, min(self._most, int(self._throttle / 2)))

    async def _rest(self, events: int) -> None:
        """Wait as long as the throttle asks, but hear when it changes."""
        if self._hurried:
            return
        clock = asyncio.get_running_loop().time
        began, done = self._paced if self._paced[0] else (clock(), 0)
        self._paced = (began, done + events)
        while self._throttle and (left := began + self._paced[1] / self._throttle - clock()) > 0:
            await asyncio.sleep(min(left, LOOK))
            if self._due(LOOK, self._looked):
                await self._obey()


def bulk_url(url: str) -> str:
    """The same database, for a build: what a crash of the server takes back is built again, so commits need not wait.

    Args:
        url: a PostgreSQL URL or conninfo.
    """
    parts = conninfo_to_dict(url)
    options = f"{parts['options']} " if "options" in parts else ""
    return make_conninfo(url, options=f"{options}-c synchronous_commit=off")


async def index(url: str, projection: Projection, generation: int) -> None:
    """Make the secondary indexes of a build, and have the planner know its tables.

    Concurrently: an ordinary `create index` is a transaction that writes from its beginning, and as long as it takes
    nobody would be shown any later event.

    Args:
        url: a login that owns the schema.
        projection: what is built.
        generation: which build.
    """
    async with await AsyncConnection.connect(conninfo(url, "owner"), autocommit=True) as connection:
        for table in projection.tables.values():
            made = table.defined(generation)
            name = sql.Identifier("read_models", made.name)
            found = await connection.execute(UNFINISHED, (f'read_models."{made.name}"',))
            for (unfinished,) in await found.fetchall():
                await connection.execute(sql.SQL("drop index {}").format(sql.Identifier("read_models", unfinished)))
            for each in made.indexes:
                each.dialect_options["postgresql"]["concurrently"] = True
                await connection.execute(str(CreateIndex(each, if_not_exists=True).compile(dialect=DIALECT)).encode())
            await connection.execute(sql.SQL("analyze {}").format(name))
        await connection.execute(BUILT, (projection.name, projection.version, generation))
