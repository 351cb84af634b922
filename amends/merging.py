"""The statements that write a batch to a table of a projection, and read the rows that it derives something from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column
from sqlalchemy.dialects.postgresql.base import PGDialect

from amends.columns import Kind

__all__ = ["DIALECT", "merge_statement", "read_statement"]

# this style leaves percent signs in SQL alone
DIALECT = PGDialect(paramstyle="named")  # type: ignore[no-untyped-call]

MERGE = """
merge into {table} as t
using jsonb_to_recordset(%s::jsonb) as x ("!" boolean, {types})
on {same_key}
when matched and x."!" then delete
when matched then {update}
when not matched and x."!" is not true then insert ({columns}) values ({values})
"""
"""Write a batch to a table: each row says by "!" that it goes, or by "column!" what is done to that column."""

READ = """
select {keys}, {first}is not null, {values}, {defaults}
from jsonb_to_recordset(%s::jsonb) as x ({types}) left join {table} as t on {same_key}
"""
"""Rows by their keys: the key, whether there is such a row, its values, the values of a new row."""


def merge_statement(
    table: str, columns: Sequence[Column[Any]], kinds: Mapping[str, Kind], types: Mapping[str, str]
) -> str:
    """The statement for a table in schema read_models; its one parameter is the JSON of the rows.

    Args:
        table: its name.
        columns: its columns.
        kinds: column → what can be done to it.
        types: column → SQL type.
    """
    defaults = {column.name: _default(column) for column in columns}
    key = [column.name for column in columns if column.primary_key]
    plain = [name for name in types if name not in key]

    def case(name: str, now: str) -> str:
        new = f'x."{name}"'
        done = "".join(f" when '{op}' then {sql.format(now=now, new=new)}" for op, sql in kinds[name].sql.items())
        return f'case x."{name}!"{done} else {now} end'

    record = [f'"{name}" {kind}' for name, kind in types.items()] + [f'"{name}!" text' for name in plain]
    values = [f'x."{name}"' for name in key] + [case(name, defaults[name]) for name in plain]
    update = ", ".join(f'"{name}" = ' + case(name, f't."{name}"') for name in plain)
    return MERGE.format(
        table=f'read_models."{table}"',
        types=", ".join(record),
        same_key=" and ".join(f't."{name}" = x."{name}"' for name in key),
        update=f"update set {update}" if update else "do nothing",
        columns=", ".join(f'"{name}"' for name in [*key, *plain]),
        values=", ".join(values),
    )


def read_statement(
    table: str, columns: Sequence[Column[Any]], kinds: Mapping[str, Kind], types: Mapping[str, str]
) -> str:
    """The statement that finds rows by the JSON of their keys; arguments as for `merge_statement`."""
    key = [column.name for column in columns if column.primary_key]
    plain = [column for column in columns if column.name not in key]
    return READ.format(
        table=f'read_models."{table}"',
        keys=", ".join(f'x."{name}"' for name in key),
        first=f't."{key[0]}" ',
        values=", ".join(f't."{column.name}"' for column in plain) or "null",
        defaults=", ".join(_default(column) for column in plain) or "null",
        types=", ".join(f'"{name}" {types[name]}' for name in key),
        same_key=" and ".join(f't."{name}" = x."{name}"' for name in key),
    )


def _default(column: Column[Any]) -> str:
    default = DIALECT.ddl_compiler(DIALECT, None).get_column_default_string(column)  # type: ignore[arg-type]
    return f"({default or 'null'})::{column.type.compile(dialect=DIALECT)}".replace("%", "%%")
