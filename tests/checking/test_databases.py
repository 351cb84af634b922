"""Migrations and the first release's data, in databases of their own: every way in which they can go wrong is found."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

import psycopg
import pytest
from sqlalchemy import Column, Connection, Text, text

from amends.app import App
from amends.checking.migrations import RELEASED, check_migrations
from amends.checking.schema_text import describe, same_schema
from amends.checking.scratch import scratch_database
from amends.checking.upgrading import check_upgrade
from amends.database import conninfo
from amends.projection import Projection
from amends.revisions import FOLDER, head
from app import app as shop_app
from domain.stock import StockReserved
from read_models.order_history import history

DATA = Path(__file__).parents[2] / "released" / "first_release.sql"

HIDDEN_CHANGES = [
    "alter table amends.events add column mood text",
    "alter table amends.events alter column trace set not null",
    "alter table amends.streams drop constraint streams_pkey",
    "drop index amends.commands_by_correlation",
    "grant delete on amends.claims to amends_reader",
    "create or replace function amends.refuse_change() returns trigger language plpgsql as 'begin return new; end'",
    "drop trigger events_are_facts on amends.events",
    "create or replace view views.feed_status as select * from (select 1 as one) x",
    "comment on view views.feed_status is 'Other words.'",
]


FORGETFUL = """
create or replace function amends.append(
    request jsonb, out status text, out at_version integer, out at_xid bigint, out at_position bigint, out detail jsonb
) language plpgsql as 'begin status := \'\'appended\'\'; end'
"""


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    return copytree(FOLDER, tmp_path / "versions")


@pytest.fixture
def released(tmp_path: Path) -> Path:
    return copytree(RELEASED, tmp_path / "released")


def test_given_the_engine_as_it_is_when_checked_then_every_migration_is_known_and_makes_what_is_written(
    postgres_url: str,
) -> None:
    with scratch_database(postgres_url) as database:
        checked = check_migrations(database, accept=False)
    assert checked.failures == (), "after a new migration: `amends check --accept`"


def test_given_released_migrations_when_files_change_go_or_come_then_each_is_named_and_only_new_ones_are_accepted(
    postgres_url: str, versions: Path, released: Path
) -> None:
    # given
    new = versions / "0999_more.py"
    new.write_text("revision = '0999'\n")
    hashes = (released / "hashes.json").read_text()

    def check(*, accept: bool) -> tuple[list[str], tuple[str, ...]]:
        with scratch_database(postgres_url) as database:
            checked = check_migrations(database, accept=accept, versions=versions, released=released)
        return [failure.what for failure in checked.failures], checked.accepted

    # then: what is new is told, then accepted
    assert check(accept=False)[0] == [f"The migration 0999_more.py is new: it is not in {released / 'hashes.json'}"]
    assert (released / "hashes.json").read_text() == hashes
    failures, accepted = check(accept=True)
    assert (failures, len(accepted)) == ([], 2)
    # and: what is released stays as it is, whatever is accepted
    (versions / "0001_event_log.sql").write_text("-- nothing\n")
    new.unlink()
    (versions / "0998_even_more.py").write_text("revision = '0998'\n")
    failures, accepted = check(accept=True)
    assert [told.partition(", and")[0] for told in failures[:2]] == [
        "The released migration 0001_event_log.sql has changed",
        "The released migration 0999_more.py is gone",
    ]
    assert accepted == ()


def test_given_a_schema_that_differs_when_described_then_it_is_not_the_same(postgres_url: str, released: Path) -> None:
    written = (released / "schema.txt").read_text()
    with scratch_database(postgres_url) as database:
        assert check_migrations(database, accept=False).failures == ()
        with psycopg.connect(conninfo(database, "owner")) as connection:
            assert same_schema(written, describe(connection))
            for change in HIDDEN_CHANGES:
                with connection.transaction(force_rollback=True):
                    if "feed_status as" in change:
                        connection.execute("drop view views.feed_status cascade")
                    connection.execute(change.encode())
                    assert not same_schema(written, describe(connection)), change


def test_given_what_is_written_when_the_migrations_make_something_else_then_the_difference_is_told(
    postgres_url: str, released: Path
) -> None:
    schema = released / "schema.txt"
    schema.write_text(schema.read_text().replace("    bigint not null default 0\n", "    integer\n", 1))
    with scratch_database(postgres_url) as database:
        [failure] = check_migrations(database, accept=True, released=released).failures
    assert "+    bigint not null default 0" in failure.what
    assert "-    integer" in failure.what
    assert "write what is to change as a new one" in failure.mend


def test_given_another_server_when_schemas_are_compared_then_only_the_texts_of_views_may_differ() -> None:
    one = "-- PostgreSQL 17\ntable a\n    x\ntext of view b\n    select 1;\ntable c\n"
    other = "-- PostgreSQL 18\ntable a\n    x\ntext of view b\n    SELECT 1\ntable c\n"
    assert same_schema(one, other)
    assert not same_schema(one, other.replace("-- PostgreSQL 18", "-- PostgreSQL 17"))
    assert not same_schema(one, other.replace("    x", "    y"))


async def test_given_the_first_release_with_its_data_when_upgraded_then_it_goes_on(postgres_url: str) -> None:
    with scratch_database(postgres_url) as database:
        checked = await check_upgrade(shop_app, DATA, database)
        with psycopg.connect(conninfo(database, "owner")) as connection:
            [stands] = connection.execute("select version_num from amends.alembic_version")
            rows = connection.execute(
                "select order_id, status, paid from read_models.order_history_v4 order by order_id"
            ).fetchall()
            shown = connection.execute("select order_id, status from views.order_history order by order_id").fetchall()
    assert checked.failures == ()
    assert stands == (head(),)
    # built anew from the events of the first version, and what was shown before stays until the swap
    assert rows == [("ann-1", "completed", 2500), ("ann-2", "placed", 0), ("bob-1", "cancelled", 0)]
    assert shown == [("ann-1", "completed"), ("bob-1", "cancelled")]


FIXTURES = [
    ('"name": "stock.reserved"', '"name": "stock.forgotten"', "'stock.forgotten' of version 1 can't be read"),
    ('{"customer_id": "ann", "email"', '{"client": "ann", "email"', "customer-ann can't be loaded"),
    ("-- an order under way", "select 1 / 0;", "division by zero"),
    ("-- an order under way", "update amends.streams set version = 9 where stream = 'stock-MUG';", "comes as 3"),
]


@pytest.mark.parametrize(("was", "is_", "told"), FIXTURES)
async def test_given_data_that_this_code_can_t_go_on_from_when_upgraded_then_it_is_told(
    was: str, is_: str, told: str, postgres_url: str, tmp_path: Path
) -> None:
    data = tmp_path / "first.sql"
    written = DATA.read_text()
    assert was in written
    data.write_text(written.replace(was, is_))
    with scratch_database(postgres_url) as database:
        checked = await check_upgrade(App(aggregates=shop_app.aggregates), data, database)
    assert any(told in failure.what for failure in checked.failures), checked.failures


async def test_given_a_read_model_that_can_t_take_the_first_release_when_upgraded_then_it_is_told(
    postgres_url: str,
) -> None:
    fussy = Projection("fussy", version=1)
    rows_of = fussy.table("fussy", Column("sku", Text, primary_key=True, comment="What."), comment="Whatever.")

    @fussy.on(StockReserved)
    def reserved(event: StockReserved, fact: object, rows: object) -> None:
        raise ValueError(f"{event.sku} has no place in {rows_of.name}")

    lossy = Projection(history.name, version=history.version)
    lossy.table("order_history", Column("order_id", Text, primary_key=True, comment="The order."), comment="Orders.")
    for projection, told in ((fussy, "fussy can't apply"), (lossy, "no longer makes|lacks")):
        with scratch_database(postgres_url) as database:
            checked = await check_upgrade(App(projections=[projection]), DATA, database)
        [failure, *_] = checked.failures
        assert any(each in failure.what for each in told.split("|")), failure


async def test_given_an_append_that_forgets_when_upgraded_then_what_was_done_and_what_is_held_tell(
    postgres_url: str,
) -> None:
    def forget(connection: Connection) -> None:
        connection.execute(text(FORGETFUL))

    with scratch_database(postgres_url) as database:
        checked = await check_upgrade(App(install=forget), DATA, database)
    assert [failure.what for failure in checked.failures] == [
        "a command that was done is not known any more: appended instead of repeated",
        "a value of 'customer.email' that is held was given to somebody else",
    ]


async def test_given_no_data_of_a_first_release_when_checked_then_the_application_is_told_so(tmp_path: Path) -> None:
    checked = await check_upgrade(shop_app, tmp_path / "none.sql", "nowhere")
    assert checked.failures == ()
    assert checked.looked_at.startswith("no ")
