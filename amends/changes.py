"""What events do to rows, folded in memory: a batch costs one statement a table, with the effect of one event each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

from pydantic_core import to_json
from sqlalchemy import Table

from amends.columns import ADD, APPEND, GREATEST, LEAST, SET, Op, apply, compose
from amends.errors import InvalidInput, Poisoned
from amends.read_tables import ReadTable
from amends.records import START, Position

__all__ = ["Change", "Derives", "Rows"]

Step = dict[str, Op] | None
"""What one statement does to a row: operations by column, or None to delete it."""

Derives = Callable[[Mapping[str, Any]], Any]
"""A column's new value, from the row as it is: column → value, the key's columns included."""

DERIVE = "="
"""Not for SQL: the operand is a `Derives` and the position of the event that wants it."""


class Marker:
    """Which event is being applied; shared by all changes of a batch, which would be a cycle if they held the batch."""

    __slots__ = ("position",)

    def __init__(self) -> None:
        self.position = START


class Change:
    """What becomes of one row. Operations can be chained; a row that is not there is made first, with its defaults."""

    __slots__ = ("_at", "_table", "derived", "steps")

    def __init__(self, table: ReadTable, at: Marker) -> None:
        self._table, self._at = table, at
        self.steps: list[Step] = []
        self.derived = False

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
        self.steps = [*self.steps, None] if self.derived else [None]  # what is derived may fail, and is to be seen to
        return self

    def derive(self, **columns: Derives) -> Self:
        """Give columns new values that depend on the row as it is then; where no other operation can say it.

        All of a batch's derived rows are read by one statement a table, which the other operations do without.

        Args:
            columns: column → function of the row; the same functions see the same row.
        """
        for name in columns:
            self._table.settable(name)
        self.steps.append({name: (DERIVE, (function, self._at.position)) for name, function in columns.items()})
        self.derived = True
        return self

    def settle(self, key: tuple[Any, ...], now: Mapping[str, Any] | None, new: Mapping[str, Any]) -> None:
        """Turn what is derived into plain values.

        Args:
            key: of the row.
            now: the row's other columns as they are; None when there is no such row.
            new: the values that a new row has.

        Raises:
            Poisoned: a function failed, or its value does not fit.
        """
        row, touched = (None if now is None else dict(now)), set[str]()
        for step in self.steps:
            if step is None:
                row, touched = None, set(new)
                continue
            row = dict(new) if row is None else row
            before = {**dict(zip(self._table.key, key, strict=True)), **row}
            for name, (op, operand) in step.items():
                row[name] = self._derived(name, operand, before) if op == DERIVE else apply((op, operand), row[name])
            touched |= set(step)
        self.steps = [None if row is None else {name: (SET, row[name]) for name in touched}]
        self.derived = False

    def _derived(self, name: str, operand: tuple[Derives, Position], before: Mapping[str, Any]) -> Any:
        function, position = operand
        try:
            return self._table.op(SET, name, function(before))[1]
        except Exception as error:
            raise Poisoned(position, error) from error

    def _do(self, op: str, columns: Mapping[str, Any]) -> Self:
        last = self.steps[-1] if self.steps else None
        if last is None or (self.derived and any(known == DERIVE for known, _ in last.values())):
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
        at: which event is being applied.
    """

    def __init__(self, projection: str, tables: Mapping[Table, ReadTable]) -> None:
        self._projection = projection
        self._tables = tables
        self.at = Marker()
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
        change = changes.get(kept)
        if change is None:
            change = changes[kept] = Change(read_table, self.at)
        return change

    def reads(self) -> Iterator[tuple[ReadTable, bytes]]:
        """What has to be read first: the table, and the JSON of the keys for its statement that reads."""
        for table, changes in self.changes.items():
            keys = [dict(zip(table.key, key, strict=True)) for key, change in changes.items() if change.derived]
            if keys:
                yield table, to_json(keys)

    def settle(self, table: ReadTable, found: Sequence[Sequence[Any]]) -> None:
        """Turn what is derived into plain values, given what the statement that reads has found.

        Raises:
            Poisoned: a function failed, or its value does not fit.
        """
        width, plain = len(table.key), [name for name in table.kinds if name not in table.key]
        for row in found:
            key, there = table.key_of(row[:width]), row[width]
            now, new = row[width + 1 : width + 1 + len(plain)], row[width + 1 + len(plain) :]
            change = self.changes[table][key]
            change.settle(
                key, dict(zip(plain, now, strict=True)) if there else None, dict(zip(plain, new, strict=True))
            )

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
