"""The schema: the same however often, by however many, and on whatever login it is made."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from amends.database import open_pool
from amends.embedded import EmbeddedPostgres, free_port
from amends.handler import CommandHandler
from amends.schema import migrate, owner_engine
from amends.store import EventStore
from tests.kernel.kernel_shop import Add, Counter, context, rows, unique

FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}

SHAPE = """
select 'column', c.table_schema, c.table_name, c.column_name, c.data_type, c.is_nullable, c.column_default
from information_schema.columns c where c.table_schema in ('amends', 'views', 'read_models')
union all
select 'index', schemaname, tablename, indexname, indexdef, '', '' from pg_indexes where schemaname = 'amends'
union all
select 'trigger', t.tgrelid::regclass::text, t.tgname, pg_get_triggerdef(t.oid), '', '', '' from pg_trigger t
where not t.tgisinternal
union all
select 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', '' from pg_constraint
where connamespace = 'amends'::regnamespace
union all
select 'function', proname, pg_get_functiondef(oid), proacl::text, '', '', '' from pg_proc
where pronamespace = 'amends'::regnamespace
union all
select 'grant', relname, relacl::text, coalesce(obj_description(oid), ''), '', '', '' from pg_class
where relnamespace in ('amends'::regnamespace, 'views'::regnamespace)
union all
select 'revision', version_num, '', '', '', '', '' from amends.alembic_version
order by 1, 2, 3, 4
"""


@pytest.fixture
def empty_databases(postgres_url: str) -> Iterator[list[str]]:
    """Two databases without anything in them."""
    names = [f"empty_{uuid4().hex}" for _ in range(2)]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for name in names:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    yield [make_conninfo(postgres_url, dbname=name) for name in names]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for name in names:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def migrated(url: str) -> None:
    engine = owner_engine(url)
    with engine.begin() as connection:
        migrate(connection)
    engine.dispose()


async def shape(url: str) -> list[tuple[Any, ...]]:
    return await rows(url, SHAPE)


async def test_given_an_empty_database_when_several_migrate_it_at_once_and_again_then_the_schema_is_the_same(
    empty_databases: list[str],
) -> None:
    crowded, alone = empty_databases
    await asyncio.gather(*(asyncio.to_thread(migrated, crowded) for _ in range(6)))
    await asyncio.to_thread(migrated, alone)
    first = await shape(crowded)
    assert len(first) > 60
    assert first == await shape(alone)
    await asyncio.to_thread(migrated, crowded)
    assert await shape(crowded) == first


async def test_given_a_migrated_database_when_migrated_again_then_what_has_happened_stays(database_url: str) -> None:
    async with open_pool(database_url, "writer", 1) as pool:
        handler, counter = CommandHandler(EventStore(pool), [Counter]), unique()
        await handler.handle(Add(counter_id=counter, times=3), context())
        await asyncio.to_thread(migrated, database_url)
        assert (await handler.handle(Add(counter_id=counter), context())).version == 4


def test_given_a_migration_rolled_back_then_nothing_of_it_is_left_and_the_next_one_succeeds(
    empty_databases: list[str],
) -> None:
    url = empty_databases[0]
    engine = owner_engine(url)
    with engine.connect() as connection:
        migrate(connection)
        connection.rollback()
    with psycopg.connect(url) as connection_:
        assert connection_.execute("select count(*) from pg_namespace where nspname = 'amends'").fetchone() == (0,)
    migrated(url)


async def test_an_owner_that_is_no_superuser_can_migrate_and_then_act_as_each_role(tmp_path: Path) -> None:
    """Creating a role makes one its member without the right to act as it, since PostgreSQL 16.

    Every managed PostgreSQL is like this: its first login may create roles but is no superuser.
    """
    server = EmbeddedPostgres(tmp_path, free_port(), options=FAST)
    try:
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(server.wait_ready)
        # given: a login that owns its database and may create roles
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("create role shop login createrole password 'shop'")
            connection.execute("create database shop owner shop")
        url = make_conninfo(server.url, user="shop", password="shop", dbname="shop")
        # when
        await asyncio.to_thread(migrated, url)
        # then
        with psycopg.connect(url) as connection:
            for role in ("amends_writer", "amends_projector", "amends_reader"):
                connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
                connection.execute("reset role")
    finally:
        await asyncio.to_thread(server.stop)
