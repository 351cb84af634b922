"""Reads the tables of another system's database, from a watermark on and page by page."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    and_,
    column,
    event,
    func,
    literal_column,
    make_url,
    select,
    table,
    text,
    tuple_,
)
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from amends.errors import InvalidInput, ServerFailed
from amends.importing.mapping import TableMapping
from amends.importing.reading import Line
from amends.importing.times import read_times_as_text_where_need_be

__all__ = ["Page", "SourceTable", "Watermark", "read_mark", "source_engine"]

Watermark = int | datetime
"""How far a table is read: a number, or a time with or without zone, as the column has it."""

_NUMBER = re.compile(r"-?\d+")

NUMBERS, TIMES = {20, 21, 23}, {1114, 1184}
"""PostgreSQL's own numbers of the types that a watermark may have: whole numbers, and times."""

FIRST, LAST = "'0001-01-01'", "'9999-12-31 23:59:59.999999'"
"""The first and the last time that Python knows; PostgreSQL has others, and infinite ones."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a table.

    Args:
        lines: the rows as records.
        last: watermark and key of the last row, from which the next page goes on.
        mark: how far the table is read then: the last row's watermark, but never later than the database's clock.
    """

    lines: list[Line]
    last: tuple[Any, Any]
    mark: Watermark


def read_mark(mark: str) -> Watermark:
    """A watermark that was kept as text."""
    return int(mark) if _NUMBER.fullmatch(mark) else datetime.fromisoformat(mark)


@asynccontextmanager
async def source_engine(url: str) -> AsyncIterator[AsyncEngine]:
    """Connections to another system's PostgreSQL, which can only read.

    Args:
        url: of the database.

    Raises:
        InvalidInput: that is no address.
        ServerFailed: the database is not there, goes away, or does not have what the mapping names.
    """
    try:
        address = make_url(url).set(drivername="postgresql+psycopg")
    except ArgumentError:
        raise InvalidInput(
            {"from": "is no database URL; they look like postgresql://user:password@host/name"}
        ) from None
    options = "-c default_transaction_read_only=on"
    engine = create_async_engine(
        address, isolation_level="AUTOCOMMIT", pool_pre_ping=True, connect_args={"options": options}
    )
    event.listen(engine.sync_engine, "connect", read_times_as_text_where_need_be)
    try:
        yield engine
    except DBAPIError as error:
        told = str(error.orig).strip().splitlines()[0]
        raise ServerFailed(f"The other system's database at {address.host}: {told}") from error
    finally:
        await engine.dispose()


class SourceTable:
    """A table that is followed.

    Args:
        engine: connections to its database.
        mapping: its name, key, watermark, and what its columns become.
    """

    def __init__(self, engine: AsyncEngine, mapping: TableMapping) -> None:
        self._engine, self._mapping = engine, mapping
        schema, _, name = mapping.table.rpartition(".")
        columns: list[ColumnClause[Any]] = [column(each) for each in sorted(mapping.columns())]
        self._table = table(name, *columns, schema=schema or None)
        self._watermark: ColumnElement[Any] = self._table.c[mapping.watermark]
        self._key: ColumnElement[Any] = self._table.c[mapping.key]
        self._placed: ColumnElement[bool] = self._watermark.is_not(None)
        self._chosen = select(self._table)
        self._counted = select(func.count()).select_from(self._table)
        if mapping.where is not None:
            condition = text(f"({mapping.where})")  # an OR in it must not swallow the conditions that are added
            self._chosen = self._chosen.where(condition)
            self._counted = self._counted.where(condition)
        self.name = f"{mapping.kind or '*'}:{mapping.table}"

    async def check(self) -> None:
        """See to it that the table can be followed.

        Raises:
            InvalidInput: the watermark is neither a whole number nor a time.
        """
        async with self._engine.connect() as connection:
            found = await connection.execute(select(self._watermark).limit(0))
            assert found.cursor is not None
            kind = found.cursor.description[0][1]
        if kind not in NUMBERS | TIMES:
            told = f"column {self._mapping.watermark!r} of {self._mapping.table} is neither a whole number nor a time"
            raise InvalidInput({"watermark": told})
        if kind in TIMES:
            known = self._watermark.between(literal_column(FIRST), literal_column(LAST))
            self._placed = and_(self._placed, known)

    def low(self, mark: Watermark | None) -> Watermark | None:
        """Where a look begins: behind the watermark, for a row may be committed later than it says.

        Args:
            mark: how far the table is read; None begins at its first row.
        """
        if mark is None:
            return None
        overlap = self._mapping.overlap
        try:
            return mark - timedelta(seconds=overlap) if isinstance(mark, datetime) else mark - int(overlap)
        except OverflowError:  # before the first time that there is
            return None

    async def page(
        self, low: Watermark | None, after: tuple[Any, Any] | None, limit: int, number: int = 0
    ) -> Page | None:
        """The next rows that have a watermark, by that and the key: rows with the same watermark are not skipped.

        Args:
            low: the smallest watermark wanted.
            after: `last` of the page before.
            limit: most rows.
            number: how many came before, for the numbers of the lines.

        Returns:
            None when there are no more.
        """
        query = self._chosen.where(self._placed).order_by(self._watermark, self._key).limit(limit)
        if low is not None:
            query = query.where(self._watermark >= low)
        if after is not None:
            query = query.where(tuple_(self._watermark, self._key) > after)
        async with self._engine.connect() as connection:
            now, local = (await connection.execute(select(func.clock_timestamp(), func.localtimestamp()))).one()
            rows = (await connection.execute(query)).mappings().all()
        if not rows:
            return None
        last = rows[-1][self._mapping.watermark]
        if isinstance(last, datetime):
            mark: Watermark = min(last, now.astimezone(UTC) if last.tzinfo else local)
        else:
            mark = last
        lines = [self._line(number + n, row) for n, row in enumerate(rows, 1)]
        return Page(lines, (last, rows[-1][self._mapping.key]), mark)

    async def astray(self, after: Any | None, limit: int, number: int = 0) -> tuple[list[Line], Any]:
        """The next rows, by key, whose watermark is none: they have no place among the others.

        Args:
            after: key of the last one before; from the first when not given.
            limit: most rows.
            number: how many came before, for the numbers of the lines.

        Returns:
            the rows as records, and the key of the last.
        """
        query = self._chosen.where(self._placed.is_not(True)).order_by(self._key).limit(limit)
        if after is not None:
            query = query.where(self._key > after)
        async with self._engine.connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
        lines = [self._line(number + n, row) for n, row in enumerate(rows, 1)]
        return lines, rows[-1][self._mapping.key] if rows else None

    def unseen(self, line: Line) -> Line:
        """A row astray as one that can't be followed, and why."""
        column = self._mapping.watermark
        told = f"column {column!r} has no number or time by which anybody could see it change"
        return replace(line, problems={"watermark": told})

    async def behind(self, mark: Watermark | None) -> int:
        """How many rows are past a watermark."""
        query = self._counted.where(self._placed)
        query = query if mark is None else query.where(self._watermark > mark)
        async with self._engine.connect() as connection:
            return int((await connection.execute(query)).scalar_one())

    def _line(self, number: int, row: Any) -> Line:
        data, problems = self._mapping.record(row)
        return Line(number, 0, data, problems or None)
