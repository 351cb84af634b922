"""The event store: load a stream, append what a command led to; one round trip each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal, TypeVar

from psycopg import errors as pg
from pydantic import BaseModel
from pydantic_core import to_json

from amends.aggregate import Claim, Free
from amends.database import Connection, Pool
from amends.errors import CommandIdReused, Conflict, EndedFromOutside, InvalidInput, Refused
from amends.messages import Command, Event
from amends.personal_keys import clear_model, clear_texts, key_for, sealed_model
from amends.records import Context, Position, Refusal
from amends.sealing import all_clear, has_personal, holds_sealed, is_closed, sealed
from amends.values import bad_texts

__all__ = ["Appended", "ClaimTaken", "EventStore", "Loaded", "Snapshot", "append_request", "refusal_of_claim"]

M = TypeVar("M", bound=BaseModel)

APPEND = "select status, at_version, at_xid, at_position, detail from amends.append(%s::jsonb)"
"""Append events, command record and claims, or learn why not; see the function's own comment."""

LOAD = """
with snapshot as (select version, state from amends.snapshots where stream = %(stream)s and schema_version = %(schema)s)
select version, null as name, null as schema_version, state::text as data from snapshot
union all
select version, name, schema_version, data::text from amends.events
where stream = %(stream)s and version > coalesce((select version from snapshot), 0)
order by version, name nulls first
"""
"""A stream's latest snapshot, if one fits this code, and the events after it."""

DELTA = """
select version, name, schema_version, data::text from amends.events
where stream = %(stream)s and version > %(after)s order by version
"""
"""The events of a stream that a cached state has not seen."""

REFUSAL = "select refusal from amends.commands where command_id = %s"
"""What a command, or a call, was refused by."""

ALONE = "select pg_advisory_lock(hashtextextended(%s, 0))"
"""Have a stream to oneself: appends of others wait; held by the session, without a transaction, so no feed waits."""

LEAVE = "select pg_advisory_unlock(hashtextextended(%s, 0))"
"""Let the others go on."""

AT_MOST = 500
"""Events that come back with a conflict; who is further behind loads the stream anew."""

_TRANSIENT = 3
"""How often a call that the database asks to repeat is repeated before it is given up as a conflict."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state to keep with the append, so that loading need not start from the first event."""

    schema_version: int
    state: BaseModel


@dataclass(frozen=True, slots=True)
class Loaded:
    """A stream as read: the snapshot's state (as JSON) if any, its version, and the events after it."""

    state: str | None
    snapshot_version: int
    events: list[Event]
    version: int


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append came to.

    Args:
        status: appended; repeated (the recorded outcome, nothing written); conflict (nothing written).
        since: with a conflict, the events after the expected version; none when they are more than `AT_MOST`.
        recorded: when repeated, the command as it was recorded then, personal fields masked.
    """

    status: Literal["appended", "repeated", "conflict"]
    version: int
    position: Position
    outcome: Literal["done", "refused"]
    refusal: Refusal | None
    since: list[Event]
    recorded: dict[str, Any] | None = None


class ClaimTaken(Exception):
    """A value the decision claims is held already; carries the refusal that the aggregate chose for that."""

    def __init__(self, refused: Refused) -> None:
        self.refused = refused
        super().__init__(refused.message)


class EventStore:
    """Streams of events in PostgreSQL, with the commands that caused them.

    Args:
        pool: connections of the writer role.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def load(self, stream: str, snapshot_schema: int) -> Loaded:
        """Read a stream from its latest snapshot on.

        Args:
            stream: its name.
            snapshot_schema: only a snapshot of this schema version is used.

        Raises:
            MessageError: an event can't be read by this code.
        """
        async with self._pool.connection() as connection:
            cursor = await connection.execute(LOAD, {"stream": stream, "schema": snapshot_schema})
            rows = await cursor.fetchall()
            texts = await clear_texts(connection, [(stream, row[3]) for row in rows])
        state, base = None, 0
        if rows and rows[0][1] is None:
            base, state = rows[0][0], texts[0]
            rows, texts = rows[1:], texts[1:]
        return Loaded(state, base, _events(rows, texts), rows[-1][0] if rows else base)

    async def since(self, stream: str, version: int) -> tuple[list[Event], int]:
        """The events after a version, and the version after them."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(DELTA, {"stream": stream, "after": version})
            rows = await cursor.fetchall()
            texts = await clear_texts(connection, [(stream, row[3]) for row in rows])
        return _events(rows, texts), rows[-1][0] if rows else version

    async def in_clear(self, message: M, *subjects: str) -> M:
        """What came with sealed fields, as `personal_keys.clear_model`."""
        if not is_closed(message):
            return message
        async with self._pool.connection() as connection:
            return await clear_model(connection, message, subjects)

    async def closed(self, result: M, subject: str) -> M:
        """What leaves for Temporal, with its personal fields sealed.

        Raises:
            Forgotten: whose data they are, has been forgotten.
        """
        if not has_personal(result):
            return result
        async with self._pool.connection() as connection:
            return sealed_model(result, subject, await key_for(connection, subject))

    async def append(
        self,
        stream: str,
        expected: int,
        command: Command,
        context: Context,
        *,
        decision: Sequence[Event | Claim | Free] = (),
        refused: Refused | None = None,
        snapshot: Snapshot | None = None,
        started_at: datetime,
        attempt: int = 1,
        on: Connection | None = None,
    ) -> Appended:
        """Record a command with all it led to, once, in one round trip and one transaction.

        Args:
            stream: where the events go.
            expected: the version that the decision was made on; 0 for a stream that is not there yet.
            command: kept in the log, personal fields masked.
            context: who asked, under which id.
            decision: events, claims, values freed.
            refused: the refusal, instead of a decision.
            snapshot: the state after the events, when one is due.
            started_at: when work on the command began.
            attempt: which attempt of the activity this is, from 1.
            on: a connection that has the turn on the stream; any of the pool's without it.

        Raises:
            InvalidInput: a text of the command can't be stored; names the field.
            ClaimTaken: a required claim is held already; nothing was written.
            CommandIdReused: the id stands for another command.
            Conflict: the database asked for a repeat too often.
            Forgotten: there are personal data in it, of who is forgotten.
        """
        key = await self._key(stream, decision, snapshot, on)
        request = append_request(
            stream, expected, command, context, decision, refused, snapshot, key, started_at=started_at, attempt=attempt
        )
        try:
            status, version, xid, number, detail = await self._call(request, on)
        except pg.UntranslatableCharacter:
            raise InvalidInput(bad_texts(command) or {"context": "text can't hold a NUL character"}) from None
        except pg.Error as error:
            if error.sqlstate == "AM001":
                raise ClaimTaken(refusal_of_claim(decision, int(error.diag.message_detail or 0))) from None
            raise
        position = Position(xid or 0, number or 0)
        if status == "conflict":
            return Appended(status, version, position, "done", None, await self._read(stream, detail))
        recorded = detail or {"outcome": request["outcome"], "refusal": request["refusal"]}
        refusal_record = recorded["refusal"] and Refusal.model_validate(recorded["refusal"])
        return Appended(
            status, version, position, recorded["outcome"], refusal_record or None, [], recorded.get("payload")
        )

    async def note(
        self,
        name: str,
        context: Context,
        outcome: Literal["begun", "done"],
        *,
        refused: Refused | None = None,
        started_at: datetime,
        attempt: int,
    ) -> None:
        """Record a call to the outside in the command log: that it begins, or how it ended; each once.

        Args:
            name: of the activity.
            context: of the call; its argument is not kept.
            outcome: begun, before it acts; done, or refused when there is a refusal.
            refused: the refusal, if it was one.
            started_at: when the call was first sent on its way.
            attempt: which attempt this is, from 1.

        Raises:
            EndedFromOutside: the saga was ended meanwhile, so the call must not begin.
        """
        begins = outcome == "begun"
        request = {
            "stream": f"saga-{context.correlation_id}",
            "expected": 0,
            "name": name,
            "payload": {},
            "outcome": "refused" if refused else outcome,
            "refusal": Refusal.of(refused).model_dump(mode="json") if refused else None,
            "events": [],
            "claims": [],
            "frees": [],
            "snapshot": None,
            "attempt": attempt,
            "started_at": started_at,
            **_origin(context, context.command_id),
            "command_id": f"{context.command_id}/{'begun' if begins else 'answer'}",
            "undo": context.undo if begins else None,
            "guarded": begins and context.guarded,
        }
        await self._call(request)

    async def refusal_of(self, call_id: str) -> Refusal | None:
        """What a call was refused by, as recorded; None where it was not.

        Args:
            call_id: its command id.
        """
        async with self._pool.connection() as connection:
            row = await (await connection.execute(REFUSAL, (f"{call_id}/answer",))).fetchone()
        return Refusal.model_validate(row[0]) if row and row[0] else None

    @asynccontextmanager
    async def turn(self, stream: str) -> AsyncIterator[Connection]:
        """Have a stream to oneself, for somebody who has lost to others too often; what they append waits meanwhile."""
        async with self._pool.connection() as connection:
            try:
                await connection.execute(ALONE, (stream,))
                yield connection
                await connection.execute(LEAVE, (stream,))
            except BaseException:
                await connection.close()  # the lock ends with its session, whether we have it or not
                raise

    async def _key(
        self, stream: str, decision: Sequence[Event | Claim | Free], snapshot: Snapshot | None, on: Connection | None
    ) -> bytes | None:
        """What seals the personal data of a stream, where there are any to append."""
        kept = [*decision, snapshot.state] if snapshot else decision
        if not any(map(has_personal, kept)):
            return None
        async with nullcontext(on) if on else self._pool.connection() as connection:
            return await key_for(connection, stream)

    async def _read(self, stream: str, found: Sequence[dict[str, Any]]) -> list[Event]:
        """Events that came back with a conflict."""
        texts = [to_json(event["data"]).decode() for event in found]
        if any(map(holds_sealed, texts)):
            async with self._pool.connection() as connection:
                texts = await clear_texts(connection, [(stream, text) for text in texts])
        return _events([(None, event["name"], event["schema_version"]) for event in found], texts)

    async def _call(self, request: dict[str, Any], on: Connection | None = None) -> tuple[Any, ...]:
        """Call append, repeating what the database could not serialise."""
        sent = to_json(request).decode()
        for _ in range(_TRANSIENT):
            try:
                async with nullcontext(on) if on else self._pool.connection() as connection:
                    row = await (await connection.execute(APPEND, (sent,))).fetchone()
            except (pg.SerializationFailure, pg.DeadlockDetected) as error:
                last = error
            except pg.Error as error:
                if error.sqlstate == "AM002":
                    raise CommandIdReused(
                        f"Command id {request['command_id']!r} was used for another command than {request['name']} on "
                        f"{request['stream']}; a new intent needs a new id"
                    ) from None
                if error.sqlstate == "AM003":
                    raise EndedFromOutside(saga=request["correlation_id"], step=request["step"]) from None
                raise
            else:
                assert row is not None
                return row
        raise Conflict(f"PostgreSQL asked {_TRANSIENT} times to repeat the append: {last}") from last


def append_request(
    stream: str,
    expected: int,
    command: Command,
    context: Context,
    decision: Sequence[Event | Claim | Free] = (),
    refused: Refused | None = None,
    snapshot: Snapshot | None = None,
    key: bytes | None = None,
    *,
    started_at: datetime,
    attempt: int = 1,
) -> dict[str, Any]:
    """What `amends.append` takes, as plain data; arguments as for `EventStore.append`, and what seals personal data."""
    claims = [item for item in decision if isinstance(item, Claim)]
    return {
        "stream": stream,
        "expected": expected,
        "name": command.message_name,
        "payload": command.redacted(),
        "outcome": "refused" if refused else "done",
        "refusal": Refusal.of(refused).model_dump(mode="json") if refused else None,
        "events": [
            {"name": item.message_name, "version": item.schema_version, "data": _stored(item, stream, key)}
            for item in decision
            if isinstance(item, Event)
        ],
        "claims": [{"scope": c.scope, "hash": _hash(c.value), "required": c.otherwise is not None} for c in claims],
        "frees": [{"scope": item.scope, "hash": _hash(item.value)} for item in decision if isinstance(item, Free)],
        "snapshot": snapshot
        and {"schema_version": snapshot.schema_version, "state": _stored(snapshot.state, stream, key)},
        "attempt": attempt,
        "started_at": started_at,
        "at_most": AT_MOST,
        **_origin(context, context.command_id),
        "guarded": context.guarded,
    }


def refusal_of_claim(decision: Sequence[Event | Claim | Free], number: int) -> Refused:
    """The refusal that a decision chose for the case that one of its claims, counted from 0, is taken."""
    refusal = [item for item in decision if isinstance(item, Claim)][number].otherwise
    assert refusal is not None
    return refusal


def _stored(kept: BaseModel, stream: str, key: bytes | None) -> Any:
    """An event or a state as JSON data, its personal fields sealed."""
    data = kept.model_dump(mode="json")
    return data if key is None else sealed(kept, data, stream, key)


def _events(rows: Iterable[tuple[Any, ...]], texts: Iterable[str]) -> list[Event]:
    """Events of rows of version, name and schema version, with their data in clear."""
    events = []
    for (_, name, schema, *_), data in zip(rows, texts, strict=True):
        event = Event.read(name, schema, data)
        events.append(all_clear(event) if holds_sealed(data) else event)
    return events


def _origin(context: Context, step_id: str) -> dict[str, Any]:
    """Where a row of the command log comes from, and what it is to its saga."""
    return context.model_dump(exclude={"labels"}) | {"step_id": step_id if context.kind else None}


def _hash(value: str) -> str:
    return sha256(value.encode()).hexdigest()
