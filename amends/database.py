"""Connections to PostgreSQL, each acting as one role."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlencode

from psycopg import AsyncConnection
from psycopg import Error as PgError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from amends.errors import ServerFailed
from amends.outages import first_line

__all__ = ["CONNECT_SECONDS", "Connection", "Pool", "Role", "conninfo", "open_pool", "reader_url", "told_url"]

Role = Literal["owner", "writer", "projector", "reader", "client"]
Connection = AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Connection]

CONNECT_SECONDS = 20.0
"""How long a process waits for its first connection."""

# An open transaction that writes holds the feed back for everybody, so none may stay open for long.
_LIMITS = {"idle_in_transaction_session_timeout": "30s", "lock_timeout": "20s", "statement_timeout": "60s"}


def conninfo(url: str, role: Role) -> str:
    """Where to connect, and as which role the session acts from its first statement on.

    Args:
        url: a PostgreSQL URL or conninfo of a login that is a member of the role.
        role: owner (migrations), writer, projector, reader or client (gets keys to seal by).
    """
    parts: dict[str, Any] = dict(conninfo_to_dict(url))
    settings = {} if role == "owner" else {"role": f"amends_{role}", **_LIMITS}
    options = [str(parts["options"])] if "options" in parts else []
    parts["options"] = " ".join([*options, *(f"-c {name}={value}" for name, value in settings.items())])
    parts.setdefault("application_name", f"amends-{role}")
    parts.setdefault("connect_timeout", 10)
    return make_conninfo(**parts)


def reader_url(url: str) -> str:
    """The same address for people: whoever connects by it acts as the reader, and can change nothing.

    Args:
        url: a PostgreSQL URL.
    """
    return f"{url}{'&' if '?' in url else '?'}options=-c%20role%3Damends_reader"


def told_url(url: str, passfile: Path | None = None) -> str:
    """The same address for people and logs: without its password.

    Args:
        url: a PostgreSQL URL or conninfo.
        passfile: where libpq finds the password, `psql` for one, as part of the address; see PostgreSQL's `.pgpass`.
    """
    parts = {name: str(value) for name, value in conninfo_to_dict(url).items() if name != "password"}
    user, host, port, name = (quote(parts.pop(key, "")) for key in ("user", "host", "port", "dbname"))
    if passfile is not None:
        parts["passfile"] = str(passfile)
    login = f"{user}@" if user else ""
    query = f"?{urlencode(parts, quote_via=quote)}" if parts else ""
    return f"postgresql://{login}{host}{f':{port}' if port else ''}/{name}{query}"


@asynccontextmanager
async def open_pool(url: str, role: Role, size: int) -> AsyncIterator[Pool]:
    """A pool of connections that act as one role, each statement its own transaction; closed in any case at the end.

    Args:
        url: as for `conninfo`.
        role: as for `conninfo`.
        size: most connections at a time.

    Raises:
        ServerFailed: nobody answers there, or not to this login.
    """
    settings: dict[str, Any] = {"autocommit": True}
    pool: Pool = AsyncConnectionPool(
        conninfo(url, role),
        min_size=1,
        max_size=size,
        kwargs=settings,
        open=False,
        timeout=20,
        name=f"amends-{role}",
    )
    try:
        await pool.open(wait=True, timeout=CONNECT_SECONDS)
    except PoolTimeout as error:
        await pool.close()
        parts = conninfo_to_dict(url)
        raise ServerFailed(
            f"No connection to PostgreSQL at {parts.get('host')}:{parts.get('port', 5432)} as amends_{role} within "
            f"{CONNECT_SECONDS:g} s{await _why(conninfo(url, role))}. See whether it runs, AMENDS_DATABASE_URL, and "
            "that the login may act as that role"
        ) from error
    # not left open by an error: an open pool can keep asyncio.run from ending, for its workers miss the cancellation
    async with pool:
        yield pool


async def _why(where: str) -> str:
    """What PostgreSQL says, or the network: a pool that waits in vain tells it to nobody but the log."""
    try:
        await (await AsyncConnection.connect(where)).close()
    except PgError as error:
        return f": {first_line(error)}"
    return ""
