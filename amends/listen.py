"""Hearing notifications of PostgreSQL, over whatever connection there is."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from types import TracebackType
from typing import Self

import structlog
from psycopg import AsyncConnection, sql
from psycopg import Error as PgError
from psycopg.rows import TupleRow

from amends.database import Role, conninfo

__all__ = ["FIRST_RETRY", "LAST_RETRY", "Listener", "scattered"]

log = structlog.get_logger("amends.notify")

FIRST_RETRY = 0.05
"""Seconds until the first new attempt after a database error; doubles up to `LAST_RETRY`."""

LAST_RETRY = 5.0
"""Most seconds between two attempts."""


def scattered(seconds: float) -> float:
    """A pause of about so many seconds: whoever lost a server in the same moment does not come back in the same one."""
    return seconds * random.uniform(0.5, 1.0)


class Listener:
    """Hears a channel on a connection of its own, and finds a new connection when that one breaks.

    Args:
        url: a PostgreSQL URL or conninfo.
        role: which role it acts as.
        channel: name of the channel.
    """

    def __init__(self, url: str, role: Role, channel: str) -> None:
        self._conninfo = conninfo(url, role)
        self._channel = channel
        self._connection: AsyncConnection[TupleRow] | None = None
        self._reconnecting: asyncio.Task[AsyncConnection[TupleRow]] | None = None
        self._retry = FIRST_RETRY

    async def __aenter__(self) -> Self:
        self._connection = await self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            for late in await asyncio.gather(self._reconnecting, return_exceptions=True):
                self._connection = None if isinstance(late, BaseException) else late
        await self._drop()

    @property
    def connected(self) -> bool:
        """Whether it hears anything at the moment; from the first error on it does not, until `take` says so."""
        return self._connection is not None

    async def wait(self, timeout: float) -> str | None:
        """Wait for a notification; several that have come are one.

        Args:
            timeout: seconds, at most.

        Returns:
            the payload of the latest; "" after a reconnection (any may have been missed: look); None when none came.
        """
        payloads = await self.take(timeout)
        return payloads[-1] if payloads else None

    async def take(self, timeout: float) -> list[str]:
        """As `wait`, but every payload that has come, oldest first."""
        deadline = asyncio.get_running_loop().time() + timeout
        if self._connection is not None:
            try:
                async with aclosing(self._connection.notifies(timeout=timeout, stop_after=1)) as arriving:
                    payloads = [notification.payload async for notification in arriving]
                self._retry = FIRST_RETRY
                return payloads
            except (PgError, OSError) as error:
                log.warning("listen_broken", channel=self._channel, error=str(error), retry_seconds=self._retry)
                await self._drop()
        if self._reconnecting is None:
            # a task of its own: callers with short time-outs must not break off every attempt
            self._reconnecting = asyncio.create_task(self._reconnect(), name=f"{self._channel}-reconnect")
        left = max(deadline - asyncio.get_running_loop().time(), 0)
        await asyncio.wait({self._reconnecting}, timeout=left)
        if not self._reconnecting.done():
            return []
        self._connection, self._reconnecting = self._reconnecting.result(), None
        return [""]

    async def _reconnect(self) -> AsyncConnection[TupleRow]:
        while True:
            await asyncio.sleep(scattered(self._retry))
            # what was heard, not what was connected, ends the backing off: a connection may break at once
            self._retry = min(2 * self._retry, LAST_RETRY)
            try:
                return await self._connect()
            except (PgError, OSError) as error:
                log.warning("listen_failed", channel=self._channel, error=str(error), retry_seconds=self._retry)

    async def _connect(self) -> AsyncConnection[TupleRow]:
        connection = await AsyncConnection.connect(self._conninfo, autocommit=True)
        try:
            await connection.execute(sql.SQL("listen {}").format(sql.Identifier(self._channel)))
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
