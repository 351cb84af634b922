"""Databases to try things in: made for the purpose, on a server of its own or on one that was named, and dropped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from amends.database import conninfo
from amends.embedded import EmbeddedPostgres, free_port

__all__ = ["PASSING", "scratch_database", "scratch_server"]

PASSING = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
"""What is thrown away need not survive anything."""

CREATE = "create database {} template template0"
"""A database with nothing in it."""

DROP = "drop database {} with (force)"
"""Whoever is still connected has forgotten to leave."""


@contextmanager
def scratch_server(url: str | None) -> Iterator[str]:
    """A PostgreSQL to make databases on; never the one that the settings name.

    Args:
        url: of a login that may create databases; an embedded server in a temporary folder when not given.

    Raises:
        ServerFailed: the embedded one did not start.
    """
    if url is not None:
        yield url
        return
    with TemporaryDirectory(prefix="amends-") as home:
        server = EmbeddedPostgres(Path(home), free_port(), options=PASSING)
        try:
            server.start()
            server.wait_ready()
            yield server.url
        finally:
            server.stop()


@contextmanager
def scratch_database(server: str) -> Iterator[str]:
    """A new, empty database; dropped in the end.

    Args:
        server: as `scratch_server` gives it.
    """
    name = f"amends_check_{uuid4().hex}"
    _run(server, sql.SQL(CREATE).format(sql.Identifier(name)))
    try:
        yield make_conninfo(server, dbname=name)
    finally:
        _run(server, sql.SQL(DROP).format(sql.Identifier(name)))


def _run(server: str, statement: sql.Composed) -> None:
    with psycopg.connect(conninfo(server, "owner"), autocommit=True) as connection:
        connection.execute(statement)
