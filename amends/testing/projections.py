"""Given what a projection has seen, when this happens, then that is in its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, Unpack

from pydantic import TypeAdapter
from sqlalchemy import Column, Table
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.schema import DefaultClause

from amends.batch import fold
from amends.changes import Change
from amends.columns import SET, apply
from amends.messages import Event
from amends.projection import Projection
from amends.read_tables import ReadTable
from amends.testing.logged import Facts, logged

__all__ = ["ProjectionCase"]

Row = Mapping[str, Any]
Key = tuple[Any, ...]


@dataclass(frozen=True)
class ProjectionCase:
    """A projection under test, and the rows it has made: folded as the projector folds them, written as MERGE would.

    Args:
        projection: the projection.
        rows: of each table, by their keys; columns without the key.
        seen: how many events it has seen.
    """

    projection: Projection
    rows: Mapping[ReadTable, Mapping[Key, Row]] = field(default_factory=dict)
    seen: int = 0

    def when(self, *events: Event, **facts: Unpack[Facts]) -> Self:
        """Let it apply events, in one batch.

        Args:
            events: what happens.
            facts: what the log tells of them besides, e.g. `recorded_at=…`; made up where it is not given.
        """
        if not events:
            return self
        batch = fold(self.projection, [logged(event, self.seen + n, facts) for n, event in enumerate(events, 1)])
        rows = {table: dict(self.rows.get(table, {})) for table in self.projection.tables.values()}
        for table, changes in batch.rows.changes.items():
            for key, change in changes.items():
                _write(table, rows[table], key, change)
        return replace(self, rows=rows, seen=self.seen + len(events))

    def then_row(self, table: Table, key: Any, /, **columns: Any) -> Self:
        """Assert that a row is there, with these values; columns that are not named are not looked at.

        Args:
            table: as the projection declared it.
            key: value of its primary key; a tuple where that has several columns.
            columns: column → value.
        """
        read_table, kept, row = self._row(table, key)
        assert row is not None, f"expected a row {kept} in {table.name}, but there are {list(self._keys(read_table))}"
        expected = {column: read_table.op(SET, column, value)[1] for column, value in columns.items()}
        actual = {column: row[column] for column in columns}
        assert actual == expected, f"expected {expected}\nbut got  {actual}\nin row {kept} of {table.name}"
        return self

    def then_no_row(self, table: Table, key: Any, /) -> Self:
        """Assert that a row is not there."""
        _, kept, row = self._row(table, key)
        assert row is None, f"expected no row {kept} in {table.name}, but got {row}"
        return self

    def _row(self, table: Table, key: Any) -> tuple[ReadTable, Key, Row | None]:
        assert table in self.projection.tables, f"{table!r} is no table of projection {self.projection.name!r}"
        read_table = self.projection.tables[table]
        kept = read_table.key_of(key if isinstance(key, tuple) else (key,))
        return read_table, kept, self.rows.get(read_table, {}).get(kept)

    def _keys(self, table: ReadTable) -> Mapping[Key, Row]:
        return self.rows.get(table, {})


def _write(table: ReadTable, rows: dict[Key, Row], key: Key, change: Change) -> None:
    """Do to a row what the statement of `amends.merging` does."""
    if change.derived:
        before = rows.get(key)
        made = before is None or None in change.steps
        plain = [column for column in table.columns if column.name not in table.key]
        change.settle(key, before, {str(c.name): _default(table, c) for c in plain} if made else {})
    for step in change.steps:
        if step is None:
            rows.pop(key, None)
            continue
        before = rows.get(key)
        row: dict[str, Any] = {}
        for column in table.columns:
            name = str(column.name)
            if name in table.key:
                continue
            op = step.get(name)
            if op is not None and op[0] == SET:
                row[name] = op[1]
            else:
                now = _default(table, column) if before is None else before[name]
                row[name] = now if op is None else apply(op, now)
            assert row[name] is not None or column.nullable, f"{table.name}.{name} of row {key} must not be null"
        rows[key] = row


def _default(table: ReadTable, column: Column[Any]) -> Any:
    """The value that the database gives a column when nobody else does."""
    if column.server_default is None:
        return None
    clause = column.server_default
    if not isinstance(clause, DefaultClause) or not isinstance(clause.arg, str):
        raise TypeError(f"The default of {table.name}.{column.name} is SQL; no one but the database can tell its value")
    if isinstance(column.type, JSONB):
        return TypeAdapter(Any).validate_json(clause.arg)
    return table.kinds[str(column.name)].check(TypeAdapter(column.type.python_type).validate_strings(clause.arg))
