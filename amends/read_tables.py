"""The tables of a projection: their columns, and the one statement that writes a batch to each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python
from sqlalchemy import Column, MetaData, Table
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.schema import DefaultClause, SchemaItem
from sqlalchemy.sql.schema import ScalarElementColumnDefault

from amends.columns import NAMES, SET, Op, kind_of
from amends.errors import InvalidInput
from amends.merging import DIALECT, merge_statement, read_statement
from amends.physical import defined, physical_name

__all__ = ["LATER", "Generation", "ReadTable"]

_SAFE = re.compile(r"[a-z][a-z0-9_]{0,50}")


LATER = {"later": True}
"""Mark of a column, by `info=`, that came when the view had computed ones: it is shown behind those, at the end."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One build of a table.

    Args:
        number: from 1.
        name: in schema read_models.
        merge: writes a batch; its one parameter is the JSON of the rows.
        read: finds rows by the JSON of their keys, and the values that a new row has.
    """

    number: int
    name: str
    merge: str
    read: str


class ReadTable:
    """One table of a projection, `read_models.<name>_v<version>`, behind the view `views.<name>`.

    Built again, the same version has further generations, `read_models.<name>_v<version>_g<generation>`.

    Args:
        projection: name of the projection it belongs to.
        version: of the projection.
        metadata: of the projection's tables.
        name: of the view and, with the version, of the table.
        items: its columns, each with a comment, and indexes if need be.
        comment: what a row is.
        computed: further columns of the view: name → SQL expression over the columns, comment.
        view: whether it is public at all.
        since: the version of the projection from which on its rows mean the same; its own, when not given.

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
        since: int | None = None,
    ) -> None:
        self.projection, self.name, self.comment, self.computed, self.view = projection, name, comment, computed, view
        self.version, self.since = version, version if since is None else since
        self.columns = [item for item in items if isinstance(item, Column)]
        self._check()
        for column in self.columns:
            _settle(column)
        self.table = Table(
            physical_name(name, version, 1),
            metadata,
            *items,
            schema="read_models",
            comment=comment,
            postgresql_with={"fillfactor": 50},  # room for updated rows on their page, so that indexes stay as they are
        )
        # SQLAlchemy's names are more than strings, which costs time in each batch
        self.kinds = {str(column.name): kind_of(column.type) for column in self.columns}
        self.key = [str(column.name) for column in self.columns if column.primary_key]
        self._required = {str(column.name) for column in self.columns if not column.nullable}
        self._key_checks = [self.kinds[name].check for name in self.key]
        self._operands = {
            (op, name): kind.operand(op) for name, kind in self.kinds.items() if name not in self.key for op in kind.sql
        }
        self.types = {column.name: column.type.compile(dialect=DIALECT) for column in self.columns}
        self._generations: dict[int, Generation] = {}

    def generation(self, number: int) -> Generation:
        """The table as one build of its version: its name, and the statements that write and read it.

        Args:
            number: which, from 1.
        """
        found = self._generations.get(number)
        if found is None:
            name = physical_name(self.name, self.version, number)
            merge, read = (
                make(name, self.columns, self.kinds, self.types) for make in (merge_statement, read_statement)
            )
            found = self._generations[number] = Generation(number, name, merge, read)
        return found

    def defined(self, number: int) -> Table:
        """The table of a generation, with its indexes, to create it."""
        return defined(self.table, self.name, self.generation(number).name)

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
        try:
            if len(values) == 1 == len(self.key):
                return (self._key_checks[0](values[0]),)
            return tuple([check(value) for check, value in zip(self._key_checks, values, strict=True)])
        except (TypeError, ValueError, ArithmeticError):
            if len(values) != len(self.key):
                problem = f"its key is ({', '.join(self.key)}), not {len(values)} values"
                raise InvalidInput({f"{self.projection}.{self.name}": problem}) from None
            for column, value in zip(self.key, values, strict=True):
                self._kept(column, self.kinds[column].check, value)
            raise

    def op(self, op: str, column: str, value: Any) -> Op:
        """An operation on a column, checked.

        Raises:
            InvalidInput: there is no such column, or it can't be done to it; names projection, table and column.
        """
        operand = self._operands.get((op, column))
        if operand is None:
            raise InvalidInput({f"{self.projection}.{self.name}.{column}": self._why_not(op, column)})
        if value is None and op == SET:
            if column in self._required:  # here, for a later event of the batch may hide it from the database
                raise InvalidInput({f"{self.projection}.{self.name}.{column}": "is never null"})
            return op, None
        return op, self._kept(column, operand, value)

    def settable(self, column: str) -> None:
        """See that a column can be set.

        Raises:
            InvalidInput: there is no such column, or it is of the key.
        """
        if (SET, column) not in self._operands:
            raise InvalidInput({f"{self.projection}.{self.name}.{column}": self._why_not(SET, column)})

    def _kept(self, column: str, operand: Callable[[Any], Any], value: Any) -> Any:
        try:
            return operand(value)
        except (TypeError, ValueError, ArithmeticError):
            problem = f"wants {self.kinds[column].wants}, not {type(value).__name__}"
            raise InvalidInput({f"{self.projection}.{self.name}.{column}": problem}) from None

    def _why_not(self, op: str, column: str) -> str:
        if column in self.key:
            return "is the key; a row keeps its key"
        if column not in self.kinds:
            return f"no such column; there are {', '.join(self.kinds)}"
        kind = self.kinds[column]
        return f"takes {', '.join(NAMES[known] for known in kind.sql)}, not {NAMES[op]}: it wants {kind.wants}"

    def _check(self) -> None:
        where = f"table {self.name!r} of projection {self.projection!r}"
        for name in (self.name, *(column.name for column in self.columns), *self.computed):
            if not _SAFE.fullmatch(name):
                raise TypeError(f"{name!r} in {where}: names are lower-case letters, digits and underscores")
        if not 1 <= self.since <= self.version:
            raise TypeError(f"since={self.since} in {where} is a version of the projection, from 1 to {self.version}")
        missing = [name for name, said in {"the table itself": self.comment, **self.comments}.items() if not said]
        if missing:
            raise TypeError(f"Say what it means, by comment=, in {where}: {', '.join(missing)}")
        if not any(column.primary_key for column in self.columns):
            raise TypeError(f"The {where} has no primary_key column: rows are written by their key")


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
