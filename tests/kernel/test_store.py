"""The event store: one append is one transaction and one round trip, and what has happened stays."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg

from amends import InvalidInput, Position
from amends.database import Role, conninfo
from amends.handler import SNAPSHOT_EVENTS, CommandHandler
from amends.store import EventStore
from tests.kernel.kernel_shop import (
    Add,
    Counter,
    DropName,
    TakeNames,
    acting_as,
    blocked,
    context,
    processes,
    rows,
    traced_pool,
    unique,
)

# One append


async def test_given_a_known_stream_when_a_command_is_handled_then_it_costs_one_round_trip(database_url: str) -> None:
    async with traced_pool(database_url) as (pool, wire):
        # given
        handler, counter = CommandHandler(EventStore(pool), [Counter]), unique()
        [first] = await wire.during([handler.handle(Add(counter_id=counter), context())])
        # when
        repeated = context()
        later = await wire.during(
            [
                handler.handle(Add(counter_id=counter), repeated),
                handler.handle(Add(counter_id=counter, times=50), context()),
                handler.handle(Add(counter_id=counter, amount=5000), context()),
                handler.handle(TakeNames(counter_id=counter, names=(unique(), unique())), context()),
                handler.handle(Add(counter_id=counter), repeated),
            ]
        )
    # then: the first one loads as well; done, refused, with claims, repeated: one each
    assert first.round_trips == 2
    assert [traffic.round_trips for traffic in later] == [1, 1, 1, 1, 1]


async def test_given_events_claims_record_and_snapshot_when_appended_then_one_transaction_wrote_them(
    database_url: str,
) -> None:
    async with processes(database_url, 1) as [handler]:
        counter, about = unique(), context()
        await handler.handle(Add(counter_id=counter, times=SNAPSHOT_EVENTS - 1), context())
        await handler.handle(TakeNames(counter_id=counter, names=(unique(),)), about)
    written = """
        select 'events', xmin::text from amends.events where command_id = %(command)s
        union select 'claims', xmin::text from amends.claims where command_id = %(command)s
        union select 'commands', xmin::text from amends.commands where command_id = %(command)s
        union select 'streams', xmin::text from amends.streams where stream = %(stream)s
        union select 'snapshots', xmin::text from amends.snapshots where stream = %(stream)s
    """
    async with acting_as(database_url, "owner") as connection:
        cursor = await connection.execute(
            written.encode(), {"command": about.command_id, "stream": f"kernel-{counter}"}
        )
        found = await cursor.fetchall()
    assert len(found) == 5
    assert len({transaction for _, transaction in found}) == 1


async def test_given_five_hundred_events_of_one_command_then_they_are_in_order_in_one_transaction(
    database_url: str,
) -> None:
    async with traced_pool(database_url) as (pool, wire):
        handler, counter = CommandHandler(EventStore(pool), [Counter]), unique()
        await handler.state(Counter, counter)
        [traffic] = await wire.during([handler.handle(Add(counter_id=counter, times=500), context())])
        assert (await handler.state(Counter, counter))[0].events_seen == 500
    assert traffic.round_trips == 1
    found = await rows(
        database_url,
        "select version, position, xid::text from amends.events where stream = %s order by version",
        f"kernel-{counter}",
    )
    assert [version for version, _, _ in found] == list(range(1, 501))
    assert [position for _, position, _ in found] == sorted(position for _, position, _ in found)
    assert len({xid for _, _, xid in found}) == 1


async def test_every_event_says_where_it_comes_from(database_url: str) -> None:
    about = context(actor="ada").model_copy(update={"trace": "00-aa-bb-01", "workflow_id": "w1"})
    async with processes(database_url, 1) as [handler]:
        receipt = await handler.handle(Add(counter_id=unique()), about, attempt=3)
    [event] = await rows(
        database_url,
        """select correlation_id, causation_id, command_id, actor, trace, name, schema_version, xid::text::bigint,
                  position, recorded_at is not null, event_id is not null from amends.events""",
    )
    assert event[:7] == (
        about.correlation_id,
        about.causation_id,
        about.command_id,
        "ada",
        "00-aa-bb-01",
        "kernel.added",
        1,
    )
    assert Position(*event[7:9]) == receipt.position
    assert event[9:] == (True, True)
    [command] = await rows(
        database_url,
        "select name, stream, outcome, version, events, actor, workflow_id, trace, attempt, started_at <= recorded_at"
        " from amends.commands",
    )
    expected = ("kernel.add", receipt.stream, "done", 1, 1, "ada", "w1", "00-aa-bb-01", 3, True)
    assert command == expected


# Transactions


@pytest.mark.parametrize("broken", ["events", "claims", "commands", "snapshots"], ids=lambda table: f"fails_in_{table}")
async def test_given_a_failure_in_the_middle_when_appended_then_nothing_is_left(database_url: str, broken: str) -> None:
    counter, name = unique(), unique("name")
    async with processes(database_url, 1) as [handler]:
        await handler.handle(Add(counter_id=counter, times=SNAPSHOT_EVENTS - 1), context())
        # given: the database fails when this table is written, after others have been
        async with acting_as(database_url, "owner") as owner:
            await owner.execute(
                b"""create function public.fail() returns trigger language plpgsql as
                    $$ begin raise exception 'the disk is full' using errcode = '53100'; end $$"""
            )
            await owner.execute(
                f"create trigger fail after insert on amends.{broken} for each row"
                " execute function public.fail()".encode()
            )
            before = await contents(database_url)
            # when
            about = context()
            with pytest.raises(pg.DiskFull):
                await handler.handle(TakeNames(counter_id=counter, names=(name,)), about)
            # then
            assert await contents(database_url) == before
            await owner.execute(f"drop trigger fail on amends.{broken}".encode())
        # and the same command succeeds later
        receipt = await handler.handle(TakeNames(counter_id=counter, names=(name,)), about)
        assert (receipt.outcome, receipt.repeated, receipt.version) == ("done", False, SNAPSHOT_EVENTS)


async def test_given_a_transaction_that_raises_after_the_append_then_nothing_is_left(database_url: str) -> None:
    async with processes(database_url, 1) as [handler]:
        await handler.handle(Add(counter_id=unique()), context())
    before = await contents(database_url)
    async with acting_as(database_url, "writer", autocommit=False) as connection:
        # the database raises in the middle of the caller's transaction
        await connection.execute(b"insert into amends.streams values ('kernel-rolled-back', 1, pg_current_xact_id())")
        with pytest.raises(pg.NotNullViolation):
            await connection.execute(b'select amends.append(\'{"events": [], "claims": [], "frees": []}\')')
        await connection.rollback()
    assert await contents(database_url) == before


async def contents(url: str) -> dict[str, list[Any]]:
    tables = ["streams", "events", "commands", "claims", "snapshots"]
    return {table: await rows(url, f"select to_jsonb(t) from amends.{table} t order by 1") for table in tables}


# What has happened stays


@pytest.mark.parametrize("table", ["events", "commands"])
@pytest.mark.parametrize(
    "statement",
    ["update amends.{} set actor = 'x'", "delete from amends.{}", "truncate amends.{}", "truncate amends.{} cascade"],
)
@pytest.mark.parametrize("role", ["owner", "writer", "projector", "reader"])
async def test_given_facts_when_somebody_changes_them_then_it_is_refused(
    database_url: str, table: str, statement: str, role: Role
) -> None:
    async with processes(database_url, 1) as [handler]:
        await handler.handle(Add(counter_id=unique()), context())
    before = await contents(database_url)
    # the owner may by privilege, so the trigger has to say no; the others don't get that far
    said = "is refused: what has happened is not changed" if role == "owner" else "permission denied"
    async with acting_as(database_url, role) as connection:
        with pytest.raises(pg.InsufficientPrivilege, match=said):
            await connection.execute(statement.format(table).encode())
    assert await contents(database_url) == before


MAY: dict[Role, set[str]] = {
    "writer": {
        "events select",
        "events insert",
        "commands select",
        "commands insert",
        "streams select",
        "streams insert",
        "streams update",
        "snapshots select",
        "snapshots insert",
        "snapshots update",
        "claims select",
        "claims insert",
        "claims delete",
        "personal_keys select",
        "fences select",
        "fences insert",
        "fences update",
        "import_rows select",
        "import_rows insert",
        "import_rows update",
        "watermarks select",
        "watermarks insert",
        "watermarks update",
    },
    "projector": {
        "events select",
        "checkpoints select",
        "checkpoints insert",
        "checkpoints update",
        "generations select",
        "generations insert",
        "generations update",
        "dead_letters select",
        "dead_letters insert",
        "dead_letters update",
        "dead_letters delete",
        "projection_log select",
        "projection_log insert",
        "personal_keys select",
    },
    "reader": set(),
    "client": set(),
}


@pytest.mark.parametrize("role", MAY)
async def test_what_a_role_may_do_to_the_engine_s_tables(database_url: str, role: Role) -> None:
    found = await rows(
        database_url,
        """
        select c.relname || ' ' || lower(p.privilege)
        from pg_class c, unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'])
             as p (privilege)
        where c.relnamespace = 'amends'::regnamespace and c.relkind in ('r', 'v', 'p')
          and has_table_privilege(%s, c.oid, p.privilege)
        """,
        f"amends_{role}",
    )
    assert {privilege for (privilege,) in found} == MAY[role]


WRITERS = {"append", "append_many", "destroy_key", "fence", "keys_of", "turn_back"}
"""What those may call who append."""

PROJECTIONISTS = {
    "oldest_writer",
    "pause_projection",
    "resume_projection",
    "retry_dead_letters",
    "said_by",
    "skip_dead_letter",
    "throttle_build",
}
"""What those may call who look after read models."""


@pytest.mark.parametrize(
    ("role", "schemas", "calls", "creates"),
    [
        (
            "writer",
            {"amends", "views"},
            {"append", "append_many", "destroy_key", "fence", "keys_of", "turn_back"},
            set[str](),
        ),
        ("projector", {"amends", "read_models", "views"}, PROJECTIONISTS, set[str]()),
        ("reader", {"views"}, {"oldest_writer"}, set[str]()),
        ("client", {"amends"}, {"keys_of"}, set[str]()),
    ],
)
async def test_what_a_role_may_enter_call_and_create(
    database_url: str, role: Role, schemas: set[str], calls: set[str], creates: set[str]
) -> None:
    name = f"amends_{role}"
    entered = "select nspname from pg_namespace where nspname = any(%s) and has_schema_privilege(%s, oid, %s)"
    ours = ["amends", "read_models", "views"]
    assert {row[0] for row in await rows(database_url, entered, ours, name, "USAGE")} == schemas
    assert {row[0] for row in await rows(database_url, entered, ours, name, "CREATE")} == creates
    callable_ = """select proname from pg_proc where pronamespace = 'amends'::regnamespace
                   and has_function_privilege(%s, oid, 'EXECUTE')"""
    assert {row[0] for row in await rows(database_url, callable_, name)} == calls
    flags = "select rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls from pg_roles where rolname = %s"
    assert await rows(database_url, flags, name) == [(False,) * 5]


async def test_strangers_may_nothing(database_url: str) -> None:
    found = await rows(
        database_url,
        """
        select nspname from pg_namespace where nspname in ('amends', 'read_models', 'views')
          and has_schema_privilege('public', oid, 'USAGE')
        """,
    )
    assert found == []


async def test_a_reader_reads_the_views_and_nothing_behind_them(database_url: str) -> None:
    async with acting_as(database_url, "reader") as connection:
        await connection.execute(b"select * from views.feed_status")
        await connection.execute(b"select * from views.projection_status")
        for behind in ("amends.events", "amends.checkpoints", "amends.claims"):
            with pytest.raises(pg.InsufficientPrivilege):
                await connection.execute(f"select * from {behind}".encode())
        with pytest.raises(pg.InsufficientPrivilege):
            await connection.execute(b"select amends.append('{}')")


async def test_a_session_acts_as_its_role_with_limits_from_the_first_statement_on(database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(conninfo(database_url, "writer")) as connection:
        cursor = await connection.execute(
            b"select current_user, current_setting('idle_in_transaction_session_timeout'),"
            b" current_setting('lock_timeout'), current_setting('application_name')"
        )
        assert await cursor.fetchone() == ("amends_writer", "30s", "20s", "amends-writer")


# What migrations do


async def test_an_append_that_waits_holds_no_more_than_it_must(database_url: str) -> None:
    """Two commands on one stream wait for each other; one on another stream goes ahead."""
    counter = unique()
    async with processes(database_url, 2) as [ours, theirs]:
        await ours.handle(Add(counter_id=counter), context())
        async with acting_as(database_url, "owner", autocommit=False) as other:
            await other.execute(b"select 1 from amends.streams where stream = %s for update", (f"kernel-{counter}",))
            waiting = asyncio.create_task(ours.handle(Add(counter_id=counter), context()))
            await blocked(database_url)
            assert (await theirs.handle(Add(counter_id=unique()), context())).outcome == "done"
            assert not waiting.done()
            await other.rollback()
        assert (await waiting).version == 2


async def test_a_position_reads_as_it_is_written() -> None:
    assert Position.parse(str(Position(1042, 7))) == Position(1042, 7)
    for wrong in ("", "7", "1:", ":1", "a:b", "1:2:3", "-1:2"):
        with pytest.raises(InvalidInput):
            Position.parse(wrong)


async def test_given_many_claims_that_were_counted_when_more_come_then_a_command_does_not_read_them_all(
    database_url: str,
) -> None:
    read = "select seq_tup_read from pg_stat_user_tables where relid = 'amends.claims'::regclass"
    async with traced_pool(database_url) as (pool, _):
        handler, counter = CommandHandler(EventStore(pool), [Counter]), unique()
        names = tuple(f"name-{n}" for n in range(3000))
        await handler.handle(TakeNames(counter_id=counter, names=names), context())
        with psycopg.connect(conninfo(database_url, "owner"), autocommit=True) as owner:
            owner.execute("analyze amends.claims")
        [(before,)] = await rows(database_url, read)
        for _ in range(20):
            await handler.handle(Add(counter_id=counter), context())
            await handler.handle(DropName(counter_id=counter, name=names[0]), context())
        async with pool.connection() as connection:
            await connection.execute(b"select pg_stat_force_next_flush()")
    [(after,)] = await rows(database_url, read)
    assert after - before < 3000
