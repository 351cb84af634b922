"""Each role may do what is written down, and nothing else: told by the catalog, and tried for real."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import unified_diff
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection, sql
from psycopg import errors as pg
from psycopg.conninfo import make_conninfo

from amends.database import Role, conninfo
from tests.edges.matrix import ROLES, Thing, matrix, things

WRITTEN = Path(__file__).with_name("privileges.txt")

REFUSED = (pg.InsufficientPrivilege, pg.ObjectNotInPrerequisiteState)
"""Not allowed; or a view that nobody can write to."""

TRIES = {
    "select": "select from {thing} limit 0",
    "insert": "insert into {thing} default values",
    "update": "update {thing} set {column} = default where false",
    "delete": "delete from {thing} where false",
    "truncate": "truncate {thing}",
}
"""What is tried with a table or view; nothing of it would change a row but for what it is about."""

NOT_THEIRS = (
    "create table {schema}.mine (n int)",
    "create view {schema}.mine as select 1",
    "create function {schema}.mine() returns int language sql as 'select 1'",
    "create sequence {schema}.mine",
)
"""What only owners do, in every schema."""

NEVER = (
    "create schema mine",
    "create role mine superuser",
    "alter role current_user superuser",
    "alter role amends_reader login",
    "grant amends_writer to amends_reader",
    "alter table amends.events disable trigger events_are_facts",
    "alter table amends.events owner to current_user",
    "drop table amends.events",
    "drop view views.feed_status",
    "create or replace view views.feed_status as select 1",
    "create or replace function amends.refuse_change() returns trigger language plpgsql as 'begin return null; end'",
    "drop trigger events_are_facts on amends.events",
    "create trigger mine before insert on amends.events for each row execute function amends.refuse_change()",
    "create index on amends.events (actor)",
    "set session_replication_role = replica",
    "set session authorization {owner}",
    "set role {owner}",
    "copy (select 1) to program 'true'",
    "copy (select 1) to '/tmp/amends-mine'",
    "select pg_read_file('postgresql.conf')",
    "select pg_terminate_backend(pid) from pg_stat_activity where usename = {owner_text} and pid <> pg_backend_pid()",
    "select lo_import('/etc/hostname')",
)
"""What no role does anywhere."""

LOGINS: dict[str, tuple[Role, ...]] = {"worker": ("writer", "projector"), "client": ("reader", "client")}


@pytest.fixture
def owner(database_url: str) -> Iterator[Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def logins(database_url: str, owner: Connection[Any]) -> Iterator[dict[str, str]]:
    """Logins as docs/security.md makes them: name → address."""
    made = {login: f"{login}_{uuid4().hex[:8]}" for login in LOGINS}
    for login, name in made.items():
        roles = sql.SQL(", ").join(sql.Identifier(f"amends_{role}") for role in LOGINS[login])
        owner.execute(sql.SQL("create role {} login password 'p' in role {}").format(sql.Identifier(name), roles))
    yield {login: make_conninfo(database_url, user=name, password="p") for login, name in made.items()}
    for name in made.values():
        owner.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


@contextmanager
def acting(url: str, role: Role) -> Iterator[Connection[Any]]:
    with psycopg.connect(conninfo(url, role), autocommit=True) as connection:
        yield connection


def attempt(connection: Connection[Any], statement: str) -> psycopg.Error | None:
    """What PostgreSQL says to a statement; whatever it does is taken back."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement.encode())
    except psycopg.Error as error:
        return error
    return None


def test_given_a_migrated_database_when_the_catalog_is_asked_then_each_role_may_do_what_is_written_down(
    owner: Connection[Any],
) -> None:
    found, written = matrix(owner), WRITTEN.read_text()
    differs = "".join(unified_diff(written.splitlines(True), found.splitlines(True), "written down", "in the database"))
    assert not differs, f"If this is meant, write it down: see tests/edges/matrix.py\n{differs}"


def test_given_a_migrated_database_when_the_catalog_is_asked_then_no_role_owns_logs_in_or_hands_anything_on(
    owner: Connection[Any],
) -> None:
    roles = list(ROLES)
    powers = """select rolname from pg_roles where rolname = any(%s) and (rolsuper or rolcanlogin or rolcreaterole
                or rolcreatedb or rolbypassrls or rolreplication)"""
    assert owner.execute(powers, (roles,)).fetchall() == []
    members = "select member::regrole::text from pg_auth_members where member::regrole::text = any(%s)"
    assert owner.execute(members, (roles,)).fetchall() == []
    owned = """select c.oid::regclass::text from pg_class c where relowner::regrole::text = any(%(r)s)
               union all select p.oid::regprocedure::text from pg_proc p where proowner::regrole::text = any(%(r)s)
               union all select nspname from pg_namespace where nspowner::regrole::text = any(%(r)s)"""
    assert owner.execute(owned, {"r": roles}).fetchall() == []
    handed_on = (
        "select relname from pg_class, aclexplode(relacl) where is_grantable and grantee::regrole::text = any(%s)"
    )
    assert owner.execute(handed_on, (roles,)).fetchall() == []
    # a grant on columns, or to whatever is made later, would not be in the list
    assert (
        owner.execute(
            "select attrelid::regclass from pg_attribute where attacl is not null and attrelid >= 16384"
        ).fetchall()
        == []
    )
    assert owner.execute("select oid from pg_default_acl").fetchall() == []


def test_given_a_function_that_acts_as_the_owner_when_the_catalog_is_asked_then_temporary_things_come_last(
    owner: Connection[Any],
) -> None:
    found = owner.execute(
        "select p.oid::regprocedure::text, p.proconfig from pg_proc p where p.prosecdef and p.pronamespace >= 16384"
    ).fetchall()
    assert found  # or this proves nothing
    for name, settings in found:
        [path] = [each for each in settings or [] if each.startswith("search_path=")] or [""]
        assert path.replace(" ", "").endswith(",pg_temp"), f"{name} looks among temporary things first: {path!r}"


@pytest.mark.parametrize("role", ROLES)
def test_given_a_role_when_it_tries_what_it_may_not_then_it_is_refused_table_by_table(
    role: str, owner: Connection[Any], database_url: str
) -> None:
    there = things(owner)
    assert {"table", "view", "function", "sequence"} <= {thing.sort for thing in there}
    enters = {thing.name for thing in there if thing.sort == "schema" and "usage" in thing.may[role]}
    with acting(database_url, _short(role)) as connection:
        wrong = [problem for thing in there for problem in _tried(connection, role, thing, enters, owner)]
    assert wrong == []


@pytest.mark.parametrize("role", ROLES)
def test_given_a_role_when_it_does_what_only_owners_do_then_it_is_refused(
    role: str, owner: Connection[Any], database_url: str
) -> None:
    schemas = [thing.name for thing in things(owner) if thing.sort == "schema"]
    [(name,)] = owner.execute("select current_user").fetchall()
    statements = [each.format(schema=schema) for schema in schemas for each in NOT_THEIRS]
    statements += [each.format(owner=f'"{name}"', owner_text=f"'{name}'") for each in NEVER]
    with acting_as_a_login(database_url, owner, role) as connection:
        allowed = [each for each in statements if not isinstance(attempt(connection, each), REFUSED)]
        assert allowed == []
        connection.execute("reset role")  # back to the login, which is a member of that role and nothing else
        allowed = [each for each in statements if not isinstance(attempt(connection, each), REFUSED)]
        assert allowed == []


@pytest.mark.parametrize("table", ["events", "commands"])
@pytest.mark.parametrize("how", ["update", "delete", "truncate"])
def test_given_what_has_happened_when_even_the_owner_changes_it_then_it_is_refused(
    table: str, how: str, owner: Connection[Any]
) -> None:
    statement = TRIES[how].format(thing=f"amends.{table}", column="actor")
    refused = attempt(owner, statement)
    assert isinstance(refused, pg.InsufficientPrivilege)
    told = f"{how.upper()} on amends.{table} is refused: what has happened is not changed"
    assert refused.diag.message_primary == told


def test_given_a_reader_with_views_in_the_place_of_the_catalog_s_when_it_acts_as_the_owner_then_it_sees_none(
    database_url: str,
) -> None:
    with acting(database_url, "reader") as reader:
        # given: what they read says as whom it is read
        reader.execute(
            "create temp view pg_prepared_xacts as select current_user::text as gid, now() as prepared, "
            "'3'::xid as transaction"
        )
        reader.execute(
            "create temp view pg_stat_activity as select 1 as pid, current_user::text as application_name, "
            "now() as xact_start, '3'::xid as backend_xid"
        )
        # when, then
        [(application,)] = reader.execute("select oldest_application from views.feed_status").fetchall()
        [(owner,)] = reader.execute(
            "select pg_get_userbyid(datdba) from pg_database where datname = current_database()"
        )
        assert application is None or owner not in application


def test_given_a_login_of_a_client_when_it_takes_another_role_then_it_is_refused(logins: dict[str, str]) -> None:
    with acting(logins["client"], "reader") as connection:
        for statement in (
            "set role amends_writer",
            "set role amends_projector",
            "set session authorization amends_writer",
        ):
            assert isinstance(attempt(connection, statement), pg.InsufficientPrivilege), statement
        assert attempt(connection, "set role amends_reader") is None
    for role in ("writer", "projector"):
        with (
            pytest.raises(psycopg.OperationalError, match="permission denied to set role"),
            acting(logins["client"], role),
        ):
            pass


def test_given_a_login_of_a_worker_when_it_takes_the_owner_s_part_then_it_is_refused(
    logins: dict[str, str], owner: Connection[Any]
) -> None:
    [(name,)] = owner.execute("select current_user").fetchall()
    for role in LOGINS["worker"]:
        with acting(logins["worker"], role) as connection:
            assert isinstance(attempt(connection, f'set role "{name}"'), pg.InsufficientPrivilege)
            connection.execute("reset role")
            assert isinstance(attempt(connection, "create table amends.mine ()"), pg.InsufficientPrivilege)
            assert isinstance(attempt(connection, "delete from amends.events"), pg.InsufficientPrivilege)


@contextmanager
def acting_as_a_login(url: str, owner: Connection[Any], role: str) -> Iterator[Connection[Any]]:
    """A role, by a login that is its member and nothing else."""
    name = sql.Identifier(f"login_{uuid4().hex[:8]}")
    owner.execute(sql.SQL("create role {} login password 'p' in role {}").format(name, sql.Identifier(role)))
    try:
        with acting(make_conninfo(url, user=name.as_string().strip('"'), password="p"), _short(role)) as connection:
            yield connection
    finally:
        owner.execute(sql.SQL("drop role {}").format(name))


def _tried(
    connection: Connection[Any], role: str, thing: Thing, enters: set[str], owner: Connection[Any]
) -> Iterator[str]:
    """What comes out otherwise than is written down; in a schema that a role may not enter, it may do nothing."""
    may = set(thing.may[role]) | set(thing.may["public"]) if thing.name.partition(".")[0] in enters else set()
    for what, statement in _statements(thing, owner):
        error = attempt(connection, statement)
        refused = isinstance(error, REFUSED) and "what has happened" not in str(error)
        if refused != (what not in may):
            yield f"{role} may {sorted(may)} of {thing.name}, and {statement!r} says {error!r}"


def _statements(thing: Thing, owner: Connection[Any]) -> Iterator[tuple[str, str]]:
    match thing.sort:
        case "table" | "view":
            named = """select quote_ident(attname) from pg_attribute where attrelid = %s::regclass and attnum > 0
                       and not attisdropped order by attname = 'number', attnum limit 1"""  # no identity
            [(column,)] = owner.execute(named, (thing.name,)).fetchall()
            for what, statement in TRIES.items():
                if not (what == "truncate" and thing.sort == "view"):
                    yield what, statement.format(thing=thing.name, column=column)
        case "sequence":
            yield "usage", f"select nextval('{thing.name}')"
            yield "update", f"select setval('{thing.name}', 1)"
        case "function" if not thing.may["public"] and "refuse_change" not in thing.name:
            called, arguments = re.fullmatch(r"(.+)\((.*)\)", thing.name).groups()  # type: ignore[union-attr]
            nothing = ", ".join(f"null::{each}" for each in arguments.split(",") if each)
            yield "execute", f"select {called}({nothing})"


def _short(role: str) -> Role:
    short: dict[str, Role] = {
        "amends_writer": "writer",
        "amends_projector": "projector",
        "amends_reader": "reader",
        "amends_client": "client",
    }
    return short[role]
