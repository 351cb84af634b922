"""Whatever is asked of the event store, wherever a session dies meanwhile: it is as if one dictionary had been kept.

Two processes with warm states of their own handle commands and wait for nobody's word of what the other has done. A
session may die before or after any statement of an append, or with all done but the commit; or the answer gets lost; or
the client hangs up. Then either all of it has happened or nothing, and the same command once more happens once.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from itertools import count
from typing import Any

import psycopg
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, invariant, rule
from psycopg import OperationalError

import amends.handler as handler_module
from amends.bulk import BulkHandler, Wanted
from amends.database import Pool, conninfo, open_pool
from amends.errors import CommandIdReused
from amends.feed import Feed
from amends.handler import CommandHandler
from amends.messages import Command
from amends.records import Position, Receipt
from amends.store import EventStore
from tests.engine.property_rows import PLANNED, plan_crashes
from tests.kernel.kernel_shop import Add, Added, Counter, DropName, TakeNames, context, until
from tests.kernel.lossy_proxy import LossyProxy, lossy
from tests.models.machines import SHRINKING, LoopedMachine, run_machine
from tests.models.store_books import Books, Recorded

PROGRAMS, STEPS = 30, 25
"""How much is tried in the suite."""

TABLES = ("streams", "events", "claims", "commands", "snapshots")

CRASHES = "".join(
    f"""
    create trigger crash_before before insert or update or delete on amends.{table}
        for each statement execute function amends.crash();
    create trigger crash_after after insert or update or delete on amends.{table}
        for each statement execute function amends.crash();
    """
    for table in TABLES
) + "".join(
    f"""
    create constraint trigger crash_at_commit after insert on amends.{table} deferrable initially deferred
        for each row execute function amends.crash();
    """
    for table in ("commands", "claims")
)
"""There are steps before and after each statement that writes, and when all is done but the commit."""

MOST_STEPS = 16
"""Of an append that writes everything, and somewhat more, so that some plans come to nothing."""

KEYS = st.sampled_from("ab")
NAMES = st.sampled_from(("x", "y", "z"))
WHO = st.integers(0, 1)
TROUBLE = st.one_of(st.none(), st.none(), st.integers(1, MOST_STEPS), st.sampled_from(["answer lost", "hung up"]))
"""What happens to the session meanwhile: nothing; it dies at a step; its answer gets lost; its client hangs up."""

COMMANDS = st.one_of(
    st.builds(Add, counter_id=KEYS, amount=st.sampled_from([1, 5, 5000]), times=st.integers(0, 4)),
    st.builds(
        TakeNames, counter_id=KEYS, names=st.lists(NAMES, min_size=1, max_size=3).map(tuple), quietly=st.booleans()
    ),
    st.builds(DropName, counter_id=KEYS, name=NAMES),
)

WRITTEN = """
select e.stream, e.version, e.name, e.data, e.command_id from amends.events e where e.stream like %s order by 1, 2
"""
HEADS = "select stream, version from amends.streams where stream like %s"
RECORDS = """
select c.command_id, c.name, c.stream, c.outcome, c.refusal ->> 'name', c.version, c.events from amends.commands c
where c.stream like %s
"""
MISPLACED = """
select c.command_id from amends.commands c left join amends.events e on (e.xid, e.position) = (c.xid, c.position)
where c.stream like %s and c.version > 0 and (e.stream, e.version) is distinct from (c.stream, c.version)
"""
"""Commands whose position is not that of the version they have led to, or were decided on."""

CLAIMS = "select encode(hash, 'hex'), stream from amends.claims where stream like %s"
SNAPSHOTS = "select stream, version, state from amends.snapshots where stream like %s"


@dataclass
class Place:
    """The database of the test, ways to it, and how often things went wrong."""

    url: str
    owner: psycopg.Connection[Any]
    proxy: LossyProxy
    pools: list[Pool]
    """Of two processes; the first one's way leads through the proxy."""

    direct: Pool
    feed: Feed
    programs: Iterator[int]
    seen: Tally[str] = field(default_factory=Tally)


class EventStoreMachine(LoopedMachine):
    """Commands by two processes, whatever happens to their sessions."""

    sent = Bundle("sent")

    def __init__(self, loop: asyncio.AbstractEventLoop, place: Place) -> None:
        super().__init__(loop)
        self._place, self._model = place, Books()
        self._ids, self._program = count(1), next(place.programs)
        self._processes = [self._process(pool) for pool in place.pools]
        self._at: Position = self.wait(place.feed.head())
        self._shown: list[tuple[str, int]] = []

    # What is done

    @rule(target=sent, who=WHO, command=COMMANDS, trouble=TROUBLE)
    def handle(self, who: int, command: Command, trouble: int | str | None) -> str:
        """A new command; when its session dies, anybody sends it once more."""
        id, command = f"{self._program}/{next(self._ids)}", self._ours(command)
        if trouble is None:
            self._agrees(id, command, self._handled(who, id, command), repeated=False)
        else:
            self._in_trouble(0 if isinstance(trouble, str) else who, id, command, trouble)
        return id

    @rule(who=WHO, id=sent)
    def repeat(self, who: int, id: str) -> None:
        """The same once more, at any time later."""
        self._agrees(id, self._known(id).command, self._handled(who, id, self._known(id).command), repeated=True)

    @rule(who=WHO, id=sent, command=COMMANDS)
    def reuse(self, who: int, id: str, command: Command) -> None:
        """The id of another command: an error, or, within a stream and a kind of command, told what it was for."""
        command, known = self._ours(command), self._known(id)
        if (type(command), self._stream(command)) == (type(known.command), known.stream):
            self._agrees(id, known.command, self._handled(who, id, command), repeated=True)
        else:
            with pytest.raises(CommandIdReused):
                self._handled(who, id, command)
            self._place.seen["reused"] += 1

    @rule(key=KEYS, behind=st.integers(1, 3), amount=st.integers(1, 9))
    def stale(self, key: str, behind: int, amount: int) -> None:
        """An append decided on what was, or on what is yet to come, writes nothing, and learns what it has missed."""
        stream = self._of(key)
        version = self._model.version(stream)
        expected = version - behind if behind <= version else version + behind
        command = Add(counter_id=stream.removeprefix("kernel-"))
        done = self.wait(
            EventStore(self._place.direct).append(
                stream,
                expected,
                command,
                context(f"{self._program}/{next(self._ids)}"),
                decision=[Added(counter_id=command.counter_id, amount=amount)],
                started_at=datetime.now(UTC),
            )
        )
        assert (done.status, done.version) == ("conflict", version)
        assert done.since == [event for event, _ in self._model.streams.get(stream, [])][expected:]
        self._place.seen["conflict"] += 1

    @rule(target=sent, commands=st.lists(COMMANDS, min_size=1, max_size=3), commits=st.booleans())
    def many(self, commands: list[Command], commits: bool) -> str:
        """Several in one transaction, each the start of a group of its own; done when that is committed."""
        sent = [(f"{self._program}/{next(self._ids)}", self._ours(command)) for command in commands]
        self.wait(self._many(sent, commits))
        for id, command in sent:  # what bulk leaves unrecorded, or was rolled back, is done when it is sent again
            expected = self._model.commands.get(id)
            self._agrees(id, command, self._handled(1, id, command), repeated=expected is not None)
        return sent[0][0]

    @rule(who=WHO)
    def begin_anew(self, who: int) -> None:
        """A process that forgets what it knew, and loads it."""
        self._processes[who] = self._process(self._place.pools[who])

    @rule(key=KEYS)
    def lose_snapshot(self, key: str) -> None:
        """It is only ever a short cut."""
        self._place.owner.execute("delete from amends.snapshots where stream = %s", (self._of(key),))

    # What is true after each step

    @invariant()
    def it_is_as_in_the_model(self) -> None:
        self.streams_are_as_in_the_model()
        self.commands_have_their_events()
        self.claims_are_as_in_the_model()
        self.loading_gives_what_replaying_all_gives()
        self.the_feed_shows_each_event_once_and_in_order()

    def streams_are_as_in_the_model(self) -> None:
        found: dict[str, list[tuple[int, str, Any, str]]] = {}
        for stream, version, name, data, id in self._rows(WRITTEN):
            found.setdefault(stream, []).append((version, name, data, id))
        assert found == {
            stream: [
                (version, event.message_name, event.model_dump(mode="json"), id)
                for version, (event, id) in enumerate(events, 1)
            ]
            for stream, events in self._model.streams.items()
        }
        assert dict(self._rows(HEADS)) == {stream: len(events) for stream, events in self._model.streams.items()}

    def commands_have_their_events(self) -> None:
        assert {row[0]: row[1:] for row in self._rows(RECORDS)} == {
            id: (r.command.message_name, r.stream, r.outcome, r.refusal, r.version, r.events)
            for id, r in self._model.commands.items()
        }
        assert self._rows(MISPLACED) == []

    def claims_are_as_in_the_model(self) -> None:
        claims = {sha256(name.encode()).hexdigest(): by for name, by in self._model.claims.items()}
        assert dict(self._rows(CLAIMS)) == claims

    def loading_gives_what_replaying_all_gives(self) -> None:
        for stream in self._model.streams:
            events = [event for event, _ in self._model.streams[stream]]
            store = EventStore(self._place.direct)
            loaded = self.wait(store.load(stream, Counter.snapshot_version))
            base = Counter() if loaded.state is None else Counter.model_validate_json(loaded.state)
            assert base.replay(loaded.events) == Counter().replay(events)
            assert (loaded.version, loaded.events) == (len(events), events[loaded.snapshot_version :])
            middle = len(events) // 2
            assert self.wait(store.since(stream, middle)) == (events[middle:], len(events))
        for stream, version, state in self._rows(SNAPSHOTS):
            events = [event for event, _ in self._model.streams[stream][:version]]
            assert Counter.model_validate(state) == Counter().replay(events)

    def the_feed_shows_each_event_once_and_in_order(self) -> None:
        wanted = sum(len(events) for events in self._model.streams.values())
        self.wait(until(lambda: self._read(wanted)))
        found = {stream: [v for s, v in self._shown if s == stream] for stream, _ in self._shown}
        assert found == {stream: [*range(1, len(es) + 1)] for stream, es in self._model.streams.items()}

    # How

    def _in_trouble(self, who: int, id: str, command: Command, trouble: int | str) -> None:
        """Send a command whose session does not live to tell of it, see what is left, and send it once more."""
        receipt = self.wait(self._cut_off(who, id, command, trouble))
        if receipt is not None:
            self._agrees(id, command, receipt, repeated=False)
            return
        if trouble == "hung up":  # the server may still be at it, and the repeat meets it
            again = self._handled(1, id, command)
            self._agrees(id, command, again, repeated=again.repeated)
            self._place.seen["hung up"] += 1
            return
        whole = bool(self._rows(f"{RECORDS} and c.command_id = '{id}'"))
        if whole:
            self._model.do(id, command, self._stream(command))
        self._place.seen["whole" if whole else "nothing"] += 1
        self.streams_are_as_in_the_model()
        self.commands_have_their_events()
        self.claims_are_as_in_the_model()
        self._agrees(id, command, self._handled(1 - who, id, command), repeated=whole)

    async def _cut_off(self, who: int, id: str, command: Command, trouble: int | str) -> Receipt | None:
        """What the caller gets to know."""
        # there is a session to lose, and what is lost is the append itself
        await self._processes[who].state(Counter, self._stream(command).removeprefix("kernel-"))
        match trouble:
            case int(step):
                plan_crashes(self._place.owner, [step])
            case "answer lost":
                self._place.proxy.lose_next_answer()
            case "hung up":
                self._place.proxy.hang_up_after_next_request()
        try:
            return await self._processes[who].handle(command, context(id))
        except OperationalError:
            return None
        finally:
            plan_crashes(self._place.owner, [])

    async def _many(self, sent: list[tuple[str, Command]], commits: bool) -> None:
        """What bulk does, and the same to the model: an answer that is not `done` leaves nothing."""
        undone: set[str] = set()
        model = (
            self._model
            if commits
            else Books(
                {stream: [*events] for stream, events in self._model.streams.items()},
                dict(self._model.commands),
                dict(self._model.claims),
            )
        )
        async with self._place.direct.connection() as connection:
            await connection.set_autocommit(False)
            try:
                wanted = [[Wanted(command, context(id))] for id, command in sent]
                answers = await BulkHandler([Counter]).handle(connection, wanted)
                await (connection.commit() if commits else connection.rollback())
            finally:
                await connection.set_autocommit(True)
        for (id, command), [answer] in zip(sent, answers, strict=True):
            stream = self._stream(command)
            refused = model.refusal(command)
            if refused != "TooMuch" and stream in undone:
                expected = "again" if not (isinstance(command, Add) and command.times == 0) else "nothing"
            elif refused:
                expected = "refused"
                undone |= {stream} if refused == "NameTaken" else set()
            elif isinstance(command, Add) and command.times == 0:
                expected = "nothing"
            else:
                expected = "done"
                model.do(id, command, stream)
            assert answer.status == expected, (command, answer)
        self._place.seen["committed" if commits else "rolled back"] += 1

    def _agrees(self, id: str, command: Command, receipt: Receipt, *, repeated: bool) -> None:
        """The receipt is that of the model, now or when it was first handled."""
        done = self._model.do(id, command, self._stream(command))
        told = receipt.refusal and receipt.refusal.name
        assert (receipt.outcome, told, receipt.version) == (done.outcome, done.refusal, done.version)
        assert (receipt.stream, receipt.name) == (done.stream, done.command.message_name)
        assert receipt.repeated == repeated
        assert receipt.recorded == (done.command.redacted() if repeated else None)
        self._place.seen["repeated" if repeated else done.outcome] += 1

    async def _read(self, wanted: int) -> bool:
        """Read on, as far as nothing can come before; whether all is there."""
        for row in await self._place.feed.read(self._at, 3):
            assert row.position > self._at
            self._at = row.position
            if row.stream.startswith(f"kernel-{self._program}."):
                self._shown.append((row.stream, row.version))
        return len(self._shown) >= wanted

    def _handled(self, who: int, id: str, command: Command) -> Receipt:
        return self.wait(self._processes[who].handle(command, context(id)))

    def _known(self, id: str) -> Recorded:
        return self._model.commands[id]

    def _ours(self, command: Command) -> Command:
        """Names are those of this program, for its database has seen others."""
        match command:
            case Add(counter_id=id):
                return command.model_copy(update={"counter_id": f"{self._program}.{id}"})
            case TakeNames(counter_id=id, names=names):
                ours = tuple(f"{self._program}.{name}" for name in names)
                return command.model_copy(update={"counter_id": f"{self._program}.{id}", "names": ours})
            case DropName(counter_id=id, name=name):
                ours_too = {"counter_id": f"{self._program}.{id}", "name": f"{self._program}.{name}"}
                return command.model_copy(update=ours_too)
        raise AssertionError(command)

    def _of(self, key: str) -> str:
        return f"kernel-{self._program}.{key}"

    def _rows(self, query: str) -> list[Any]:
        return self._place.owner.execute(query.encode(), (f"kernel-{self._program}.%",)).fetchall()

    @staticmethod
    def _process(pool: Pool) -> CommandHandler:
        return CommandHandler(EventStore(pool), [Counter])

    @staticmethod
    def _stream(command: Command) -> str:
        return Counter.stream_of(command)


@asynccontextmanager
async def placed(url: str) -> AsyncIterator[Place]:
    async with (
        lossy(url) as (proxy, through),
        open_pool(through, "writer", 1) as one,
        open_pool(url, "writer", 1) as other,
        open_pool(url, "writer", 2) as direct,
        open_pool(url, "projector", 1) as projector,
    ):
        with psycopg.connect(conninfo(url, "owner"), autocommit=True) as owner:
            owner.execute(PLANNED)
            owner.execute(CRASHES.encode())
            yield Place(url, owner, proxy, [one, other], direct, Feed(projector), count(1))


@pytest.mark.timeout(SHRINKING)
async def test_given_any_commands_and_deaths_when_handled_then_the_store_holds_what_a_dictionary_would(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler_module, "SNAPSHOT_EVENTS", 3)
    monkeypatch.setattr(handler_module, "SNAPSHOT_BYTES_PER_EVENT", 10_000)
    async with placed(database_url) as place:
        await run_machine(lambda loop: EventStoreMachine(loop, place), programs=PROGRAMS, steps=STEPS)
        [snapshots] = place.owner.execute("select count(*) from amends.snapshots").fetchone() or (0,)
    # then: what it is about has come up
    wanted = {"done", "refused", "repeated", "reused", "conflict", "whole", "nothing", "hung up", "committed"}
    assert wanted <= place.seen.keys(), place.seen
    assert snapshots
