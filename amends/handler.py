"""Handles commands: load the aggregate, decide, append; again when somebody else was faster."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import structlog
from pydantic import ValidationError

from amends.aggregate import Aggregate, Aggregates
from amends.database import Connection
from amends.errors import Conflict, Forgotten, Refused
from amends.messages import Command, Event
from amends.records import Context, Position, Receipt
from amends.sealing import all_clear
from amends.store import Appended, ClaimTaken, EventStore, Snapshot

__all__ = ["CommandHandler"]

log = structlog.get_logger("amends.commands")

FREE_CONFLICTS = 3
"""How often one call loses to others before it has the stream to itself for a moment."""

MAX_CONFLICTS = 20
"""How often one call decides again after a conflict before Temporal's retry takes over."""

SNAPSHOT_EVENTS = 200
"""Fewest events between two snapshots of a stream."""

SNAPSHOT_BYTES_PER_EVENT = 64
"""A larger state waits longer for its next snapshot, so that snapshots cost each event about this many bytes."""

NO_SNAPSHOT = 0
"""A snapshot schema that nobody writes: loads from the first event."""

CACHED_STREAMS = 10_000
"""States kept warm in a process; the least recently used goes first."""

Any_ = Aggregate[Any, Any]
A = TypeVar("A", bound=Any_)


@dataclass(slots=True)
class _Warm:
    """A state in memory, its version, and the version from which a snapshot is due."""

    state: Any_
    version: int
    snapshot_due: int

    def apply(self, events: Iterable[Event], version: int) -> None:
        self.state, self.version = self.state.replay(events), version


class CommandHandler:
    """Runs commands against aggregates, exactly once for each command id.

    States stay warm in memory; the version check of the append is what makes that safe. Commands on one stream take
    turns within a process, so that a hot stream conflicts only between processes.

    Args:
        store: where events go.
        aggregates: the classes whose commands this handles.
        appended: told the position of every append, after its commit.
    """

    def __init__(
        self,
        store: EventStore,
        aggregates: Iterable[type[Any_]],
        appended: Callable[[Position], None] = lambda position: None,
    ) -> None:
        self._store = store
        self._appended = appended
        self._aggregates = Aggregates(aggregates)
        self._warm: OrderedDict[str, _Warm] = OrderedDict()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def handle(self, command: Command, context: Context, attempt: int = 1) -> Receipt:
        """Decide a command and append what it leads to, or the refusal.

        Args:
            command: what is wanted.
            context: who wants it, under which id.
            attempt: which attempt of the activity this is, from 1.

        Returns:
            the receipt, of this call or of the first one with the same command id.

        Raises:
            UnknownMessage: no aggregate handles the command.
            CommandIdReused: the id stands for another command.
            Conflict: others kept writing to the stream; try again later.
            InvalidInput: what was sealed in it does not fit.
        """
        aggregate = self._aggregates.of(command)
        stream = aggregate.stream_of(command)
        started_at, forgotten = datetime.now(UTC), None
        try:
            command = await self._store.in_clear(command, stream, context.correlation_id)
        except Forgotten as refusal:
            forgotten = refusal
        trial = partial(self._attempt, aggregate, stream, command, context, started_at, attempt, refused=forgotten)
        async with self._turn(stream):
            for _ in range(FREE_CONFLICTS):
                done = await trial()
                if done.status != "conflict":
                    return self._receipt(stream, command, context, done)
            async with self._store.turn(stream) as connection:
                for _ in range(MAX_CONFLICTS - FREE_CONFLICTS):
                    done = await trial(on=connection)
                    if done.status != "conflict":
                        return self._receipt(stream, command, context, done)
        raise Conflict(f"Stream {stream} moved on {MAX_CONFLICTS} times while {command.message_name} was decided")

    async def state(self, aggregate: type[A], key: str) -> tuple[A, int]:
        """An aggregate as it is now, and its version; version 0 where nothing has happened to it."""
        stream = aggregate.stream(key)
        async with self._turn(stream):
            if stream in self._warm:
                warm = self._warm[stream]
                warm.apply(*await self._store.since(stream, warm.version))
            else:
                warm = await self._current(aggregate, stream)
            assert isinstance(warm.state, aggregate)
            return warm.state, warm.version

    async def _attempt(
        self,
        aggregate: type[Any_],
        stream: str,
        command: Command,
        context: Context,
        started_at: datetime,
        attempt: int,
        on: Connection | None = None,
        refused: Refused | None = None,
    ) -> Appended:
        """Decide once on the state at hand and append; a conflict brings the state up to date."""
        warm = await self._current(aggregate, stream)
        decision: Any = ()
        try:
            decision = warm.state.decide(command) if refused is None else ()
        except Refused as refusal:
            refused = refusal
        events = [item for item in decision if isinstance(item, Event)]
        after = warm.state.replay(events)
        snapshot, due = self._snapshot(aggregate, after, warm.version + len(events), warm.snapshot_due)
        try:
            done = await self._store.append(
                stream,
                warm.version,
                command,
                context,
                decision=decision,
                refused=refused,
                snapshot=snapshot,
                started_at=started_at,
                attempt=attempt,
                on=on,
            )
        except (ClaimTaken, Forgotten) as no:
            events, after, due = [], warm.state, warm.snapshot_due
            done = await self._store.append(
                stream,
                warm.version,
                command,
                context,
                refused=no.refused if isinstance(no, ClaimTaken) else no,
                started_at=started_at,
                attempt=attempt,
                on=on,
            )
        if done.status == "conflict" and done.since and warm.version + len(done.since) == done.version:
            warm.apply(done.since, done.version)
        elif done.status == "conflict":
            # far behind; or the database is behind us, for it was restored, so what we know is void
            self._warm.pop(stream, None)
        elif done.status == "appended":
            warm.state, warm.version, warm.snapshot_due = after, done.version, due
            if events:
                self._appended(done.position)
        return done

    async def _current(self, aggregate: type[Any_], stream: str) -> _Warm:
        """The warm state, or the one loaded now; a stale one is found out by the append."""
        warm = self._warm.get(stream)
        if warm is None:
            warm = await self._load(aggregate, stream)
            self._warm[stream] = warm
            if len(self._warm) > CACHED_STREAMS:
                self._warm.popitem(last=False)
        self._warm.move_to_end(stream)
        return warm

    async def _load(self, aggregate: type[Any_], stream: str) -> _Warm:
        loaded = await self._store.load(stream, aggregate.snapshot_version)
        state, size = aggregate(), 0
        if loaded.state is not None:
            try:
                state = all_clear(aggregate.model_validate_json(loaded.state))
                size = len(state.model_dump_json())
            except ValidationError:
                log.warning("snapshot_ignored", stream=stream, advice="raise the aggregate's snapshot_version")
                loaded = await self._store.load(stream, NO_SNAPSHOT)
        return _Warm(state.replay(loaded.events), loaded.version, loaded.snapshot_version + _pause(size))

    @staticmethod
    def _snapshot(aggregate: type[Any_], state: Any_, version: int, due: int) -> tuple[Snapshot | None, int]:
        if version < due:
            return None, due
        size = len(state.model_dump_json())
        return Snapshot(aggregate.snapshot_version, state), version + _pause(size)

    def _receipt(self, stream: str, command: Command, context: Context, done: Appended) -> Receipt:
        log.info(
            "command_handled",
            command=command.message_name,
            command_id=context.command_id,
            correlation_id=context.correlation_id,
            workflow_id=context.workflow_id,
            stream=stream,
            version=done.version,
            outcome=done.outcome,
            refusal=done.refusal.name if done.refusal else None,
            repeated=done.status == "repeated",
        )
        return Receipt(
            name=command.message_name,
            outcome=done.outcome,
            stream=stream,
            version=done.version,
            position=done.position,
            refusal=done.refusal,
            repeated=done.status == "repeated",
            recorded=done.recorded,
        )

    def _turn(self, stream: str) -> asyncio.Lock:
        return self._turns.setdefault(stream, asyncio.Lock())


def _pause(state_size: int) -> int:
    """How many events to wait until the next snapshot, for a state of this many bytes."""
    return max(SNAPSHOT_EVENTS, state_size // SNAPSHOT_BYTES_PER_EVENT)
