"""The servers that all contenders of a run share: embedded PostgreSQL and, where a benchmark needs it, Temporal."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from psycopg import sql

from amends.app import install
from amends.embedded import EmbeddedPostgres, EmbeddedTemporal, free_port
from amends.visibility import SEARCH_ATTRIBUTES
from app import app as shop

__all__ = ["Servers"]


class Servers:
    """PostgreSQL and Temporal as `amends up` runs them, in a folder that can be thrown away.

    Args:
        home: the folder.
        sync: whether commits wait for the disk; without it they wait for everything else, so that what is compared is
            software, and not how long this machine's disk takes, which is the same for all.
    """

    def __init__(self, home: Path, *, sync: bool) -> None:
        self._home = home
        self.sync = sync
        self._postgres = EmbeddedPostgres(home, free_port(), options={} if sync else {"fsync": "off"})
        self._temporal: EmbeddedTemporal | None = None

    def __enter__(self) -> Self:
        try:
            self._postgres.start()
            self._postgres.wait_ready()
        except BaseException:
            self._postgres.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._temporal is not None:
                self._temporal.stop()
        finally:
            self._postgres.stop()

    def database(self, name: str) -> str:
        """The URL of a new, empty database.

        Args:
            name: what its name begins with.
        """
        full = f"{name}_{uuid4().hex[:8]}"
        with psycopg.connect(self._postgres.url, autocommit=True) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(full)))
        return urlsplit(self._postgres.url)._replace(path=f"/{full}").geturl()

    def shop(self, name: str) -> str:
        """The URL of a new database with the shop's schema.

        Args:
            name: what its name begins with.
        """
        url = self.database(name)
        install(shop, url)
        return url

    @cached_property
    def temporal(self) -> str:
        """Where Temporal answers, host:port; it is started by the first who asks."""
        attributes = {**SEARCH_ATTRIBUTES, **shop.search_attributes}
        database = self._home / "temporal.db"
        server = EmbeddedTemporal(self._home, free_port(), None, db_path=database, search_attributes=attributes)
        self._temporal = server
        server.start()
        server.wait_ready()
        return server.address

    @property
    def pids(self) -> dict[str, int]:
        """The servers' processes, by name."""
        found = {"postgres": self._postgres.pid, "temporal": self._temporal.pid if self._temporal else None}
        return {name: pid for name, pid in found.items() if pid is not None}
