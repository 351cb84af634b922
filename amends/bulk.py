"""Handles many commands at a time: states loaded in one query, decisions appended in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import to_json

from amends.aggregate import Aggregate, Aggregates, Decision
from amends.database import Connection
from amends.errors import CommandIdReused, Forgotten, Refused
from amends.messages import Command, Event
from amends.personal_keys import clear_texts, keys_for
from amends.records import START, Context, Position
from amends.sealing import Keys, all_clear, has_personal, holds_sealed
from amends.store import append_request, refusal_of_claim
from amends.values import carries_personal

__all__ = ["Answer", "BulkHandler", "Wanted"]

LOAD_MANY = """
with wanted as (select w.* from unnest(%s::text[], %s::smallint[]) as w (stream, schema_version)),
kept as (
    select w.stream, s.version, s.state from wanted w
    join amends.snapshots s on s.stream = w.stream and s.schema_version = w.schema_version
)
select stream, version, null as name, null as schema_version, state::text as data from kept
union all
select e.stream, e.version, e.name, e.schema_version, e.data::text
from wanted w left join kept k on k.stream = w.stream
join amends.events e on e.stream = w.stream and e.version > coalesce(k.version, 0)
order by stream, version, name nulls first
"""
"""Many streams, each from its latest snapshot on, if one fits this code."""

KNOWN = "select command_id, name, stream from amends.commands where command_id = any(%s::text[])"
"""Which commands have been done, or refused, already."""

APPEND_MANY = "select amends.append_many(%s::jsonb)"
"""Append what many commands led to; an answer each."""

NO_SNAPSHOT = 0
"""A snapshot schema that nobody writes: loads from the first event."""

Any_ = Aggregate[Any, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A command, with who wants it and under which id."""

    command: Command
    context: Context


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a command.

    Args:
        status: done, with events or claims; nothing, for there was nothing to do, and it is not recorded; repeated: it
            was sent earlier; refused, which is not recorded either; again: somebody else wrote to its stream, or what
            it was decided on has not come about, so send it again in a new transaction.
        refusal: why not, when refused: by a rule, or because the id was used for another command.
    """

    status: Literal["done", "nothing", "repeated", "refused", "again"]
    refusal: Refused | CommandIdReused | None = None


@dataclass(slots=True)
class _State:
    state: Any_
    version: int


class BulkHandler:
    """Runs many commands against aggregates in one transaction, exactly once for each command id.

    Commands that are refused or change nothing leave no record, so that they can be sent again when the reason is gone.

    Args:
        aggregates: the classes whose commands this handles.
    """

    def __init__(self, aggregates: Iterable[type[Any_]]) -> None:
        self._aggregates = Aggregates(aggregates)
        self.position: Position = START

    async def handle(self, connection: Connection, wanted: Sequence[Sequence[Wanted]]) -> list[list[Answer]]:
        """Decide commands in order and append what they lead to.

        Args:
            connection: of the writer role, in a transaction; the caller commits, which is when all of it happens.
            wanted: groups of commands; the first that is refused ends its group.

        Returns:
            an answer for each command, up to the first of its group that is refused.

        Raises:
            UnknownMessage: no aggregate handles a command.
            psycopg.errors.DeadlockDetected: all of it is to be done again.
        """
        if not any(wanted):
            return [[] for _ in wanted]
        states = await self._load(connection, (each.command for group in wanted for each in group))
        keys = await self._keys(connection, (each.command for group in wanted for each in group))
        known = await self._known(connection, [each.context.command_id for group in wanted for each in group])
        answers: list[list[Answer]] = [[] for _ in wanted]
        requests: list[dict[str, Any]] = []
        sent: list[tuple[int, int, Wanted, Decision]] = []
        started_at = datetime.now(UTC)
        for number, group in enumerate(wanted):
            for each in group:
                stream = self._aggregates.of(each.command).stream_of(each.command)
                current = states[stream]
                if (before := known.get(each.context.command_id)) is not None:
                    same = before == (each.command.message_name, stream)
                    answers[number].append(Answer("repeated") if same else _reused(each))
                    if not same:
                        break
                    continue
                try:
                    decision = current.state.decide(each.command)
                except Refused as refused:
                    answers[number].append(Answer("refused", refused))
                    break
                answers[number].append(Answer("nothing"))
                if not decision:
                    continue
                expected, events = current.version, [item for item in decision if isinstance(item, Event)]
                key = keys.get(stream)
                if key is None and any(map(has_personal, decision)):
                    answers[number][-1] = Answer("refused", Forgotten(subject=stream))
                    break
                requests.append(
                    append_request(
                        stream, expected, each.command, each.context, decision, key=key, started_at=started_at
                    )
                )
                sent.append((number, len(answers[number]) - 1, each, decision))
                current.state, current.version = current.state.replay(events), expected + len(events)
        if requests:
            row = await (await connection.execute(APPEND_MANY, (to_json(requests).decode(),))).fetchone()
            assert row is not None
            for (number, place, each, decision), said in zip(sent, row[0], strict=True):
                answers[number][place] = self._answer(each, decision, said)
        return [_until_refused(group) for group in answers]

    def _answer(self, wanted: Wanted, decision: Decision, said: dict[str, Any]) -> Answer:
        match said["status"]:
            case "appended":
                self.position = max(self.position, Position(said["xid"], said["position"]))
                return Answer("done")
            case "repeated":
                return Answer("repeated")
            case "taken":
                return Answer("refused", refusal_of_claim(decision, said["claim"]))
            case "reused":
                return _reused(wanted)
            case _:
                return Answer("again")

    async def _keys(self, connection: Connection, commands: Iterable[Command]) -> Keys:
        """What seals the personal data of those streams that may have some."""
        streams = set()
        for command in commands:
            aggregate = self._aggregates.of(command)
            if any(map(carries_personal, aggregate.events)):
                streams.add(aggregate.stream_of(command))
        return await keys_for(connection, streams) if streams else {}

    @staticmethod
    async def _known(connection: Connection, ids: list[str]) -> dict[str, tuple[str, str]]:
        """Name and stream of those commands that the log has already, by their ids."""
        return {id: (name, stream) async for id, name, stream in await connection.execute(KNOWN, (ids,))}

    async def _load(self, connection: Connection, commands: Iterable[Command]) -> dict[str, _State]:
        aggregates = {}
        for command in commands:
            aggregate = self._aggregates.of(command)
            aggregates[aggregate.stream_of(command)] = aggregate
        states = {stream: _State(aggregate(), 0) for stream, aggregate in aggregates.items()}
        misfits = await self._read(connection, states, {s: a.snapshot_version for s, a in aggregates.items()})
        if misfits:
            states |= {stream: _State(aggregates[stream](), 0) for stream in misfits}
            await self._read(connection, states, dict.fromkeys(misfits, NO_SNAPSHOT))
        return states

    @staticmethod
    async def _read(connection: Connection, states: dict[str, _State], schemas: dict[str, int]) -> set[str]:
        """Bring states up to date; returns the streams whose snapshot does not fit this code."""
        misfits = set()
        cursor = await connection.execute(LOAD_MANY, (list(schemas), list(schemas.values())), prepare=False)
        rows = await cursor.fetchall()
        texts = await clear_texts(connection, [(row[0], row[4]) for row in rows])
        for (stream, version, name, schema_version, _), data in zip(rows, texts, strict=True):
            current = states[stream]
            if name is None:
                try:
                    current.state = all_clear(type(current.state).model_validate_json(data))
                except ValidationError:
                    misfits.add(stream)
            elif stream not in misfits:
                event = Event.read(name, schema_version, data)
                current.state = current.state.evolve(all_clear(event) if holds_sealed(data) else event)
            current.version = version
        return misfits


def _reused(wanted: Wanted) -> Answer:
    id, name = wanted.context.command_id, wanted.command.message_name
    told = f"Command id {id!r} was used for another command than {name}; a new intent needs a new id"
    return Answer("refused", CommandIdReused(told))


def _until_refused(group: list[Answer]) -> list[Answer]:
    """What comes after a refusal in its group was decided on what has not come about."""
    for number, answer in enumerate(group, 1):
        if answer.status == "refused":
            return group[:number]
    return group
