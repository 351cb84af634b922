"""Views on views: created, replaced and documented as they are declared; what they may stand on."""

from __future__ import annotations

import asyncio

import pytest
from psycopg import errors as pg
from sqlalchemy import Column, Integer, Text, text

from amends.app import App
from amends.app import install as install_app
from amends.database import conninfo
from amends.derived_views import DerivedView, install
from amends.errors import Incompatible, ProjectionError
from amends.projection import Projection
from amends.schema import owner_engine
from tests.engine.readside_shop import connect, fetch, order_list

COLUMNS = """
select attname, col_description(attrelid, attnum) from pg_attribute
where attrelid = to_regclass(%s) and attnum > 0 order by attnum
"""

BASE = "select order_id, total from views.readside_order"


def derive(sql: str, *columns: str, name: str = "derived_sums", comment: str = "A row an order.") -> DerivedView:
    return DerivedView(name, sql, comment=comment, columns={column: f"The {column}." for column in columns})


def show(url: str, *views: DerivedView, on: Projection | None = None) -> None:
    """Install the projection that they stand on, and them."""
    projection = on or order_list()
    with owner_engine(url).begin() as owner:
        projection.install(owner)
        install(owner, views, projection.tables.values())


async def test_given_an_application_when_installed_again_and_again_then_its_views_are_there_documented_for_readers(
    database_url: str,
) -> None:
    view = derive(BASE, "order_id", "total")
    app = App(
        projections=[order_list()], views=[view, derive("select total from views.derived_sums", "total", name="b")]
    )
    install_app(app, database_url)
    install_app(app, database_url)
    assert await fetch(database_url, COLUMNS, "views.derived_sums") == [
        ("order_id", "The order_id."),
        ("total", "The total."),
    ]
    assert await fetch(database_url, "select obj_description('views.derived_sums'::regclass)") == [("A row an order.",)]
    async with connect(conninfo(database_url, "reader")) as reader:
        await reader.execute("select order_id, total from views.derived_sums")
        await reader.execute("select total from views.b")
        with pytest.raises(pg.InsufficientPrivilege):
            await reader.execute("delete from views.derived_sums")


@pytest.mark.parametrize(
    "changed",
    [
        ("select order_id from views.readside_order", "order_id"),
        ("select total, order_id from views.readside_order", "total", "order_id"),
        ("select order_id, total::text as total from views.readside_order", "order_id", "total"),
    ],
    ids=["gone", "moved", "of another type"],
)
async def test_given_a_view_when_a_column_is_changed_then_it_is_refused_and_stays_as_it_is(
    database_url: str, changed: tuple[str, ...]
) -> None:
    show(database_url, derive(BASE, "order_id", "total"))
    before = await fetch(database_url, COLUMNS, "views.derived_sums")
    with pytest.raises(Incompatible, match=r"views.derived_sums can't be replaced"):
        show(database_url, derive(*changed))
    assert await fetch(database_url, COLUMNS, "views.derived_sums") == before


async def test_given_a_view_that_others_stand_on_when_it_gets_a_column_then_they_stay(database_url: str) -> None:
    above = derive("select total from views.derived_sums", "total", name="above")
    show(database_url, derive(BASE, "order_id", "total"), above)
    async with connect(database_url) as connection:
        await connection.execute("create view theirs as select total from views.derived_sums")
    more = "select order_id, total, total * 2 as doubled from views.readside_order"
    show(database_url, derive(more, "order_id", "total", "doubled"), above)
    names = [name for name, _ in await fetch(database_url, COLUMNS, "views.derived_sums")]
    assert names == ["order_id", "total", "doubled"]


def widened(version: int, *columns: str) -> Projection:
    projection = Projection("widened", version=version)
    key = Column("k", Text, primary_key=True, comment="Key.")
    projection.table("wide", key, *(Column(c, Integer, comment="Some.") for c in columns), comment="A row a key.")
    return projection


async def test_given_a_view_that_shows_an_older_version_when_one_needs_new_columns_then_it_waits_until_they_are_shown(
    database_url: str,
) -> None:
    old, new = derive("select a from views.wide", "a"), derive("select a, b from views.wide", "a", "b")
    above = derive("select b from views.derived_sums", "b", name="above")
    show(database_url, old, on=widened(1, "a"))
    show(database_url, new, above, on=widened(2, "a", "b"))
    assert [name for name, _ in await fetch(database_url, COLUMNS, "views.derived_sums")] == ["a"]
    assert await fetch(database_url, COLUMNS, "views.above") == []
    with owner_engine(database_url).begin() as owner:
        owner.execute(text("create or replace view views.wide as select k, a, 1 as b from read_models.wide_v1"))
        install(owner, [new, above], widened(2, "a", "b").tables.values())
    assert [name for name, _ in await fetch(database_url, COLUMNS, "views.derived_sums")] == ["a", "b"]
    assert [name for name, _ in await fetch(database_url, COLUMNS, "views.above")] == ["b"]


async def test_given_a_reader_in_a_long_transaction_when_installed_again_then_it_does_not_wait(
    database_url: str,
) -> None:
    view = derive(BASE, "order_id", "total")
    show(database_url, view)
    async with connect(database_url, autocommit=False) as reader:
        await reader.execute("select * from views.derived_sums")
        async with asyncio.timeout(10):
            await asyncio.to_thread(show, database_url, view)


@pytest.mark.parametrize(
    ("sql", "columns", "told"),
    [
        (
            "select order_id from read_models.readside_order_v1",
            ["order_id"],
            "stands on read_models.readside_order_v1",
        ),
        ("select count(*) as n from amends.events", ["n"], "stands on amends.events"),
        (BASE, ["order_id"], "has the columns order_id, total, and documents order_id"),
        (BASE, ["total", "order_id"], "has the columns order_id, total, and documents total, order_id"),
        ("select nothing from views.readside_order", ["nothing"], 'is wrong: column "nothing" does not exist'),
        ("select 1 as one from views.nowhere", ["one"], 'is wrong: relation "views.nowhere" does not exist'),
        ("selekt", ["one"], "is wrong: syntax error"),
    ],
)
async def test_given_sql_that_can_not_be_such_a_view_when_installed_then_told_why_and_nothing_is_there(
    database_url: str, sql: str, columns: list[str], told: str
) -> None:
    with pytest.raises(ProjectionError, match=f"'derived_sums' {told}"):
        show(database_url, derive(sql, *columns))
    assert await fetch(database_url, COLUMNS, "views.derived_sums") == []


def test_given_a_faulty_declaration_when_imported_then_told_what_is_wrong() -> None:
    with pytest.raises(TypeError, match="by comment= and columns=, in view 'v': the view itself, b"):
        DerivedView("v", "select 1", comment="", columns={"a": "A.", "b": ""})
    with pytest.raises(TypeError, match=r"comment= and columns=, in view 'v'"):
        DerivedView("v", "select 1", comment="A row.", columns={})
    with pytest.raises(TypeError, match="lower-case"):
        derive(BASE, "order_id", "total", name="Sums")
    with pytest.raises(TypeError, match="types of columns that it has not: c"):
        DerivedView("v", "select 1", comment="A row.", columns={"a": "A."}, types={"c": Integer()})
    with pytest.raises(TypeError, match="'readside_order' already"):
        App(projections=[order_list()], views=[derive(BASE, "order_id", "total", name="readside_order")])
    with pytest.raises(TypeError, match="'derived_sums' already"):
        App(views=[derive(BASE, "order_id", "total"), derive(BASE, "order_id", "total")])
