"""Whatever happens, in whatever batches, whatever dies: the rows are those of one event after the other."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import OperationalError
from sqlalchemy import BigInteger, CheckConstraint, Column, Text
from sqlalchemy.dialects.postgresql import JSONB

from amends.changes import Rows
from amends.database import Pool, open_pool
from amends.feed import Feed, Row
from amends.messages import Event
from amends.projection import Projection
from amends.projector import Projector
from amends.records import Position, Recorded
from tests.engine.readside_shop import append, connect, install

KINDS = ["add", "append", "set", "delete", "derive", "fail", "refuse", "half"]


class Happened(Event, name="property.happened"):
    key: str
    kind: str
    number: int


def declare(name: str) -> Projection:
    projection = Projection(name, version=1)
    table = projection.table(
        name,
        Column("key", Text, primary_key=True, comment="Key."),
        Column("total", BigInteger, nullable=False, default=0, comment="Sum."),
        Column("most", BigInteger, comment="Maximum."),
        Column("history", JSONB, nullable=False, server_default="[]", comment="What happened, in order."),
        Column("derived", Text, comment="Derived."),
        comment="One row a key.",
    )
    strict = projection.table(
        f"{name}_strict",
        Column("position", BigInteger, primary_key=True, comment="Of the event."),
        Column("number", BigInteger, comment="At most 0."),
        CheckConstraint("number <= 0"),
        comment="Numbers that can't be.",
    )

    @projection.on(Happened, key="key")
    def happened(event: Happened, fact: Recorded, rows: Rows) -> None:
        row = rows(table, event.key)
        match event.kind:
            case "add":
                row.add(total=event.number).greatest(most=event.number)
            case "append":
                row.append(history=event.number)
            case "set":
                row.set(total=event.number, derived=None)
            case "delete":
                row.delete()
            case "derive":
                row.derive(derived=lambda now: f"{now['total']}:{len(now['history'])}")
            case "fail":
                raise ValueError("can't be handled")
            case "half":
                row.append(history="half")
                rows(table, "other").add(total=1)
                row.derive(derived=lambda now: 1 // 0)
            case "refuse":
                row.append(history="refused")
                rows(strict, fact.position.number).set(number=1)

    return projection


class Cut(Feed):
    """A feed that hands over batches of the sizes it is told, again and again."""

    def __init__(self, pool: Pool, sizes: list[int]) -> None:
        super().__init__(pool)
        self._sizes, self._n = sizes, 0

    async def read(self, after: Position, limit: int) -> list[Row]:
        self._n += 1
        return await super().read(after, self._sizes[self._n % len(self._sizes)])


CRASHES = """
create sequence amends.step;
create table amends.crashes (at bigint);
grant usage on sequence amends.step to amends_projector;
grant select on amends.crashes to amends_projector;
create function amends.crash() returns trigger language plpgsql security definer as $$
declare
    n constant bigint := nextval('amends.step');
begin
    if exists (select from amends.crashes where at = n) then
        perform pg_terminate_backend(pg_backend_pid());
        perform pg_sleep(5);
    end if;
    return null;
end $$;
create trigger crash after update on amends.checkpoints for each row
    when (new.projection = 'batched' and new.position <> old.position) execute function amends.crash();
create trigger crash after insert on amends.dead_letters for each row
    when (new.projection = 'batched') execute function amends.crash();
create trigger crash after insert or update or delete on read_models.batched_v1
    for each statement execute function amends.crash();
create constraint trigger crash_at_commit after update on amends.checkpoints deferrable initially deferred for each row
    when (new.projection = 'batched' and new.position <> old.position) execute function amends.crash();
"""
"""The connection breaks at the steps that are planned: between statements, and when all is done but the commit."""

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
                owner.execute(CRASHES)

                @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
                @example([("a", "half", 0), ("a", "delete", 0)], [2], [])  # what fails does so though it is deleted
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
    owner.execute("truncate amends.dead_letters, amends.crashes")
    owner.execute("update amends.checkpoints set dead_letters = 0 where projection in ('batched', 'single')")
    owner.execute("alter sequence amends.step restart")
    with owner.cursor() as cursor:
        cursor.executemany("insert into amends.crashes values (%s)", [(n,) for n in plan])


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
