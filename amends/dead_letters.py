"""Parks the events of a key that can't be applied, and has them applied later, in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import structlog
from pydantic_core import to_json

from amends.batch import Letter
from amends.database import Connection
from amends.errors import Broken
from amends.feed import COLUMNS, Row
from amends.records import Position

__all__ = ["Build", "Settled", "alarm", "blocked_keys", "keep", "letters_of", "lock", "park", "retried_keys", "skipped"]

log = structlog.get_logger("amends.projections")

MOST_KEYS = 100
"""With more keys parked than these, the projection is broken as a whole."""

LOUD = 3
"""From this attempt on, an event that still fails is reported as critical."""

BLOCKED = """
select distinct key from amends.dead_letters
where projection = %s and version = %s and generation = %s and partition = %s and state <> 'skipped'
"""
"""Keys of which events are parked; at most a hundred or so."""

RETRIED = """
select key, min(xid), min(position) from amends.dead_letters
where projection = %s and version = %s and generation = %s and partition = %s and state = 'retrying'
group by key order by 2, 3
"""
"""Keys of which somebody wants the events applied."""

SKIPPED = """
select xid::text::bigint, position from amends.dead_letters
where projection = %s and version = %s and generation = %s and state = 'skipped'
"""
"""Events that somebody left out for good; few, for each was a decision."""

PARK = """
insert into amends.dead_letters (projection, version, generation, partition, key, xid, position, stream, event,
                                 error, attempts)
select %s, %s, %s, %s, l.key, l.xid::xid8, l.position, l.stream, l.event, l.error, (l.error is not null)::integer
from jsonb_to_recordset(%s::jsonb) as l (key text, xid text, position bigint, stream text, event text, error text)
"""
"""Park events."""

COUNT = """
update amends.checkpoints set dead_letters = dead_letters + %s, stopped = false
where projection = %s and version = %s and generation = %s and partition = %s
"""
"""Keep on the checkpoint how many are parked, so that nobody has to look when there are none."""

LOCK = """
select role, dead_letters from amends.checkpoints
where projection = %s and version = %s and generation = %s and partition = %s for update
"""
"""Keep everybody else from moving, parking and skipping."""

LETTERS = f"""
select {COLUMNS} from amends.dead_letters d join amends.events e on (e.xid, e.position) = (d.xid, d.position)
where d.projection = %s and d.version = %s and d.generation = %s and d.partition = %s and d.key = %s
  and d.state <> 'skipped'
order by e.xid, e.position
"""
"""The parked events of a key, in order."""

KEEP = """
update amends.dead_letters d
set state = 'parked', error = l.error, attempts = d.attempts + (l.error is not null)::integer
from jsonb_to_recordset(%s::jsonb) as l (xid text, position bigint, error text)
where d.projection = %s and d.version = %s and d.generation = %s and d.partition = %s
  and d.xid = l.xid::xid8 and d.position = l.position
returning d.position, d.event, d.error, d.attempts
"""
"""They still can't be applied."""

DONE = """
delete from amends.dead_letters d
using jsonb_to_recordset(%s::jsonb) as l (xid text, position bigint)
where d.projection = %s and d.version = %s and d.generation = %s and d.partition = %s
  and d.xid = l.xid::xid8 and d.position = l.position
"""
"""Some of them are applied."""


class Build(NamedTuple):
    """Whose checkpoint it is: the first columns of every table about projections."""

    projection: str
    version: int
    generation: int
    partition: int


class Settled(NamedTuple):
    """What came of applying a key's events once more: how many were applied, how many are parked still."""

    applied: int
    parked: int


async def blocked_keys(connection: Connection, build: Build) -> set[str]:
    """Keys of which events are parked."""
    return {key for (key,) in await (await connection.execute(BLOCKED, build)).fetchall()}


async def skipped(connection: Connection, build: Build) -> set[Position]:
    """Where the events are that somebody left out for good."""
    return {Position(*at) for at in await (await connection.execute(SKIPPED, build[:3])).fetchall()}


async def park(connection: Connection, build: Build, letters: Sequence[Letter], blocked: set[str]) -> None:
    """Park events, in the transaction that moves the checkpoint past them.

    Args:
        connection: in that transaction.
        build: whose.
        letters: those events.
        blocked: keys that are parked already.

    Raises:
        Broken: too many keys are parked.
    """
    keys = blocked | {letter.key for letter in letters}
    if len(keys) > MOST_KEYS:
        failed = next((letter for letter in letters if letter.error is not None), letters[0])
        raise Broken(
            f"Projection {build.projection!r} has events of {len(keys)} keys to park, more than {MOST_KEYS}: it must "
            f"be broken itself. The latest is {failed.row.name!r} at position {failed.row.position}: {failed.error}. "
            "Mend and deploy it, or retry or skip what is parked; it goes on from there"
        )
    sent = [
        {
            "key": letter.key,
            "xid": str(letter.row.xid),
            "position": letter.row.number,
            "stream": letter.row.stream,
            "event": letter.row.name,
            "error": letter.error,
        }
        for letter in letters
    ]
    await connection.execute(PARK, (*build, to_json(sent).decode()))
    await connection.execute(COUNT, (len(letters), *build))


def alarm(build: Build, letters: Sequence[Letter]) -> None:
    """Say aloud, after the commit, what was parked."""
    for letter in letters:
        if letter.error is not None:
            log.error(
                "event_parked",
                projection=build.projection,
                version=build.version,
                generation=build.generation,
                key=letter.key,
                dead_letter=letter.row.name,
                position=str(letter.row.position),
                error=letter.error,
            )


async def retried_keys(connection: Connection, build: Build) -> list[str]:
    """Keys of which somebody wants the events applied, the longest parked first."""
    return [key for key, _, _ in await (await connection.execute(RETRIED, build)).fetchall()]


async def lock(connection: Connection, build: Build) -> str | None:
    """Lock the checkpoint for the rest of the transaction; returns its role, None when there is none any more."""
    row = await (await connection.execute(LOCK, build)).fetchone()
    return None if row is None else row[0]


async def letters_of(connection: Connection, build: Build, key: str) -> list[Row]:
    """The parked events of a key, in order."""
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(LETTERS, (*build, key))
        return [Row._make(row) for row in await cursor.fetchall()]


async def keep(connection: Connection, build: Build, tried: Sequence[Row], letters: Sequence[Letter]) -> Settled:
    """Record, in the transaction that applied some of a key's events, which of them are parked still.

    Args:
        connection: in that transaction, the checkpoint locked.
        build: whose.
        tried: all of the key's events.
        letters: those that are parked still.
    """
    parked = {letter.row.position for letter in letters}
    done = [{"xid": str(row.xid), "position": row.number} for row in tried if row.position not in parked]
    left = [{"xid": str(one.row.xid), "position": one.row.number, "error": one.error} for one in letters]
    if done:
        await connection.execute(DONE, (to_json(done).decode(), *build))
        await connection.execute(COUNT, (-len(done), *build))
    if left:
        kept = await (await connection.execute(KEEP, (to_json(left).decode(), *build))).fetchall()
        for position, event, error, attempts in kept:
            if error is not None:
                tell = log.critical if attempts >= LOUD else log.error
                tell(
                    "dead_letter_fails_again",
                    projection=build.projection,
                    key=letters[0].key,
                    dead_letter=event,
                    position=position,
                    attempts=attempts,
                    error=error,
                )
    return Settled(len(done), len(left))
