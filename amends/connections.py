"""Connections for questions, and what is said when PostgreSQL does not answer them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import exc as sa
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from amends.errors import Unavailable
from amends.outages import first_line
from amends.revisions import FOUND, refuse_newer

__all__ = ["AWAY", "Connections", "address_of", "database_away"]

_FOUND = text(FOUND)

AWAY = (sa.OperationalError, sa.InterfaceError, sa.TimeoutError, psycopg.OperationalError, psycopg.InterfaceError)
"""How a database that is away is told by what we reach it with; pools that time out among them."""


def database_away(error: BaseException, address: str = "") -> Unavailable:
    """PostgreSQL does not answer a question.

    Args:
        error: one of `AWAY`.
        address: where it was asked; empty where the error says so itself.
    """
    where = f"PostgreSQL at {address}" if address else "PostgreSQL"
    told = first_line(getattr(error, "orig", None) or error)
    return Unavailable(
        f"{where} does not answer: {told}. Nothing was changed by asking; see whether it runs, and AMENDS_DATABASE_URL",
        server="PostgreSQL",
    )


def address_of(url: str) -> str:
    """Where a database is, without login: host, port and name.

    Args:
        url: a PostgreSQL URL or conninfo.
    """
    parts = conninfo_to_dict(url)
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


class Connections:
    """Connections for questions; a database that is away is told as `Unavailable`.

    Args:
        engine: makes them.
        address: where to, for people.
    """

    def __init__(self, engine: AsyncEngine, address: str) -> None:
        self._engine, self._address = engine, address
        self._known = False

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """A connection, for one question.

        Raises:
            Unavailable: the database does not answer, or no longer.
            SchemaTooNew: newer code has migrated it; found at the first question.
        """
        with self._answers():
            async with self._engine.connect() as connection:
                if not self._known:
                    refuse_newer((await connection.execute(_FOUND)).scalar_one_or_none(), self._address)
                    self._known = True
                yield connection

    @contextmanager
    def _answers(self) -> Iterator[None]:
        try:
            yield
        except AWAY as error:
            raise database_away(error, self._address) from error
