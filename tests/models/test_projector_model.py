"""Whatever is projected, parked, decided, paused and rebuilt, wherever a worker dies: rows are those of a plain replay.

The reference of the property tests in tests/engine is the engine itself, taking one event at a time; here it is a loop
in Python over the log, which knows nothing of batches, folding, transactions or builds. After each step, and after each
death before it is made good, the rows, what is parked and the checkpoint are what that loop has come to.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

import psycopg
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from psycopg import OperationalError
from sqlalchemy.exc import OperationalError as OwnerOperationalError

from amends.database import Pool, open_pool
from amends.errors import NothingToDo, Superseded
from amends.projection_operator import ProjectionOperator, open_operator
from amends.projector import Projector
from amends.rebuild_request import RebuildRequest
from amends.rebuilding import rebuild
from amends.records import START, Position
from tests.engine.property_rows import BUILD_CRASHES, KINDS, PLANNED, Cut, Happened, declare, fresh, plan_crashes
from tests.engine.readside_shop import append, connect
from tests.models.machines import SHRINKING, LoopedMachine, run_machine

PROGRAMS, STEPS = 14, 16
"""How much is tried in the suite."""

MOST_BUILDS = 2
"""In one program, for nothing else takes as long."""

NAME = "batched"
"""The crashes are planned for it."""

WHO = ("Grace", "to see")
POISON = ("fail", "half", "null", "refuse")

KEYS = st.sampled_from("abc")
EVENTS = st.lists(st.tuples(KEYS, st.sampled_from(KINDS), st.integers(-3, 9)), min_size=1, max_size=8)
SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=3)
DEATH = st.one_of(st.none(), st.integers(1, 12))
"""At which step the worker dies, if it gets so far."""

DEATHS = st.lists(st.integers(1, 40), max_size=3, unique=True)

ROWS = "select key, total, most, history, derived from views.batched"
LETTERS = """
select d.key, d.position, d.error is not null, d.state
from amends.dead_letters d join amends.checkpoints c using (projection, version, generation, partition)
where c.projection = 'batched' and c.role = 'served' order by d.position
"""
STANDS = """
select position, dead_letters, paused_at is not null from amends.checkpoints
where projection = 'batched' and role = 'served'
"""
BUILDS = "select count(*) from amends.checkpoints where projection = 'batched' and role = 'building'"

Event_ = tuple[str, str, int]
DIED = (OperationalError, OwnerOperationalError)


class CannotBe(Exception):
    """The event can't be applied."""


@dataclass
class Row:
    total: int = 0
    most: int | None = None
    history: list[Any] = field(default_factory=list)
    derived: str | None = None


@dataclass
class Letter:
    """An event that is parked: number in the log, whether it is the one that fails, whether it is to be tried again."""

    number: int
    failed: bool
    state: Literal["parked", "retrying"] = "parked"


@dataclass
class Replay:
    """A loop over the log."""

    log: list[Event_] = field(default_factory=list)
    mended: set[str] = field(default_factory=set)
    rows: dict[str, Row] = field(default_factory=dict)
    letters: dict[str, list[Letter]] = field(default_factory=dict)
    """By key, in order."""

    skipped: set[int] = field(default_factory=set)
    passed: int = 0
    """How many events it has taken."""

    def up_to(self, number: int) -> None:
        for at in range(self.passed, number):
            key = self.log[at][0]
            if at in self.skipped:
                continue
            if self.letters.get(key):
                self.letters[key].append(Letter(at, failed=False))
                continue
            try:
                self._apply(at)
            except CannotBe:
                self.letters[key] = [Letter(at, failed=True)]
        self.passed = number

    def retry(self, key: str) -> None:
        for letter in self.letters[key]:
            letter.state = "retrying"

    def skip(self, number: int) -> None:
        """Leave one out; if it was the first of its key, the others are to be tried."""
        key = self.log[number][0]
        first = self.letters[key][0].number == number
        self.letters[key] = [letter for letter in self.letters[key] if letter.number != number]
        self.skipped.add(number)
        if first and self.letters[key]:
            self.retry(key)

    def retried(self) -> list[str]:
        return [key for key, letters in self.letters.items() if any(one.state == "retrying" for one in letters)]

    def redrive(self, key: str) -> None:
        waiting = self.letters.pop(key)
        for done, letter in enumerate(waiting):
            try:
                self._apply(letter.number)
            except CannotBe:
                rest = [Letter(one.number, failed=False) for one in waiting[done + 1 :]]
                self.letters[key] = [Letter(letter.number, failed=True), *rest]
                return

    def anew(self) -> None:
        """From the first event on, with what can be applied by now."""
        passed, self.passed, self.rows, self.letters = self.passed, 0, {}, {}
        self.up_to(passed)

    def _apply(self, at: int) -> None:
        key, kind, number = self.log[at]
        if kind in POISON and kind not in self.mended:
            raise CannotBe
        if kind == "delete":
            self.rows.pop(key, None)
            return
        row = self.rows.setdefault(key, Row())
        match kind:
            case "add":
                row.total += number
                row.most = number if row.most is None else max(row.most, number)
            case "append":
                row.history.append(number)
            case "set":
                row.total, row.derived = number, None
            case "derive":
                row.derived = f"{row.total}:{len(row.history)}"
            case _:
                row.history.append(f"{kind} is mended")


@dataclass
class Place:
    """The database of the test, and ways to it."""

    url: str
    owner: psycopg.Connection[Any]
    pool: Pool
    writing: Any
    operator: ProjectionOperator
    seen: Tally[str] = field(default_factory=Tally)


class ProjectorMachine(LoopedMachine):
    """Events, a projector that dies now and then, and somebody who looks after it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, place: Place) -> None:
        super().__init__(loop)
        self._place, self._model, self._paused = place, Replay(), False
        self._projection = declare(NAME, mended=self._model.mended)
        self._positions: list[Position] = []
        self._builds = 0
        plan_crashes(place.owner, [])
        fresh(place.owner, place.url, self._projection)

    # What happens

    @initialize(events=EVENTS, sizes=SIZES)
    def begin(self, events: list[Event_], sizes: list[int]) -> None:
        """Every program has something to go on with, whichever rules it may use."""
        self.happen(events)
        self.follow(1.0, sizes, None, redrives=False)

    @rule(events=EVENTS)
    def happen(self, events: list[Event_]) -> None:
        for key, kind, number in events:
            stream, happened = f"s{len(self._positions)}", Happened(key=key, kind=kind, number=number)
            self._positions.append(self.wait(append(self._place.writing, stream, 0, happened)))
            self._model.log.append((key, kind, number))

    @rule(part=st.floats(0, 1), sizes=SIZES, death=DEATH, redrives=st.booleans())
    def follow(self, part: float, sizes: list[int], death: int | None, redrives: bool) -> None:
        """A worker follows the feed for a while, in batches; before, it may see what is to be tried once more."""
        if redrives:
            self._redrive(death)
        until = max(self._model.passed, round(part * len(self._positions)))
        target = self._positions[until - 1] if until else START
        if self._lives(self._projector(sizes).catch_up(target), death):
            assert self._passed() >= until
        self._model.up_to(self._passed())

    # What people decide

    @precondition(lambda self: self._parked())
    @rule(which=st.integers(0, 20), mend=st.one_of(st.none(), st.sampled_from(POISON)))
    def retry(self, which: int, mend: str | None) -> None:
        """A key is to be tried again, perhaps after a deploy that can apply such events from now on."""
        self._model.mended |= {mend} if mend else set()
        key = self._model.log[self._one(which)][0]
        assert self.wait(self._place.operator.retry(NAME, key, *WHO)) == len(self._model.letters[key])
        self._model.retry(key)

    @precondition(lambda self: self._parked())
    @rule(which=st.integers(0, 20))
    def skip(self, which: int) -> None:
        """One that is parked is left out: one that fails, or one that only waits."""
        number = self._one(which)
        self.wait(self._place.operator.skip(NAME, self._positions[number].number, *WHO))
        self._model.skip(number)
        self._place.seen["skipped"] += 1

    @rule(events=EVENTS, key=KEYS)
    def pause(self, events: list[Event_], key: str) -> None:
        """While it is paused it does not move, whatever happens and is decided; then it goes on."""
        self.wait(self._place.operator.pause(NAME, *WHO))
        self.happen(events)
        with pytest.raises(Superseded):
            self.wait(self._projector([5]).catch_up(self._positions[-1]))
        self._paused = True
        self.it_is_as_replayed()
        if not self._model.letters.get(key):
            with pytest.raises(NothingToDo):
                self.wait(self._place.operator.retry(NAME, key, *WHO))
        self.wait(self._place.operator.resume(NAME, *WHO))
        self._paused = False
        self._place.seen["paused"] += 1

    @precondition(lambda self: self._builds < MOST_BUILDS)
    @rule(deaths=DEATHS)
    def build_anew(self, deaths: list[int]) -> None:
        """Built beside what is served, compared, swapped; by worker after worker, if they die."""
        self._builds += 1
        plan_crashes(self._place.owner, deaths)
        self.wait(self._rebuilt())
        plan_crashes(self._place.owner, [])
        self._model.passed = self._passed()
        self._model.anew()
        self._place.seen["rebuilt"] += 1

    # What is true after each step

    @invariant()
    def it_is_as_replayed(self) -> None:
        model = self._model
        assert {key: Row(*rest) for key, *rest in self._rows(ROWS)} == model.rows
        numbers = {position.number: number for number, position in enumerate(self._positions)}
        letters = [(key, numbers[at], failed, state) for key, at, failed, state in self._rows(LETTERS)]
        parked = [(k, one.number, one.failed, one.state) for k, ones in model.letters.items() for one in ones]
        assert [letter for letter in letters if letter[3] != "skipped"] == sorted(parked, key=lambda one: one[1])
        assert {at for _, at, _, state in letters if state == "skipped"} <= model.skipped
        at = self._positions[model.passed - 1].number if model.passed else 0
        assert self._rows(STANDS) == [(at, len(parked), self._paused)]
        assert self._rows(BUILDS) == [(0,)]

    # How

    def _redrive(self, death: int | None) -> None:
        """What somebody wants applied once more is, each key's in a transaction of its own."""
        wanted = self._model.retried()
        lives = self._lives(self._projector([5]).redrive(), death)
        left = {key for key, _, _, state in self._rows(LETTERS) if state == "retrying"}
        assert not (lives and left)
        for key in wanted:
            if key not in left:
                self._model.redrive(key)
                self._place.seen["redriven"] += 1
        self.it_is_as_replayed()

    def _lives(self, work: Any, death: int | None) -> bool:
        """Whether a worker gets to the end of what it does."""
        plan_crashes(self._place.owner, [] if death is None else [death])
        try:
            self.wait(work)
        except DIED:
            self._place.seen["died"] += 1
            return False
        finally:
            plan_crashes(self._place.owner, [])
        return True

    async def _rebuilt(self) -> None:
        request = RebuildRequest(name=NAME, version=1, accept=True, actor=WHO[0], reason=WHO[1])
        token = uuid4().hex
        while True:
            try:
                done = await rebuild(self._projection, self._place.url, request, token)
            except (*DIED, Superseded):
                self._place.seen["builder died"] += 1
            else:
                assert done.outcome == "swapped"
                return

    def _parked(self) -> list[int]:
        """Numbers of the events that are, in order."""
        return sorted(letter.number for letters in self._model.letters.values() for letter in letters)

    def _one(self, which: int) -> int:
        parked = self._parked()
        return parked[which % len(parked)]

    def _projector(self, sizes: list[int]) -> Projector:
        return Projector(self._projection, self._place.pool, self._place.url, feed=Cut(self._place.pool, sizes))

    def _passed(self) -> int:
        """How many events the checkpoint has behind it."""
        [(at, _, _)] = self._rows(STANDS)
        return sum(position.number <= at for position in self._positions)

    def _rows(self, query: str) -> list[Any]:
        return self._place.owner.execute(query.encode()).fetchall()


@asynccontextmanager
async def placed(url: str) -> AsyncIterator[Place]:
    async with open_pool(url, "projector", 4) as pool, connect(url) as writing, open_operator(url) as operator:
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute(PLANNED)
            owner.execute(BUILD_CRASHES)
            yield Place(url, owner, pool, writing, operator)


@pytest.mark.timeout(SHRINKING)
async def test_given_anything_that_happens_to_a_projector_when_it_rests_then_its_rows_are_those_of_a_plain_replay(
    database_url: str,
) -> None:
    async with placed(database_url) as place:
        await run_machine(lambda loop: ProjectorMachine(loop, place), programs=PROGRAMS, steps=STEPS)
    # then: what it is about has come up
    assert {"died", "redriven", "skipped", "paused", "rebuilt", "builder died"} <= place.seen.keys(), place.seen
