"""Runs one process manager: delivers the reactions to what it reads from the feed, then moves the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from amends.database import Pool
from amends.delivering import Delivery, Due
from amends.errors import UnreadableBatch
from amends.feed import Feed, Row
from amends.following import Follower
from amends.process_manager import ProcessManager
from amends.wakeups import POLL

__all__ = ["BATCH", "Reactor", "install", "react"]

BEGIN = """
insert into amends.checkpoints (projection, version, xid, role)
values (%s, %s, case %s when 'now' then pg_snapshot_xmin(pg_current_snapshot()) else '0' end, 'served')
on conflict (projection, version, generation, partition) do update set role = 'served'
where checkpoints.role <> 'served'
"""
"""Start a process manager at the beginning of the feed or where its readers stand now, unless it has a checkpoint."""

VERSION = 1
"""Of every process manager's checkpoint: there are no rows to build anew, so there are no versions."""

BATCH = 500
"""Most events between two moves of the checkpoint: what is delivered again, without effect, after a crash."""


class Reactor(Follower):
    """Lets one process manager react to the feed. Reactions go out before the checkpoint moves: none is ever lost.

    Args:
        manager: what to do.
        pool: connections of the projector role.
        url: of the same database, for the connection that listens.
        delivery: starts and signals workflows.
        batch: most events between two moves of the checkpoint.
        poll: seconds between looks when no notification comes.
        feed: where events come from; the pool's, when not given.
    """

    def __init__(
        self,
        manager: ProcessManager,
        pool: Pool,
        url: str,
        delivery: Delivery,
        *,
        batch: int = BATCH,
        poll: float = POLL,
        feed: Feed | None = None,
    ) -> None:
        super().__init__("Process manager", manager.name, VERSION, pool, url, batch=batch, poll=poll, feed=feed)
        self._manager, self._delivery = manager, delivery

    async def _apply(self, found: Sequence[Row]) -> None:
        """Deliver what the events lead to, up to the first that fails, and move the checkpoint as far."""
        due: list[Due] = []
        done, failed = 0, None
        for row in found:
            try:
                due += react(self._manager, row)
            except UnreadableBatch as error:
                failed = error
                break
            done += 1
        await self._delivery.deliver(self._name, due, lambda: self._beat(self._at))
        if done:
            async with self._pool.connection() as connection:
                await self._move(connection, found[done - 1].position, done)
                await self._moved(connection, found[done - 1].position, done)
        if failed is not None:
            raise failed


def react(manager: ProcessManager, row: Row) -> list[Due]:
    """What an event leads to, each with the id under which it acts once; one that nobody wants is not even decoded.

    Raises:
        UnreadableBatch: it can't be read, or the manager's function failed.
    """
    if row.name not in manager.handlers:
        return []
    try:
        fact = row.recorded()
        reactions = manager.reactions(fact)
    except Exception as error:
        raise UnreadableBatch(
            f"Process manager {manager.name!r} can't react to {row.name!r} at position {row.position}, version "
            f"{row.version} of stream {row.stream}: {type(error).__name__}: {error}. Mend its handler or upcaster and "
            "deploy; it goes on from there"
        ) from error
    return [Due(manager.id_of(row.event_id, n), reaction, fact) for n, reaction in enumerate(reactions, 1)]


def install(connection: Connection, manager: ProcessManager) -> None:
    """Give a process manager its checkpoint, unless it has one.

    Args:
        connection: of the schema's owner, in a transaction.
        manager: says where it begins: `since`.
    """
    connection.exec_driver_sql(BEGIN, (manager.name, VERSION, manager.since))
