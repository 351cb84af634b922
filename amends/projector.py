"""Runs one projection: folds what it reads from the feed, writes rows and checkpoint in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import DataError, IntegrityError

from amends.batch import fold
from amends.database import Pool
from amends.errors import UnreadableBatch
from amends.feed import Feed, Row
from amends.following import Follower
from amends.projection import Projection
from amends.wakeups import POLL

__all__ = ["BATCH", "Projector"]

BATCH = 2000
"""Most events that are folded into one transaction."""


class Projector(Follower):
    """Keeps one projection's rows up to date.

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
        super().__init__(
            "Projection", projection.name, projection.version, pool, url, batch=batch, poll=poll, feed=feed
        )
        self._projection = projection

    async def _apply(self, found: Sequence[Row]) -> None:
        """Rows and checkpoint in one transaction."""
        batch = fold(self._projection, found)
        statements = list(batch.rows.statements())
        async with self._pool.connection() as connection:
            async with connection.transaction():
                await self._move(connection, batch.last, batch.events)
                for table, payload in statements:
                    try:
                        # never a cached plan: one made for the empty table would scan the full one
                        await connection.execute(table.merge, (payload.decode(),), prepare=False)
                    except (DataError, IntegrityError) as error:
                        raise UnreadableBatch(
                            f"Projection {self._name!r} can't write table {table.name!r} for the events from "
                            f"{batch.first} to {batch.last}: {error}. Mend its handler or table and deploy"
                        ) from error
            await self._moved(connection, batch.last)
