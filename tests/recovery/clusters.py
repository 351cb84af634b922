"""PostgreSQL clusters of a test's own, and copies of what is in them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from amends.embedded import EmbeddedPostgres, free_port
from amends.embedded.binaries import find_postgres
from tests.conftest import FAST

__all__ = ["cluster", "dump", "program", "restored"]


@contextmanager
def cluster(home: Path) -> Iterator[EmbeddedPostgres]:
    """A cluster that runs, its data in a folder."""
    server = EmbeddedPostgres(home, free_port(), options=FAST)
    try:
        server.start()
        server.wait_ready()
        yield server
    finally:
        server.stop()


def program(name: str, *arguments: str, url: str, user: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs against a database, as the account that owns its data where that matters."""
    parts = conninfo_to_dict(url)
    where = {
        "PGHOST": str(parts["host"]),
        "PGPORT": str(parts["port"]),
        "PGUSER": str(parts["user"]),
        "PGDATABASE": str(parts["dbname"]),
        "PGPASSWORD": str(parts["password"]),
    }
    return subprocess.run(
        [str(find_postgres() / name), *arguments],
        user=user,
        env={"PATH": os.environ["PATH"], **where},
        capture_output=True,
        text=True,
        check=True,
    )


def dump(url: str, file: Path) -> Path:
    """What pg_dump says of a database."""
    program("pg_dump", "--format=custom", f"--file={file}", url=url)
    return file


def restored(file: Path, url: str) -> None:
    """Restore a dump into an empty database."""
    into = f"--dbname={conninfo_to_dict(url)['dbname']}"
    program("pg_restore", "--exit-on-error", "--no-owner", into, str(file), url=url)
