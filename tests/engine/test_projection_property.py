"""Whatever happens, in whatever batches, whatever dies: the rows are those of one event after the other."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import OperationalError

from amends.database import open_pool
from amends.projector import Projector
from tests.engine.property_rows import KINDS, PLANNED, Cut, Happened, declare, plan_crashes
from tests.engine.readside_shop import append, connect, install

CRASHES = """
create trigger crash after update on amends.checkpoints for each row
    when (new.projection = 'batched' and new.position <> old.position) execute function amends.crash();
create trigger crash after insert on amends.dead_letters for each row
    when (new.projection = 'batched') execute function amends.crash();
create trigger crash after insert or update or delete on read_models.batched_v1
    for each statement execute function amends.crash();
create constraint trigger crash_at_commit after update on amends.checkpoints deferrable initially deferred for each row
    when (new.projection = 'batched' and new.position <> old.position) execute function amends.crash();
"""
"""There are steps between statements, and when all is done but the commit."""

EVENTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(KINDS), st.integers(-3, 9)), min_size=1, max_size=25
)
SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=5)
PLAN = st.lists(st.integers(1, 40), max_size=6, unique=True)


async def test_given_any_events_batches_crashes_and_poison_when_projected_then_the_rows_are_those_of_one_at_a_time(
    database_url: str,
) -> None:
    batched, single = declare("batched"), declare("single")
    install(database_url, batched)
    install(database_url, single)
    appended, crashes = [0], [0]
    loop = asyncio.get_running_loop()
    async with open_pool(database_url, "projector", 3) as pool, connect(database_url) as writing:

        async def scenario(events: list[tuple[str, str, int]], sizes: list[int]) -> None:
            for key, kind, number in events:
                appended[0] += 1
                happened = Happened(key=key, kind=kind, number=number)
                at = await append(writing, f"s{appended[0]}", 0, happened)
            await Projector(single, pool, database_url, batch=1).catch_up(at)
            while True:
                try:
                    await Projector(batched, pool, database_url, feed=Cut(pool, sizes)).catch_up(at)
                    break
                except OperationalError:
                    crashes[0] += 1

        def all_examples() -> None:
            with psycopg.connect(database_url, autocommit=True) as owner:
                owner.execute(PLANNED)
                owner.execute(CRASHES)

                @settings(
                    max_examples=settings().max_examples * 2 // 5,
                    deadline=None,
                    suppress_health_check=[HealthCheck.too_slow],
                    database=None,
                )
                @example([("a", "half", 0), ("a", "delete", 0)], [2], [])  # what fails does so though it is deleted
                @example([("a", "null", 0), ("a", "set", 1)], [2], [])  # or overwritten
                @given(EVENTS, SIZES, PLAN)
                def check(events: list[tuple[str, str, int]], sizes: list[int], plan: list[int]) -> None:
                    begin(owner, plan)
                    asyncio.run_coroutine_threadsafe(scenario(events, sizes), loop).result(60)
                    assert rows_of(owner, "batched") == rows_of(owner, "single")

                check()

        await asyncio.to_thread(all_examples)
    assert crashes[0] > 0


def begin(owner: psycopg.Connection[Any], plan: list[int]) -> None:
    """Everything empty again, but for the log."""
    for name in ("batched", "single"):
        owner.execute(f"truncate read_models.{name}_v1, read_models.{name}_strict_v1".encode())
    owner.execute("truncate amends.dead_letters")
    owner.execute("update amends.checkpoints set dead_letters = 0 where projection in ('batched', 'single')")
    plan_crashes(owner, plan)


def rows_of(connection: psycopg.Connection[Any], name: str) -> list[list[tuple[Any, ...]]]:
    letters = """
    select key, position, replace(error, %s, 'it'), attempts, state from amends.dead_letters where projection = %s
    order by 2
    """
    checkpoint = "select xid, position, events, dead_letters from amends.checkpoints where projection = %s"
    return [
        connection.execute(f"select * from read_models.{name}_v1 order by key".encode()).fetchall(),
        connection.execute(f"select * from read_models.{name}_strict_v1 order by position".encode()).fetchall(),
        connection.execute(letters, (name, name)).fetchall(),
        connection.execute(checkpoint, (name,)).fetchall(),
    ]
