"""The views over read tables: replaced in place, never dropped, so that whatever is built upon them stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from psycopg import Connection, sql
from pydantic import BaseModel

from amends.errors import Incompatible
from amends.read_tables import LATER, ReadTable

__all__ = [
    "COLUMNS",
    "MAY_READ",
    "PROBE",
    "SAME",
    "UNPROBE",
    "ShownColumn",
    "ViewSpec",
    "arranged",
    "check",
    "show",
    "spec_of",
    "statements",
]

log = structlog.get_logger("amends.projections")

COLUMNS = """
select a.attname, format_type(a.atttypid, a.atttypmod) from pg_attribute a
where a.attrelid = to_regclass(%s) and a.attnum > 0 and not a.attisdropped order by a.attnum
"""
"""The columns of a view and their types, in order; none when there is no such view."""

PROBE = "create or replace temp view amends_probe as {}"
"""The view as it should be, to compare with the one that is."""

SAME = "select pg_get_viewdef('pg_temp.amends_probe'::regclass) = pg_get_viewdef(to_regclass(%s))"
"""Whether a view is as it should be: replacing it would wait for, and hold up, everybody who reads it."""

UNPROBE = "drop view pg_temp.amends_probe"
"""Clear up after the comparison."""

MAY_READ = "grant select on {} to amends_reader"
"""Readers see the views."""


class ShownColumn(BaseModel):
    """A column of a view.

    Args:
        name: its name.
        sql: what it shows, an expression over the table's columns.
        comment: what it means.
    """

    name: str
    sql: str
    comment: str


class ViewSpec(BaseModel):
    """What a view shows while a generation is served; kept with the generation, for code that knows it no more.

    Args:
        name: of the view, in schema views.
        table: its table, in schema read_models.
        comment: what a row is.
        columns: in the order of declaration.
    """

    name: str
    table: str
    comment: str
    columns: list[ShownColumn]


def spec_of(table: ReadTable, generation: int) -> ViewSpec:
    """What the view of a table shows.

    Args:
        table: the table.
        generation: which build.
    """
    plain = {column.name: f'"{column.name}"' for column in table.columns}
    later = [column.name for column in table.columns if column.info == LATER]
    shown = {name: expression for name, expression in plain.items() if name not in later}
    shown |= {name: f"({expression})" for name, (expression, _) in table.computed.items()}
    shown |= {name: plain[name] for name in later}
    comments = table.comments
    columns = [ShownColumn(name=name, sql=expression, comment=comments[name]) for name, expression in shown.items()]
    return ViewSpec(name=table.name, table=table.generation(generation).name, comment=table.comment, columns=columns)


def arranged(spec: ViewSpec, current: Sequence[tuple[str, str]], *, pad: bool) -> list[ShownColumn]:
    """The columns in the order that the view has already, new ones at its end.

    Args:
        spec: what it is to show.
        current: names and types of its columns as it is.
        pad: show null where a column is gone: a version that is shown again may never have had it.

    Raises:
        Incompatible: a column is gone.
    """
    declared = {column.name: column for column in spec.columns}
    columns: list[ShownColumn] = []
    for name, kind in current:
        if name in declared:
            columns.append(declared[name])
        elif pad:
            columns.append(ShownColumn(name=name, sql=f"null::{kind}", comment="Not known in this version."))
        else:
            raise Incompatible(
                f"views.{spec.name} has a column {name!r} ({kind}), which the new version of its projection lacks. "
                "Others may count on it: keep the column (it may be null from now on), or give the table another name"
            )
    known = {name for name, _ in current}
    return columns + [column for column in spec.columns if column.name not in known]


def statements(spec: ViewSpec, columns: Sequence[ShownColumn]) -> list[sql.Composed]:
    """What makes the view show this: the first statement is the change, the others document and grant."""
    view = sql.Identifier("views", spec.name)
    done = [
        sql.SQL("create or replace view {} as {}").format(view, _select(spec, columns)),
        sql.SQL("comment on view {} is {}").format(view, sql.Literal(spec.comment)),
    ]
    for column in columns:
        target = sql.Identifier("views", spec.name, column.name)
        done.append(sql.SQL("comment on column {} is {}").format(target, sql.Literal(column.comment)))
    return [*done, sql.SQL(MAY_READ).format(view)]


def check(driver: Connection[Any], spec: ViewSpec, *, pad: bool) -> bool:
    """See whether the view can show this, without touching it.

    Args:
        driver: of the schema's owner, in a transaction; the tables are there.
        spec: what it is to show.
        pad: as for `arranged`.

    Returns:
        whether it shows exactly this already.

    Raises:
        Incompatible: a column is gone, or is of another type.
    """
    name = f"views.{spec.name}"
    current = driver.execute(COLUMNS, (name,)).fetchall()
    driver.execute(sql.SQL(PROBE).format(_select(spec, arranged(spec, current, pad=pad))))
    types: Mapping[str, str] = dict(driver.execute(COLUMNS, ("pg_temp.amends_probe",)).fetchall())
    same = driver.execute(SAME, (name,)).fetchone()
    driver.execute(UNPROBE)
    for column, kind in current:
        if types[column] != kind:
            raise Incompatible(
                f"Column {column!r} of {name} is of type {kind}, and would be {types[column]} in the new version of "
                "its projection. Others may count on it: keep the type and add a column of another name"
            )
    return same == (True,)


def show(driver: Connection[Any], spec: ViewSpec, *, pad: bool = False) -> None:
    """Make a view show a table, whatever it showed before; arguments and errors as for `check`."""
    same = check(driver, spec, pad=pad)
    current = driver.execute(COLUMNS, (f"views.{spec.name}",)).fetchall()
    change, *rest = statements(spec, arranged(spec, current, pad=pad))
    for statement in rest if same else [change, *rest]:
        driver.execute(statement)


def _select(spec: ViewSpec, columns: Sequence[ShownColumn]) -> sql.Composed:
    shown = [sql.SQL("{} as {}").format(sql.SQL(column.sql), sql.Identifier(column.name)) for column in columns]
    return sql.SQL("select {} from {}").format(sql.SQL(", ").join(shown), sql.Identifier("read_models", spec.table))
