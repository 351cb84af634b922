"""Typed questions to the views: a SQLAlchemy select, answered in pydantic rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from psycopg.conninfo import conninfo_to_dict
from pydantic import BaseModel
from sqlalchemy import RowMapping, Select, TextualSelect, text
from sqlalchemy.ext.asyncio import create_async_engine

from amends.database import conninfo
from amends.freshness import Checkpoints, Freshness
from amends.records import Position

__all__ = ["Query", "Reader", "first", "many"]

T = TypeVar("T")
R = TypeVar("R", bound=BaseModel)

STATUS = text("select projection, xid, position from views.projection_status")
"""Where every projection stands."""

HEAD = text("select head_xid, head_position from views.feed_status")
"""Where the log ends."""


@dataclass(frozen=True)
class Query(Generic[T]):
    """A question and how its answer is read: made by `many` or `first`.

    Args:
        statement: a select over views.
        read: turns the rows found into the answer.
    """

    statement: Select[Any] | TextualSelect
    read: Callable[[Sequence[RowMapping]], T]


def many(statement: Select[Any] | TextualSelect, row: type[R]) -> Query[list[R]]:
    """A query for all rows.

    Args:
        statement: a select whose columns are the fields of the row class; `text("select …").columns()` will do.
        row: the class of its rows.
    """
    return Query(statement, lambda found: [row.model_validate(dict(one)) for one in found])


def first(statement: Select[Any], row: type[R]) -> Query[R | None]:
    """A query for the first row, or None when there is none; arguments as for `many`."""
    return Query(statement.limit(1), lambda found: row.model_validate(dict(found[0])) if found else None)


class Reader:
    """The read side: queries, and waiting until the answers are fresh. Close it, or use it as a context manager.

    Args:
        url: a PostgreSQL URL or conninfo of a login that is a member of amends_reader.
        size: most connections for queries at a time; those who wait share one more.
    """

    def __init__(self, url: str, size: int) -> None:
        self._engine = create_async_engine(
            "postgresql+psycopg://",
            connect_args=conninfo_to_dict(conninfo(url, "reader")),
            isolation_level="AUTOCOMMIT",
            pool_size=size,
            max_overflow=0,
            pool_timeout=20,
            pool_pre_ping=True,
        )
        self._checkpoints = Checkpoints(url, self._status)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give all connections back."""
        await self._checkpoints.close()
        await self._engine.dispose()

    async def query(self, query: Query[T]) -> T:
        """The answer, as of now.

        Raises:
            pydantic.ValidationError: the rows are not what the query's class says.
        """
        async with self._engine.connect() as connection:
            result = await connection.execute(query.statement)
            return query.read(result.mappings().all())

    async def head(self) -> Position:
        """The position of the last committed event."""
        async with self._engine.connect() as connection:
            xid, number = (await connection.execute(HEAD)).one()
        return Position(xid or 0, number or 0)

    async def at_least(self, position: Position, projections: Collection[str], timeout: float) -> Freshness:
        """Wait until projections have applied everything up to a position; see `Checkpoints.at_least`."""
        return await self._checkpoints.at_least(position, projections, timeout)

    async def _status(self) -> dict[str, Position]:
        async with self._engine.connect() as connection:
            rows = (await connection.execute(STATUS)).all()
        status: dict[str, Position] = {}
        for name, xid, number in rows:  # a version being built trails the one that is shown, until it takes its place
            status[name] = max(status.get(name, Position(0, 0)), Position(xid, number))
        return status
