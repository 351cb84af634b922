"""The tables of a projection: their columns, and the one statement that writes a batch to each."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_jsonable_python
from sqlalchemy import Column, MetaData, Table
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.schema import DefaultClause, SchemaItem
from sqlalchemy.sql.schema import ScalarElementColumnDefault

from amends.columns import NAMES, SET, Op, kind_of
from amends.errors import InvalidInput

__all__ = ["ReadTable"]

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

_SAFE = re.compile(r"[a-z][a-z0-9_]{0,50}")


class ReadTable:
    """One table of a projection, `read_models.<name>_v<version>`, behind the view `views.<name>`.

    Args:
        projection: name of the projection it belongs to.
        version: of the projection.
        metadata: of the projection's tables.
        name: of the view and, with the version, of the table.
        items: its columns, each with a comment, and indexes if need be.
        comment: what a row is.
        computed: further columns of the view: name → SQL expression over the columns, comment.
        view: whether it is public at all.

    Raises:
        TypeError: something in the declaration is missing or can't be.
    """

    def __init__(
        self,
        projection: str,
        version: int,
        metadata: MetaData,
        name: str,
        items: Sequence[SchemaItem],
        *,
        comment: str,
        computed: Mapping[str, tuple[str, str]],
        view: bool,
    ) -> None:
        self.projection, self.name, self.comment, self.computed, self.view = projection, name, comment, computed, view
        self.columns = [item for item in items if isinstance(item, Column)]
        self._check()
        for column in self.columns:
            _settle(column)
        self.table = Table(
            f"{name}_v{version}",
            metadata,
            *items,
            schema="read_models",
            comment=comment,
            postgresql_with={"fillfactor": 50},  # room for updated rows on their page, so that indexes stay as they are
        )
        self.kinds = {column.name: kind_of(column.type) for column in self.columns}
        self.key = [column.name for column in self.columns if column.primary_key]
        self.types = {column.name: column.type.compile(dialect=DIALECT) for column in self.columns}
        self.merge = self._merge()

    @property
    def comments(self) -> dict[str, str]:
        """What each column of the view means."""
        plain = {column.name: column.comment or "" for column in self.columns}
        return plain | {name: comment for name, (_, comment) in self.computed.items()}

    def key_of(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """A row's key as it is kept.

        Raises:
            InvalidInput: too many or too few values, or of another type.
        """
        if len(values) != len(self.key):
            problem = f"its key is ({', '.join(self.key)}), not {len(values)} values"
            raise InvalidInput({f"{self.projection}.{self.name}": problem})
        return tuple(self._kept(name, SET, value) for name, value in zip(self.key, values, strict=True))

    def op(self, op: str, column: str, value: Any) -> Op:
        """An operation on a column, checked.

        Raises:
            InvalidInput: there is no such column, or it can't be done to it; names projection, table and column.
        """
        kind = self.kinds.get(column)
        problem = None
        if kind is None:
            problem = f"no such column; there are {', '.join(self.kinds)}"
        elif column in self.key:
            problem = "is the key; a row keeps its key"
        elif op not in kind.sql:
            able = ", ".join(NAMES[known] for known in kind.sql)
            problem = f"takes {able}, not {NAMES[op]}: it wants {kind.wants}"
        if problem:
            raise InvalidInput({f"{self.projection}.{self.name}.{column}": problem})
        if value is None and op == SET:
            return op, None
        return op, self._kept(column, op, value)

    def _kept(self, column: str, op: str, value: Any) -> Any:
        kind = self.kinds[column]
        try:
            return kind.operand(op, value)
        except (TypeError, ValueError, ArithmeticError):
            problem = f"wants {kind.wants}, not {type(value).__name__}"
            raise InvalidInput({f"{self.projection}.{self.name}.{column}": problem}) from None

    def _check(self) -> None:
        where = f"table {self.name!r} of projection {self.projection!r}"
        for name in (self.name, *(column.name for column in self.columns), *self.computed):
            if not _SAFE.fullmatch(name):
                raise TypeError(f"{name!r} in {where}: names are lower-case letters, digits and underscores")
        missing = [name for name, said in {"the table itself": self.comment, **self.comments}.items() if not said]
        if missing:
            raise TypeError(f"Say what it means, by comment=, in {where}: {', '.join(missing)}")
        if not any(column.primary_key for column in self.columns):
            raise TypeError(f"The {where} has no primary_key column: rows are written by their key")

    def _merge(self) -> str:
        defaults = {column.name: _default(column) for column in self.columns}
        plain = [name for name in self.types if name not in self.key]

        def case(name: str, now: str) -> str:
            kind = self.kinds[name]
            new = f'x."{name}"'
            done = "".join(f" when '{op}' then {sql.format(now=now, new=new)}" for op, sql in kind.sql.items())
            return f'case x."{name}!"{done} else {now} end'

        types = [f'"{name}" {kind}' for name, kind in self.types.items()] + [f'"{name}!" text' for name in plain]
        values = [f'x."{name}"' for name in self.key] + [case(name, defaults[name]) for name in plain]
        update = ", ".join(f'"{name}" = ' + case(name, f't."{name}"') for name in plain)
        return MERGE.format(
            table=f'read_models."{self.table.name}"',
            types=", ".join(types),
            same_key=" and ".join(f't."{name}" = x."{name}"' for name in self.key),
            update=f"update set {update}" if update else "do nothing",
            columns=", ".join(f'"{name}"' for name in [*self.key, *plain]),
            values=", ".join(values),
        )


def _settle(column: Column[Any]) -> None:
    """Make the database hold the default, and keep SQLAlchemy from making a whole-number key a sequence."""
    if column.computed is not None or column.identity is not None:
        raise TypeError(f"Column {column.name!r} is computed by the table; let the view do that, by computed=")
    if column.primary_key:
        column.autoincrement = False
    if column.default is not None and column.server_default is None:
        if not isinstance(column.default, ScalarElementColumnDefault):
            raise TypeError(f"Column {column.name!r}: a default must be a plain value, or SQL as server_default")
        value = to_jsonable_python(kind_of(column.type).check(column.default.arg))
        plain = isinstance(value, str) and not isinstance(column.type, JSONB)
        column.server_default, column.default = DefaultClause(value if plain else json.dumps(value)), None


def _default(column: Column[Any]) -> str:
    default = DIALECT.ddl_compiler(DIALECT, None).get_column_default_string(column)  # type: ignore[arg-type]
    return f"({default or 'null'})::{column.type.compile(dialect=DIALECT)}".replace("%", "%%")
