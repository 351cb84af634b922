"""What events do to rows, folded in memory: a batch costs one statement a table, with the effect of one event each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic_core import to_json
from sqlalchemy import Table

from amends.columns import ADD, APPEND, GREATEST, LEAST, SET, Op, compose
from amends.errors import InvalidInput
from amends.read_tables import ReadTable

__all__ = ["Change", "Rows"]

Step = dict[str, Op] | None
"""What one statement does to a row: operations by column, or None to delete it."""


class Change:
    """What becomes of one row. Operations can be chained; a row that is not there is made first, with its defaults."""

    __slots__ = ("_table", "steps")

    def __init__(self, table: ReadTable) -> None:
        self._table = table
        self.steps: list[Step] = []

    def set(self, **columns: Any) -> Self:
        """Give columns new values; None is SQL's null. With no column at all, only see to it that the row is there."""
        return self._do(SET, columns)

    def add(self, **columns: Any) -> Self:
        """Add to numbers; null counts as 0."""
        return self._do(ADD, columns)

    def append(self, **columns: Any) -> Self:
        """Append text to texts, or one element to JSONB arrays; null counts as empty."""
        return self._do(APPEND, columns)

    def least(self, **columns: Any) -> Self:
        """Lower numbers and times to these, where they are not lower already or null."""
        return self._do(LEAST, columns)

    def greatest(self, **columns: Any) -> Self:
        """Raise numbers and times to these, where they are not higher already or null."""
        return self._do(GREATEST, columns)

    def delete(self) -> Self:
        """Remove the row; what is done to it afterwards starts from a fresh one."""
        self.steps = [None]
        return self

    def _do(self, op: str, columns: Mapping[str, Any]) -> Self:
        last = self.steps[-1] if self.steps else None
        if last is None:
            self.steps.append(last := {})
        for name, value in columns.items():
            then = self._table.op(op, name, value)
            folded = compose(last[name], then) if name in last else then
            if folded is None:  # such as a sum and then a maximum: no one operation does both
                self.steps.append(last := {name: then})
            else:
                last[name] = folded
        return self


class Rows:
    """The rows that a batch of events changes: `rows(table, key)` is what becomes of that row.

    Args:
        projection: name of the projection, for messages.
        tables: those it may write.

    Attributes:
        changes: table → key → what becomes of that row.
    """

    def __init__(self, projection: str, tables: Mapping[Table, ReadTable]) -> None:
        self._projection = projection
        self._tables = tables
        self.changes: dict[ReadTable, dict[tuple[Any, ...], Change]] = {table: {} for table in tables.values()}

    def __call__(self, table: Table, *key: Any) -> Change:
        """The change of one row.

        Args:
            table: as the projection declared it.
            key: the values of its primary key.

        Raises:
            InvalidInput: the table is another projection's, or the key does not fit.
        """
        try:
            read_table = self._tables[table]
        except KeyError:
            raise InvalidInput({f"{self._projection}.{table.name}": "is not a table of this projection"}) from None
        kept = read_table.key_of(key)
        changes = self.changes[read_table]
        if kept not in changes:
            changes[kept] = Change(read_table)
        return changes[kept]

    def statements(self) -> Iterator[tuple[ReadTable, bytes]]:
        """What is to be sent, in order: the table (with its statement) and the statement's JSON."""
        for table, changes in self.changes.items():
            waiting = [(key, change.steps) for key, change in changes.items() if change.steps]
            step = 0
            while waiting:
                yield table, to_json([_row(table, key, steps[step]) for key, steps in waiting])
                step += 1
                waiting = [(key, steps) for key, steps in waiting if len(steps) > step]


def _row(table: ReadTable, key: tuple[Any, ...], step: Step) -> dict[str, Any]:
    row: dict[str, Any] = dict(zip(table.key, key, strict=True))
    if step is None:
        row["!"] = True
    else:
        for name, (op, value) in step.items():
            row[name], row[f"{name}!"] = value, op
    return row
