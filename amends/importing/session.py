"""A connection that imports from one source, which it has to itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from psycopg import OperationalError
from psycopg import errors as pg

from amends.aggregate import Aggregate
from amends.bulk import BulkHandler
from amends.database import Connection, conninfo
from amends.errors import AlreadyRunning, ServerFailed, StartupError
from amends.transactions import refuse_a_log_ahead

__all__ = ["importing"]

PATIENCE = "set lock_timeout = '5s'"
"""Seconds for which somebody else may still be ending, a killed import whose last statement runs, for example."""

ALONE = "select pg_advisory_lock(hashtextextended('amends.import:' || %s, 0))"
"""Have a source to oneself, for as long as the session lasts."""


@asynccontextmanager
async def importing(
    url: str, aggregates: Iterable[type[Aggregate[Any, Any]]], source: str
) -> AsyncIterator[tuple[Connection, BulkHandler]]:
    """A connection of the writer, and what runs commands on it.

    Args:
        url: of the database.
        aggregates: the classes whose commands can be sent.
        source: name of the other system.

    Raises:
        AlreadyRunning: somebody else imports from it.
        ServerFailed: the database is not there, or goes away.
        StartupError: its schema is not up to date, or its log is ahead of its cluster.
    """
    try:
        connection = await Connection.connect(conninfo(url, "writer"), autocommit=True)
    except OperationalError as error:
        told = f"No connection to PostgreSQL: {error}. See AMENDS_DATABASE_URL, and run `amends migrate` if it is new"
        raise ServerFailed(told) from error
    async with connection:  # the lock ends with its session
        try:
            await connection.execute(PATIENCE)
            await connection.execute(ALONE, (source,))
            await refuse_a_log_ahead(connection, readers=False)
        except pg.LockNotAvailable:
            raise AlreadyRunning(
                f"Somebody else imports from {source!r}, or follows it; let that end first, or name another --source"
            ) from None
        try:
            yield connection, BulkHandler(aggregates)
        except (pg.UndefinedTable, pg.UndefinedFunction) as error:
            raise StartupError(f"The schema is not up to date: {error}. Run `amends migrate` first") from error
        except OperationalError as error:
            raise ServerFailed(
                f"PostgreSQL has gone away: {error}. What was taken over is safe; run it again when it is back"
            ) from error
