"""Seals what a client sends: personal data leave it in no other form."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TypeVar

from pydantic import BaseModel

from amends.connections import AWAY, address_of, database_away
from amends.database import Pool, open_pool
from amends.errors import ServerFailed
from amends.personal_keys import key_for, sealed_model

__all__ = ["ClientKeys"]

M = TypeVar("M", bound=BaseModel)

CONNECTIONS = 2
"""Most connections at a time: a key is looked up in less than a millisecond."""


class ClientKeys:
    """Keys as a client gets them; it connects when it first needs one.

    Args:
        url: a PostgreSQL URL or conninfo of a login that is a member of amends_client.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._pool: Pool | None = None

    async def seal(self, model: M, subject: str) -> M:
        """A message or request as it may travel, its personal fields sealed.

        Args:
            model: as it is meant.
            subject: whose data they are.

        Raises:
            Forgotten: whose data they are, has been forgotten.
            Unavailable: the database does not answer.
        """
        try:
            async with self._opening:  # many may need their first key at once, and are to share one pool
                if self._pool is None:
                    self._pool = await self._stack.enter_async_context(open_pool(self._url, "client", CONNECTIONS))
                pool = self._pool
            async with pool.connection() as connection:
                key = await key_for(connection, subject)
        except (*AWAY, ServerFailed) as error:
            raise database_away(error, address_of(self._url)) from error
        return sealed_model(model, subject, key)

    async def close(self) -> None:
        """Give the connections back."""
        self._pool = None
        await self._stack.aclose()
