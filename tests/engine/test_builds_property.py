"""Whatever is retried, skipped, mended and rebuilt, in however many parts: the rows are as of one event after another.

A reference takes one event at a time, and its operator decides the same; where the other is built anew, it retries all
that is parked, for a build applies what by now can be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import psycopg
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import OperationalError
from sqlalchemy.exc import OperationalError as OwnerOperationalError

from amends.building import Builder
from amends.database import Pool, open_pool
from amends.errors import NothingToDo, Superseded
from amends.feed import Feed
from amends.installation import begin_build
from amends.projection_operator import ProjectionOperator, open_operator
from amends.projector import Projector
from amends.rebuild_request import RebuildRequest
from amends.rebuilding import rebuild
from amends.records import Position
from amends.schema import owner_engine
from amends.swapping import roll_back
from tests.engine.property_rows import BUILD_CRASHES, KINDS, PLANNED, Cut, Happened, declare, fresh, plan_crashes
from tests.engine.readside_shop import append, connect

WHO = ("Grace", "to see")

AGAIN = (OperationalError, OwnerOperationalError, Superseded)
"""What a worker meets that crashes, or comes in the way of one that has not noticed yet that it is dead."""

KEYS = "abcde"
EVENT = st.tuples(st.sampled_from(KEYS), st.sampled_from(KINDS), st.integers(-3, 9))
ACTION = st.one_of(
    st.tuples(st.just("mend")),
    st.tuples(st.just("retry"), st.sampled_from(KEYS)),
    st.tuples(st.just("skip"), st.sampled_from(KEYS)),
    st.tuples(st.just("rollback")),
    st.tuples(st.just("rebuild"), st.integers(1, 9), st.floats(0, 1), st.sampled_from(KEYS)),
)
STEPS = st.lists(st.tuples(st.lists(EVENT, max_size=12), ACTION), min_size=1, max_size=5)
SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=5)
PLAN = st.lists(st.integers(1, 80), max_size=6, unique=True)

Event_ = tuple[str, str, int]
Step = tuple[list[Event_], tuple[Any, ...]]

EVERYTHING: list[Step] = [
    ([("a", "fail", 0), ("a", "add", 1), ("b", "half", 1), ("b", "append", 2), ("c", "refuse", 3)], ("skip", "b")),
    ([("c", "add", 4), ("d", "fail", 1)], ("rebuild", 2, 0.6, "c")),
    ([("d", "append", 4), ("a", "derive", 1)], ("mend",)),
    ([("d", "fail", 4)], ("retry", "a")),
    ([("e", "fail", 4), ("b", "fail", 2), ("b", "half", 3)], ("rebuild", 1, 0.3, "b")),
    ([("e", "half", 1), ("e", "add", 2)], ("skip", "e")),
    ([("c", "add", 2)], ("rollback",)),
]


class World:
    """A log, a projection of it in batches and parts that crash, and another one event by event."""

    def __init__(self, url: str, pool: Pool, writing: Any, operator: ProjectionOperator, partitions: int) -> None:
        self._url, self._pool, self._writing, self._operator = url, pool, writing, operator
        self._mended: set[str] = set()
        self.batched = declare("batched", partitions=partitions, mended=self._mended)
        self.single = declare("single", mended=self._mended)
        self._appended = 0
        self._at = Position(0, 0)
        self._sizes = [1]
        self.crashes = 0

    async def run(self, steps: list[Step], sizes: list[int]) -> None:
        self._sizes = sizes
        for events, action in steps:
            await self._happen(events)
            await self._follow()
            match action:
                case ("mend",):
                    self._mended.add("fail")
                case ("retry", key):
                    await self._both("retry", key)
                case ("skip", key):
                    await self._skip(key)
                case ("rollback",):
                    await self._roll_back()
                case ("rebuild", batch, part, key):
                    await self._rebuild(batch, part, key, events)
            await self._follow()

    async def _happen(self, events: list[Event_]) -> None:
        for key, kind, number in events:
            self._appended += 1
            happened = Happened(key=key, kind=kind, number=number)
            self._at = await append(self._writing, f"s{self._appended}", 0, happened)

    async def _follow(self) -> None:
        """Both are up to date, and have applied what is to be retried."""
        alone = Projector(self.single, self._pool, self._url, batch=1)
        await alone.catch_up(self._at)
        await alone.redrive()
        await asyncio.gather(*(self._follow_part(n) for n in range(self.batched.partitions)))

    async def _follow_part(self, partition: int) -> None:
        async def once() -> None:
            feed = Cut(self._pool, self._sizes)
            projector = Projector(self.batched, self._pool, self._url, partition=partition, feed=feed)
            await projector.catch_up(self._at)
            await projector.redrive()

        await self._until_done(once)

    async def _until_done(self, work: Callable[[], Awaitable[Any]]) -> Any:
        while True:
            try:
                return await work()
            except AGAIN:
                self.crashes += 1

    async def _both(self, decision: str, *about: Any) -> None:
        for name in ("single", "batched"):
            with suppress(NothingToDo):
                await getattr(self._operator, decision)(name, *about, *WHO)

    async def _skip(self, key: str, *, hopeless: bool = False) -> None:
        """Leave out the first event of a key that is parked."""
        letters = [one for one in await self._operator.dead_letters("single", key) if one.error is not None]
        if letters and not (hopeless and "can't be handled" in str(letters[0].error)):
            await self._both("skip", letters[0].position)

    async def _rebuild(self, batch: int, part: float, key: str, events: list[Event_]) -> None:
        """Build anew, in two goes; meanwhile the same happens once more, and a decision falls."""
        begun = await self._until_done(lambda: asyncio.to_thread(self._begin))
        found = await Feed(self._pool).read(Position(0, 0), max(1, int(part * self._appended)))
        if begun is not None and found:

            async def some() -> None:
                parts = range(self.batched.partitions)
                builders = [Builder(self.batched, self._pool, self._url, partition=n, batch=batch) for n in parts]
                for builder in builders:
                    await builder.up_to(found[-1].position)

            await self._until_done(some)
        token, request = (
            uuid4().hex,
            RebuildRequest(name="batched", version=1, accept=True, actor=WHO[0], reason=WHO[1]),
        )

        async def meanwhile() -> None:
            await self._skip(key, hopeless=True)
            await self._happen(events)
            await self._follow()

        done, _ = await asyncio.gather(
            self._until_done(lambda: rebuild(self.batched, self._url, request, token)), meanwhile()
        )
        assert done.outcome == "swapped"
        await self._retry_all("single")

    async def _roll_back(self) -> None:
        """Show the build again that was left: what it has parked may be mended by now."""
        try:
            await self._until_done(lambda: roll_back(self._url, "batched", *WHO))
        except NothingToDo:
            return
        await self._follow()
        for name in ("single", "batched"):
            await self._retry_all(name)

    async def _retry_all(self, name: str) -> None:
        for key in KEYS:
            with suppress(NothingToDo):
                await self._operator.retry(name, key, *WHO)

    def _begin(self) -> int | None:
        with owner_engine(self._url).begin() as connection:
            return begin_build(connection, self.batched, *WHO)


def rows_of(owner: psycopg.Connection[Any], name: str) -> list[list[tuple[Any, ...]]]:
    letters = """
    select d.key, d.position, split_part(d.error, ':', 1), d.state
    from amends.dead_letters d join amends.checkpoints c using (projection, version, generation, partition)
    where c.projection = %s and c.role = 'served' order by 2
    """
    checkpoints = """
    select min(xid), min(position), max(position), sum(dead_letters) from amends.checkpoints
    where projection = %s and role = 'served'
    """
    return [
        owner.execute(f"select * from views.{name} order by key".encode()).fetchall(),
        owner.execute(f"select * from views.{name}_strict order by position".encode()).fetchall(),
        [
            (key, at, error and error.split("_v1")[0], state)
            for key, at, error, state in owner.execute(letters, (name,))
        ],
        owner.execute(checkpoints, (name,)).fetchall(),
    ]


async def test_given_any_events_decisions_builds_and_crashes_when_projected_in_parts_then_as_one_at_a_time(
    database_url: str,
) -> None:
    crashes = [0]
    loop = asyncio.get_running_loop()
    async with (
        open_pool(database_url, "projector", 8) as pool,
        connect(database_url) as writing,
        open_operator(database_url) as operator,
    ):

        def all_examples() -> None:
            with psycopg.connect(database_url, autocommit=True) as owner:
                owner.execute(PLANNED)
                owner.execute(BUILD_CRASHES)

                @settings(
                    max_examples=settings().max_examples // 6,
                    deadline=None,
                    suppress_health_check=[HealthCheck.too_slow],
                    database=None,
                )
                @example(
                    3, [([("a", "fail", 0), ("a", "add", 1)], ("mend",)), ([], ("rebuild", 1, 0.5, "a"))], [2], [3, 9]
                )
                @given(st.sampled_from([1, 3]), STEPS, SIZES, PLAN)
                def check(partitions: int, steps: list[Step], sizes: list[int], plan: list[int]) -> None:
                    world = World(database_url, pool, writing, operator, partitions)
                    fresh(owner, database_url, world.batched, world.single)
                    plan_crashes(owner, plan)
                    asyncio.run_coroutine_threadsafe(world.run(steps, sizes), loop).result(60)
                    crashes[0] += world.crashes
                    assert rows_of(owner, "batched") == rows_of(owner, "single")

                check()

        await asyncio.to_thread(all_examples)
    assert crashes[0] > 0
