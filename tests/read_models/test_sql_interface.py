"""SQL as an interface: all of it is documented, the tools find it, and nobody gets beyond it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import errors as pg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import MetaData, Table, create_engine, inspect, select

from amends.database import Role, conninfo, reader_url
from amends.embedded.binaries import find_postgres
from amends.interface import compare, public_views, reference
from tests.engine.readside_shop import connect

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "sql.md"
PROMISED = ROOT / "tests" / "golden" / "views.json"

OURS = "n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'views')"

RELATIONS = f"""
select n.nspname, c.relname, c.relkind::text, (select a.attname from pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum limit 1)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where {OURS} and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') order by 1, 2
"""

FUNCTIONS = f"""
select n.nspname, p.proname, array(select format_type(t, null) from unnest(p.proargtypes::oid[]) t), p.prokind::text
from pg_proc p join pg_namespace n on n.oid = p.pronamespace where {OURS} order by 1, 2
"""

SCHEMAS = "select n.nspname from pg_namespace n where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'"

VIEWS = """
select c.relname, (select a.attname from pg_attribute a where a.attrelid = c.oid and a.attnum = 1) from pg_class c
where c.relnamespace = 'views'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f') order by 1
"""

CHANGES = (
    "insert into {table} default values",
    "update {table} set {column} = default",
    "delete from {table}",
    "truncate {table}",
)

BY_NOBODY = (pg.ObjectNotInPrerequisiteState, pg.WrongObjectType, pg.GeneratedAlways)
"""How it is said that nobody can change such a view, before anybody's rights are looked at."""


@contextmanager
def acting_as(url: str, role: Role) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(conninfo(url, role), autocommit=True) as connection:
        yield connection


@pytest.fixture
def reader(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with acting_as(database_url, "reader") as connection:
        yield connection


@pytest.fixture
def owner(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def address(database_url: str) -> str:
    """As `amends up` prints it for people."""
    parts = conninfo_to_dict(database_url)
    login = f"{parts['user']}:{quote(str(parts['password']))}" if parts.get("password") else parts["user"]
    return reader_url(f"postgresql://{login}@{parts['host']}:{parts['port']}/{parts['dbname']}")


def composed(statement: str, schema: str, table: str, column: str) -> sql.Composed:
    return sql.SQL(statement).format(table=sql.Identifier(schema, table), column=sql.Identifier(column))


def refused(connection: psycopg.Connection[Any], statement: sql.Composed) -> bool:
    """Whether the role may not do that; it is taken back where it may."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)
    except pg.InsufficientPrivilege:
        return True
    return False


def test_no_view_and_no_column_is_without_a_comment(reader: psycopg.Connection[Any]) -> None:
    views = public_views(reader)
    assert len(views) >= 12
    bare = [view.name for view in views if not view.comment.strip()]
    bare += [f"{view.name}.{column.name}" for view in views for column in view.columns if not column.comment.strip()]
    assert bare == []


def test_the_page_describes_the_views_as_they_are(reader: psycopg.Connection[Any]) -> None:
    """If this fails: `amends sql docs docs/sql.md`."""
    assert PAGE.read_text() == reference(PAGE.read_text(), public_views(reader))


def test_the_views_are_what_was_promised(reader: psycopg.Connection[Any]) -> None:
    """If something was added: `amends sql check tests/golden/views.json --accept`."""
    difference = compare(PROMISED.read_text(), public_views(reader))
    assert difference.broken == ()
    assert difference.added == ()


def test_the_reader_selects_from_every_view_and_changes_none(reader: psycopg.Connection[Any]) -> None:
    views = reader.execute(VIEWS).fetchall()
    for view, column in views:
        reader.execute(composed("select * from {table}", "views", view, column))
        for change in CHANGES:
            with pytest.raises((pg.InsufficientPrivilege, *BY_NOBODY)):
                reader.execute(composed(change, "views", view, column))
        [more] = reader.execute(
            "select has_table_privilege(%s, 'insert, update, delete, truncate, references, trigger')",
            (f"views.{view}",),
        ).fetchall()
        assert more == (False,), view
    assert len(views) >= 12


def test_the_reader_gets_at_nothing_else(reader: psycopg.Connection[Any], owner: psycopg.Connection[Any]) -> None:
    reached, tried = [], 0
    for schema, name, kind, column in owner.execute(RELATIONS).fetchall():
        asks = ("select {column} from {table}", *CHANGES) if kind != "S" else ()
        statements = [composed(ask, schema, name, column) for ask in asks]
        if kind == "S":
            whole = sql.Literal(f"{schema}.{name}")
            statements += [sql.SQL(ask).format(whole) for ask in ("select nextval({})", "select setval({}, 1)")]
            statements.append(sql.SQL("select * from {}").format(sql.Identifier(schema, name)))
        reached += [f"{schema}.{name}: {s.as_string()}" for s in statements if not refused(reader, s)]
        tried += len(statements)
    for schema, name, types, kind in owner.execute(FUNCTIONS).fetchall():
        nothing = sql.SQL(", ").join(sql.SQL(f"null::{each}") for each in types)
        call = sql.SQL("call {}({})" if kind == "p" else "select {}({})")
        statement = call.format(sql.Identifier(schema, name), nothing)
        reached += [f"{schema}.{name}()"] if not refused(reader, statement) else []
        tried += 1
    for (schema,) in owner.execute(SCHEMAS).fetchall():
        create = sql.SQL("create table {} (x integer)").format(sql.Identifier(schema, "mine"))
        reached += [f"create in {schema}"] if not refused(reader, create) else []
    assert reached == []
    assert tried > 100


@pytest.mark.parametrize("role", ["reader", "writer"])
def test_nobody_but_the_projector_writes_the_tables_of_read_models(
    database_url: str, owner: psycopg.Connection[Any], role: Role
) -> None:
    tables = [row for row in owner.execute(RELATIONS).fetchall() if row[0] == "read_models" and row[2] != "S"]
    assert len(tables) >= 6
    with acting_as(database_url, role) as connection, acting_as(database_url, "projector") as projector:
        for schema, table, _, column in tables:
            written = [change for change in CHANGES if not refused(connection, composed(change, schema, table, column))]
            assert written == [], table
            for change in ("update {table} set {column} = default", "delete from {table}"):
                assert not refused(projector, composed(change, schema, table, column)), table


def test_sqlalchemy_finds_names_types_comments_and_rows(address: str) -> None:
    engine = create_engine(address.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.connect() as connection:
            found = inspect(connection)
            assert {"order_history", "saga_runs"} <= set(found.get_view_names("views"))
            columns = {each["name"]: each for each in found.get_columns("order_history", "views")}
            assert columns["total"]["comment"] == "Price of all lines, in minor units."
            assert str(columns["total"]["type"]) == "BIGINT"
            orders = Table("order_history", MetaData(), schema="views", autoload_with=connection)
            assert connection.execute(select(orders.c.order_id, orders.c.lines)).all() == []
    finally:
        engine.dispose()


def test_a_tool_finds_names_types_and_comments_in_the_standard_places(reader: psycopg.Connection[Any]) -> None:
    tables = "select table_name from information_schema.tables where table_schema = 'views'"
    assert {name for (name,) in reader.execute(tables)} == {name for name, _ in reader.execute(VIEWS)}
    known = """
    select c.column_name, c.data_type, col_description('views.order_history'::regclass, c.ordinal_position::integer)
    from information_schema.columns c where c.table_schema = 'views' and c.table_name = 'order_history'
    """
    found = {name: (kind, comment) for name, kind, comment in reader.execute(known)}
    assert found["customer_id"] == ("text", "Who ordered.")
    hidden = "select table_schema from information_schema.tables where table_schema in ('amends', 'read_models')"
    assert reader.execute(hidden).fetchall() == []


def test_psql_shows_the_comments(address: str) -> None:
    done = subprocess.run(
        [find_postgres() / "psql", "--no-psqlrc", address, "-c", r"\d+ views.order_history", "-c", r"\dv+ views.*"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "Who ordered." in done.stdout
    assert "One row an order: where it stands, why, how much, when." in done.stdout


async def test_a_column_without_a_comment_and_one_that_is_dropped_are_found(database_url: str) -> None:
    """The checks above do see what they are there for."""
    async with connect(database_url) as connection:
        await connection.execute("comment on column views.customers.registered_at is null")
        await connection.execute("drop view views.replenishments")
    with acting_as(database_url, "reader") as reader:
        views = public_views(reader)
        assert PAGE.read_text() != reference(PAGE.read_text(), views)
    assert compare(PROMISED.read_text(), views).broken == ("views.replenishments is gone",)
    assert [c.name for v in views if v.name == "customers" for c in v.columns if not c.comment] == ["registered_at"]
