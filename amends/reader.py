"""The read side as a program meets it: queries, waiting until their answers are fresh, watching what happens."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine

from amends.asking import unaskable
from amends.checkpoints import Checkpoints
from amends.connections import Connections, address_of
from amends.database import conninfo
from amends.errors import InvalidInput
from amends.freshness import Freshness
from amends.query import Query
from amends.query_cache import QueryCache, identity
from amends.records import START, Position
from amends.sources import Sources
from amends.standings import Standings
from amends.watching import Change, Changes, Watching, resumed

__all__ = ["Reader"]

T = TypeVar("T")
R = TypeVar("R", bound=Change)

HEAD = text("select head_xid, head_position, log_id from views.feed_status")
"""Where the log ends, and which one it is."""


class Reader:
    """The read side. Close it, or use it as a context manager.

    Args:
        url: a PostgreSQL URL or conninfo of a login that is a member of amends_reader.
        size: most connections for queries at a time; those who wait, watch or keep answers share one more.
        sources: which projections keep which views; without it, projections are known by their own names only.
        cache_seconds: how long an answer may be kept, as long as nothing it is made of changes; 0 keeps none.
        cache_entries: how many are kept at most.
    """

    def __init__(
        self,
        url: str,
        size: int,
        sources: Sources | None = None,
        *,
        cache_seconds: float = 0.0,
        cache_entries: int = 1000,
    ) -> None:
        self._engine = create_async_engine(
            "postgresql+psycopg://",
            connect_args=conninfo_to_dict(conninfo(url, "reader")),
            isolation_level="AUTOCOMMIT",
            pool_size=size,
            max_overflow=0,
            pool_timeout=20,
            pool_pre_ping=True,
        )
        self._sources = sources or Sources()
        self._database = Connections(self._engine, address_of(url))
        self._checkpoints = Checkpoints(url, Standings(self._database), self._sources)
        self._watching = Watching(self._answer)
        self._checkpoints.observe(self._watching.wake)
        self.cache: QueryCache | None = None
        if cache_seconds > 0:
            self.cache = cache = QueryCache(cache_seconds, cache_entries, lambda: self._checkpoints.listening)
            self._checkpoints.observe(cache.forget, keeping=lambda: len(cache) > 0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give all connections back."""
        await self._watching.close()
        await self._checkpoints.close()
        if self.cache is not None:
            await self.cache.close()
        await self._engine.dispose()

    async def query(self, query: Query[T]) -> T:
        """The answer, as of now, or a kept one that nobody has said is out of date.

        Raises:
            Unavailable: the database does not answer.
            InvalidInput: it can't do what was asked for; names the argument.
            pydantic.ValidationError: the rows are not what the query's class says.
        """
        if self.cache is None:
            return await self._answer(query)
        projections, question = self.projections_of(query), identity(query.statement)
        if projections is None or question is None:  # nobody would say when it changes
            return await self._answer(query)
        self._checkpoints.start()
        return query.read(await self.cache.rows(question, projections, lambda: self._rows(query)))

    def projections_of(self, query: Query[Any]) -> frozenset[str] | None:
        """The projections whose rows a query reads; None when it reads anything else too."""
        return self._sources.of(query.views)

    async def head(self) -> Position:
        """The position of the last committed event."""
        return (await self._log())[1]

    async def resume(self, after: Position | str) -> Position:
        """Where a watcher goes on, whose cursor or position may be of another log; errors as `watching.resumed`.

        Args:
            after: the cursor of a change, or a position.
        """
        return after if after == START else resumed(after, *await self._log())

    async def _log(self) -> tuple[str | None, Position]:
        """Which log it is, and where it ends."""
        async with self._database.connect() as connection:
            xid, number, log = (await connection.execute(HEAD)).one()
        return log, Position(xid or 0, number or 0)

    async def at_least(
        self, position: Position, projections: str | Collection[str], timeout: float, key: str | None = None
    ) -> Freshness:
        """Wait until projections have applied everything up to a position; see `Checkpoints.at_least`.

        Raises:
            InvalidInput: the position or the key can't be one, or there is no such view or projection; names it.
        """
        problems = unaskable({"position": position, "key": key, "projections": projections})
        if not isinstance(key, str | None):
            problems["key"] = "must be a text"
        if not isinstance(projections, Collection) or not all(isinstance(each, str) for each in projections):
            problems["projections"] = "must be a name, or several"
        if problems:
            raise InvalidInput(problems)
        return await self._checkpoints.at_least(position, projections, timeout, key)

    async def changes(self, changes: Changes[R], key: str, after: Position, timeout: float) -> list[R]:
        """What has happened to a thing since a position, as soon as there is anything; see `Watching.next`.

        Raises:
            InvalidInput: the key or the position can't be one; names it.
        """
        if problems := unaskable(
            {"key": key, "after": after}
        ):  # it would fail for all who watch, being asked with them
            raise InvalidInput(problems)
        self._checkpoints.start()
        found = await self._watching.next(changes, key, after, timeout)
        if found and self.cache is not None:  # what was pushed may come before the note that says so
            for projection in self._sources.of({changes.view.name}) or (None,):
                self.cache.forget(projection)
        return found

    async def _answer(self, query: Query[T]) -> T:
        return query.read(await self._rows(query))

    async def _rows(self, query: Query[Any]) -> Sequence[Mapping[str, Any]]:
        try:
            async with self._database.connect() as connection:
                return [dict(row) for row in (await connection.execute(query.statement)).mappings()]
        except ProgrammingError as error:
            problems = query.refused.get(getattr(error.orig, "sqlstate", None) or "")
            if problems is None:
                raise
            raise InvalidInput(problems) from error
