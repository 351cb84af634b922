"""Parks the events of a key that can't be applied, and has them applied later, in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import structlog
from pydantic_core import to_json

from amends.alerts import alert
from amends.batch import MOST_KEYS, Letter, too_many
from amends.database import Connection
from amends.feed import COLUMNS, Row, rows_of
from amends.records import Position

__all__ = [
    "Build",
    "Settled",
    "alarm",
    "alert_parked",
    "blocked_keys",
    "carry_skips",
    "keep",
    "known",
    "letters_of",
    "lock",
    "park",
    "retried_keys",
]

log = structlog.get_logger("amends.projections")

LOUD = 3
"""At this attempt people are told that an event still fails; not again at each later one."""

BLOCKED = """
select distinct key from amends.dead_letters
where projection = %s and version = %s and generation = %s and partition = %s and state <> 'skipped'
"""
"""Keys of which events are parked; at most a hundred or so."""

KNOWN = """
select xid::text::bigint, position from amends.dead_letters
where projection = %s and (version, generation) <> (%s, %s) and error is not null
"""
"""Events that could not be applied to another build, either."""

NEW_KEYS = """
select count(distinct d.key) from amends.dead_letters d
where d.projection = %s and d.version = %s and d.generation = %s and d.partition = %s and d.state <> 'skipped'
  and d.error is not null and not exists (
    select from amends.dead_letters o
    where o.projection = d.projection and (o.version, o.generation) <> (d.version, d.generation)
      and (o.xid, o.position) = (d.xid, d.position) and o.error is not null)
"""
"""How many keys are parked because of events that no other build knows to fail."""

RETRIED = """
select key, min(xid), min(position) from amends.dead_letters
where projection = %s and version = %s and generation = %s and partition = %s and state = 'retrying'
group by key order by 2, 3
"""
"""Keys of which somebody wants the events applied."""

CARRY = """
insert into amends.dead_letters (projection, version, generation, partition, key, xid, position, stream, event, error,
                                 attempts, state, actor, reason, parked_at, settled_at)
select distinct on (d.xid, d.position) d.projection, d.version, %(g)s, d.partition, d.key, d.xid, d.position, d.stream,
       d.event, d.error, d.attempts, d.state, d.actor, d.reason, d.parked_at, d.settled_at
from amends.dead_letters d
where d.projection = %(p)s and d.version = %(v)s and d.partition = %(n)s and d.generation <> %(g)s
  and d.state = 'skipped' and (d.xid, d.position) > (%(xid)s::xid8, %(position)s)
order by d.xid, d.position, d.settled_at
on conflict do nothing
"""
"""What somebody left out of one build for good is left out of the others of the same version too, if it is to come."""

SKIPPED = """
select xid::text::bigint, position from amends.dead_letters
where projection = %(p)s and version = %(v)s and generation = %(g)s and partition = %(n)s
  and state = 'skipped' and (xid, position) > (%(xid)s::xid8, %(position)s)
"""
"""Events to come that somebody left out for good; few, for each was a decision."""

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


async def carry_skips(connection: Connection, build: Build, after: Position) -> set[Position]:
    """Take over what was skipped in other builds of the same version, and tell what is to be left out from here on.

    Args:
        connection: while it is being built, in the transaction that has moved the checkpoint: then nobody skips.
        build: whose.
        after: where it stands, or stood before that transaction.
    """
    of = dict(zip("pvgn", build, strict=True)) | {"xid": str(after.xid), "position": after.number}
    await connection.execute(CARRY, of)
    return {Position(*at) for at in await (await connection.execute(SKIPPED, of)).fetchall()}


async def known(connection: Connection, build: Build) -> set[Position]:
    """Where the events are that could not be applied to another build of the projection, either."""
    return {Position(*at) for at in await (await connection.execute(KNOWN, build[:3])).fetchall()}


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
    if len(blocked | {letter.key for letter in letters}) > MOST_KEYS:
        row = await (await connection.execute(NEW_KEYS, build)).fetchone()
        if row is not None and row[0] > MOST_KEYS:
            raise too_many(build.projection, row[0], letters)


async def alert_parked(connection: Connection, build: Build, letters: Sequence[Letter]) -> None:
    """Tell people, in the transaction that parks events, of those that are not only waiting."""
    failed = [letter for letter in letters if letter.error is not None]
    if failed:
        first, keys = failed[0], {letter.key for letter in failed}
        more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
        problem = f"{first.row.name} at {first.row.number} is parked, of key {first.key}{more}: see views.dead_letters"
        await alert(connection, build[:3], problem, keys)


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
        return await rows_of(connection, await cursor.fetchall())


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
                key = letters[0].key
                problem = f"{event} at {position}, of key {key}, has failed {attempts} times: see views.dead_letters"
                tell = log.critical if attempts == LOUD else log.error
                tell(
                    "dead_letter_fails_again",
                    projection=build.projection,
                    key=key,
                    dead_letter=event,
                    position=position,
                    attempts=attempts,
                    error=error,
                )
                if attempts == LOUD:
                    await alert(connection, build[:3], problem, [key])
    return Settled(len(done), len(left))
