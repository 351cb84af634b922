"""Puts a projection's tables, views, comments, grants and checkpoint into the database; again and again if need be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import structlog
from psycopg import Connection, sql
from psycopg import errors as pg
from sqlalchemy import Connection as OwnerConnection
from sqlalchemy import MetaData

from amends.errors import ProjectionError
from amends.read_tables import ReadTable

__all__ = ["install", "publish"]

log = structlog.get_logger("amends.projections")

CHECKPOINT = "insert into amends.checkpoints (projection, version) values (%s, %s) on conflict do nothing"
"""Start a projection at the beginning of the feed, unless it has one."""

SHAPE = """
select a.attname, a.atttypid = %s::regtype::oid
from pg_attribute a where a.attrelid = %s::regclass and a.attname = %s and not a.attisdropped
"""
"""Whether a table has a column, and whether it is of the declared type."""

SERVED_BY = """
select t.relname from pg_depend d
join pg_rewrite r on r.oid = d.objid
join pg_class t on t.oid = d.refobjid and t.relnamespace = 'read_models'::regnamespace
where d.classid = 'pg_rewrite'::regclass and r.ev_class = to_regclass(%s) limit 1
"""
"""Which table a view shows."""

PROBE = "create temp view amends_probe as {}"
"""The view as it should be, to compare with the one that is."""

SAME = "select pg_get_viewdef('pg_temp.amends_probe'::regclass) = pg_get_viewdef(to_regclass(%s))"
"""Whether a view is as it should be: replacing it would wait for, and hold up, everybody who reads it."""

UNPROBE = "drop view pg_temp.amends_probe"
"""Clear up after the comparison."""

MAY_WRITE = "grant select, insert, update, delete on {} to amends_projector"
"""The projector writes the tables."""

MAY_READ = "grant select on {} to amends_reader"
"""Readers see the views."""


def install(
    connection: OwnerConnection, projection: str, version: int, metadata: MetaData, tables: Iterable[ReadTable]
) -> None:
    """Create what is missing; a view that shows another version's table is left to `publish`.

    Args:
        connection: of the schema's owner, in a transaction.
        projection: its name.
        version: of its read model.
        metadata: of its tables.
        tables: those tables.

    Raises:
        ProjectionError: a table of this version is there in another shape.
    """
    metadata.create_all(connection)
    driver = _driver(connection)
    driver.execute(CHECKPOINT, (projection, version))
    for table in tables:
        _check_shape(driver, projection, table)
        driver.execute(sql.SQL(MAY_WRITE).format(_table(table)))
        if table.view:
            served = driver.execute(SERVED_BY, (f"views.{table.name}",)).fetchone()
            if served is None or served[0] == table.table.name:
                _show(driver, table)
            else:
                log.info("view_shows_other_version", view=table.name, shows=served[0], built=table.table.name)


def publish(connection: OwnerConnection, tables: Iterable[ReadTable]) -> None:
    """Let the views show these tables, whatever they showed before.

    Args:
        connection: of the schema's owner, in a transaction: readers see all of it at once.
        tables: of the projection's version that is to be shown.

    Raises:
        ProjectionError: something else is built upon a view whose columns change.
    """
    driver = _driver(connection)
    for table in tables:
        if table.view:
            _show(driver, table)


def _show(driver: Connection[Any], table: ReadTable) -> None:
    view, name = sql.Identifier("views", table.name), f"views.{table.name}"
    select = _select(table)
    driver.execute(sql.SQL(PROBE).format(select))
    same = driver.execute(SAME, (name,)).fetchone()
    driver.execute(UNPROBE)
    if same != (True,):
        try:
            with driver.transaction():
                driver.execute(sql.SQL("create or replace view {} as {}").format(view, select))
        except pg.InvalidTableDefinition:  # columns went or moved, which no replacement can do
            try:
                driver.execute(sql.SQL("drop view {}").format(view))
            except pg.DependentObjectsStillExist as error:
                raise ProjectionError(
                    f"The columns of {name} change, but others are built upon it: {error.diag.message_detail}. "
                    "Drop those first"
                ) from error
            driver.execute(sql.SQL("create view {} as {}").format(view, select))
    driver.execute(sql.SQL("comment on view {} is {}").format(view, sql.Literal(table.comment)))
    for column, comment in table.comments.items():
        target = sql.Identifier("views", table.name, column)
        driver.execute(sql.SQL("comment on column {} is {}").format(target, sql.Literal(comment)))
    driver.execute(sql.SQL(MAY_READ).format(view))


def _select(table: ReadTable) -> sql.Composable:
    plain: list[sql.Composable] = [sql.Identifier(column.name) for column in table.columns]
    computed = [
        sql.SQL("({}) as {}").format(sql.SQL(expression), sql.Identifier(name))
        for name, (expression, _) in table.computed.items()
    ]
    return sql.SQL("select {} from {}").format(sql.SQL(", ").join(plain + computed), _table(table))


def _check_shape(driver: Connection[Any], projection: str, table: ReadTable) -> None:
    name = f'read_models."{table.table.name}"'
    for column, column_type in table.types.items():
        if driver.execute(SHAPE, (column_type, name, column)).fetchone() != (column, True):
            raise ProjectionError(
                f"Table {name} of projection {projection!r} is there already, but without column {column} of type "
                f"{column_type}: raise the projection's version, so that a new table is built beside it"
            )


def _table(table: ReadTable) -> sql.Identifier:
    return sql.Identifier("read_models", table.table.name)


def _driver(connection: OwnerConnection) -> Connection[Any]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, Connection)
    return driver
