"""Applies events to rows in one transaction, and finds those that can't be applied.

What a column can never hold (another type, null where there must be a value) is refused when an event is folded. What
only the database can refuse (by a constraint over rows, or because a number has grown too large) is what a batch comes
to: a value that a later event of the same batch takes back is never sent, so nobody refuses it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence

from psycopg import DataError, IntegrityError, Rollback

from amends.batch import MOST_KEYS, Batch, refuse_if_broken, sort_out, told
from amends.database import Connection, Pool
from amends.errors import Broken, Poisoned
from amends.feed import Row
from amends.projection import Projection
from amends.records import Position

__all__ = ["Begin", "End", "Writer", "write"]

Begin = Callable[[Connection, Sequence[Row]], Awaitable[set[str]]]
"""Begins the transaction that applies some events: moves or locks the checkpoint; returns the keys that are parked."""

End = Callable[[Connection, Batch, set[str]], Awaitable[None]]
"""Ends it: parks what can't be applied, given the keys that were parked before."""


class Writer:
    """Applies events, in as few transactions as it takes to find those that can't be.

    Args:
        projection: what to do.
        pool: connections of the projector role.
        partition: only its events are applied.
    """

    def __init__(self, projection: Projection, pool: Pool, partition: int) -> None:
        self._projection, self._pool, self._partition = projection, pool, partition
        self.skipped: Collection[Position] = ()
        """Events that are left out for good."""
        self.known: Collection[Position] = ()
        """Events that could not be applied to another build, either."""

    async def apply(
        self, generation: int, found: Sequence[Row], begin: Begin, end: End, *, folded: Batch | None = None
    ) -> Batch:
        """Apply events; those that fail, and the later ones of their keys, are left to `end`.

        Args:
            generation: of the tables.
            found: the events, at least one.
            begin: begins each transaction.
            end: ends the one that counts.
            folded: what they do if nothing of theirs is parked, where that is known: it keeps the transaction short.

        Returns:
            what was done.

        Raises:
            Broken: it is no matter of single events.
            psycopg.Error: the database says no to all of it, or is gone.
        """
        poison: dict[Position, str] = {}
        while True:
            try:
                async with self._pool.connection() as connection, connection.transaction():
                    blocked = await begin(connection, found)
                    if folded is None or blocked or poison or folded.skipped != self.skipped:
                        folded = self._sorted(found, blocked, poison)
                    batch = folded
                    refuse_if_broken(self._projection, batch, self.known)
                    await write(connection, generation, batch)
                    await end(connection, batch, blocked)
                return batch
            except Poisoned as failed:
                self._add(poison, Position(*failed.position), failed.error)
            except (DataError, IntegrityError) as error:
                await self._find_poison(generation, found, begin, poison, error)
            folded = None

    async def _find_poison(
        self,
        generation: int,
        found: Sequence[Row],
        begin: Begin,
        poison: dict[Position, str],
        cause: BaseException | None,
    ) -> None:
        """Bisect: find an event without which those before it can be written, and with which they can't.

        Where one is refused the next often is too, so those right behind it are tried before all are tried again.
        """
        fine, failing = 0, len(found)
        while isinstance(cause, DataError | IntegrityError):
            while failing - fine > 1:
                middle = (fine + failing) // 2
                problem = await self._problem(generation, found[:middle], begin, poison)
                if problem is None:
                    fine = middle
                elif isinstance(problem, Poisoned):
                    return self._add(poison, Position(*problem.position), problem.error)
                else:
                    failing, cause = middle, problem
            self._add(poison, found[failing - 1].position, cause)
            if failing == len(found) or len(poison) > MOST_KEYS:
                return None
            fine, failing = failing, failing + 1
            cause = await self._problem(generation, found[:failing], begin, poison)
        return None

    async def _problem(
        self, generation: int, found: Sequence[Row], begin: Begin, poison: dict[Position, str]
    ) -> BaseException | None:
        """Why some events can't be written; they are not."""
        try:
            async with self._pool.connection() as connection, connection.transaction():
                batch = self._sorted(found, await begin(connection, found), poison)
                await write(connection, generation, batch)
                raise Rollback
        except (DataError, IntegrityError, Poisoned) as error:
            return error
        return None

    def _sorted(self, found: Sequence[Row], blocked: set[str], poison: dict[Position, str]) -> Batch:
        return sort_out(self._projection, found, self._partition, blocked, poison, self.skipped)

    def _add(self, poison: dict[Position, str], position: Position, error: BaseException) -> None:
        if position in poison:
            raise Broken(
                f"Projection {self._projection.name!r} can't write the events before {position} either: {told(error)}. "
                "Mend its handlers or tables and deploy; it goes on from there"
            ) from error
        poison[position] = told(error)


async def write(connection: Connection, generation: int, batch: Batch) -> None:
    """Write what a batch does to rows, in the connection's transaction.

    Args:
        connection: in that transaction.
        generation: of the tables.
        batch: what to write.

    Raises:
        Poisoned: what one of its events derives from a row fails.
        psycopg.Error: the database does not take it.
    """
    # never a cached plan: one made for the empty table would scan the full one
    for table, keys in batch.rows.reads():
        async with connection.cursor() as cursor:
            await cursor.execute(table.generation(generation).read, (keys.decode(),), prepare=False)
            batch.rows.settle(table, await cursor.fetchall())
    for table, payload in batch.rows.statements():
        await connection.execute(table.generation(generation).merge, (payload.decode(),), prepare=False)
