"""Views on views: questions that other views answer between them, documented as those are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from psycopg import Connection, NotSupportedError, ProgrammingError, sql
from psycopg import errors as pg
from sqlalchemy import Column, MetaData, Table
from sqlalchemy import Connection as OwnerConnection
from sqlalchemy.types import NullType, TypeEngine

from amends.errors import Incompatible, ProjectionError
from amends.public_views import MAY_READ, PROBE, SAME, UNPROBE
from amends.read_tables import ReadTable

__all__ = ["DerivedView", "install"]

log = structlog.get_logger("amends.views")

_SAFE = re.compile(r"[a-z][a-z0-9_]{0,62}")

COLUMNS = """
select attname from pg_attribute
where attrelid = 'pg_temp.amends_probe'::regclass and attnum > 0 order by attnum
"""
"""The columns it has."""

SHOWN = "select attname from pg_attribute where attrelid = to_regclass(%s) and attnum > 0"
"""The columns of a view that is there."""

ELSEWHERE = """
select distinct t.relnamespace::regnamespace || '.' || t.relname
from pg_depend d
join pg_rewrite r on r.oid = d.objid
join pg_class t on t.oid = d.refobjid
where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
  and r.ev_class = 'pg_temp.amends_probe'::regclass and t.oid <> r.ev_class
  and t.relnamespace <> 'views'::regnamespace
"""
"""What it stands on, other than views that people may read."""


class DerivedView:
    """A view `views.<name>` that is a question to other views in that schema.

    Args:
        name: of the view.
        sql: a select from views, each named with its schema.
        comment: what a row is.
        columns: every column in the order of the select, with what it means.
        types: SQL types of those columns that queries compare with something.

    Attributes:
        table: the view, to write queries on.

    Raises:
        TypeError: a name can't be one, a comment is missing, or a type is that of no column.
    """

    def __init__(
        self,
        name: str,
        sql: str,
        *,
        comment: str,
        columns: Mapping[str, str],
        types: Mapping[str, TypeEngine[Any]] | None = None,
    ) -> None:
        self.name, self.sql, self.comment, self.columns = name, sql, comment, dict(columns)
        types = types or {}
        for each in (name, *columns):
            if not _SAFE.fullmatch(each):
                raise TypeError(f"{each!r} in view {name!r}: names are lower-case letters, digits and underscores")
        missing = [each for each, said in {"the view itself": comment, **columns}.items() if not said]
        if missing or not columns:
            raise TypeError(f"Say what it means, by comment= and columns=, in view {name!r}: {', '.join(missing)}")
        if unknown := types.keys() - columns.keys():
            raise TypeError(f"View {name!r} has types of columns that it has not: {', '.join(sorted(unknown))}")
        typed = [Column(column, types.get(column, NullType())) for column in columns]
        self.table = Table(name, MetaData(), *typed, schema="views")


def install(connection: OwnerConnection, views: Sequence[DerivedView], bases: Iterable[ReadTable]) -> None:
    """Create or replace views, with comments and grants; those that are as they should be are not touched.

    While a projection's view shows an older version, one that needs its new columns stays as it is, or away: install
    again once that view shows the new version.

    Args:
        connection: of the schema's owner, in a transaction.
        views: each after those that it stands on.
        bases: the tables of the projections, whose views all others stand on.

    Raises:
        Incompatible: a view would lose, retype or move a column.
        ProjectionError: a view's SQL is wrong, stands on more than views, or has other columns than it documents.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, Connection)
    behind = [table.name for table in bases if table.view and not _shows_all(driver, table)]
    for view in views:
        try:
            same = _same(driver, view)
        except ProjectionError as error:
            if not behind or not isinstance(error.__cause__, pg.UndefinedColumn | pg.UndefinedTable):
                raise
            log.warning("view_waits", view=view.name, until_new_version_is_shown_by=behind, error=str(error))
            continue
        if not same:
            _show(driver, view)
        name = sql.Identifier("views", view.name)
        driver.execute(sql.SQL("comment on view {} is {}").format(name, sql.Literal(view.comment)))
        for column, comment in view.columns.items():
            target = sql.Identifier("views", view.name, column)
            driver.execute(sql.SQL("comment on column {} is {}").format(target, sql.Literal(comment)))
        driver.execute(sql.SQL(MAY_READ).format(name))


def _shows_all(driver: Connection[Any], table: ReadTable) -> bool:
    """Whether the view over a table shows all columns that the table has by now."""
    shown = {column for (column,) in driver.execute(SHOWN, (f"views.{table.name}",)).fetchall()}
    return table.comments.keys() <= shown


def _same(driver: Connection[Any], view: DerivedView) -> bool:
    """Whether it is there as it should be; on the way, that it can be there at all."""
    try:
        with driver.transaction():
            driver.execute(sql.SQL(PROBE).format(_select(view)))
    except (ProgrammingError, NotSupportedError) as error:
        raise ProjectionError(f"The SQL of view {view.name!r} is wrong: {str(error).strip()}") from error
    found = [column for (column,) in driver.execute(COLUMNS).fetchall()]
    elsewhere = [relation for (relation,) in driver.execute(ELSEWHERE).fetchall()]
    same = driver.execute(SAME, (f"views.{view.name}",)).fetchone()
    driver.execute(UNPROBE)
    if found != list(view.columns):
        raise ProjectionError(
            f"View {view.name!r} has the columns {', '.join(found)}, and documents {', '.join(view.columns)}: name "
            "each, in this order, with what it means"
        )
    if elsewhere:
        raise ProjectionError(
            f"View {view.name!r} stands on {', '.join(sorted(elsewhere))}: only what is in schema views keeps its "
            "columns, and may be read by everybody who may read the view"
        )
    return same == (True,)


def _show(driver: Connection[Any], view: DerivedView) -> None:
    replace = sql.SQL("create or replace view {} as {}").format(sql.Identifier("views", view.name), _select(view))
    try:
        with driver.transaction():
            driver.execute(replace)
    except pg.InvalidTableDefinition as error:
        raise Incompatible(
            f"views.{view.name} can't be replaced: {error.diag.message_primary}. Others may count on its columns: keep "
            "their names, types and order, and add new ones at the end"
        ) from error


def _select(view: DerivedView) -> sql.SQL:
    return sql.SQL(view.sql)  # from the application's code, as its tables are
