"""A shop's database as production has it: made by an owner who is no superuser, used by logins of least privilege."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from amends.app import App, install
from amends.settings import Settings

__all__ = ["Logins", "production"]

WORKER = ("amends_writer", "amends_projector")
CLIENT = ("amends_reader", "amends_client")
PASSWORD = "swordfish"


@dataclass(frozen=True)
class Logins:
    """Addresses of one database, by who connects."""

    owner: str
    worker: str
    client: str

    def of(self, settings: Settings, who: str, *, owner: bool = False) -> Settings:
        """Settings of a process that has only this login, and the owner's where it says so."""
        update = {"database_url": SecretStr(getattr(self, who)), "owner_url": SecretStr(self.owner) if owner else None}
        return settings.model_copy(update=update)


@asynccontextmanager
async def production(superuser: str, app: App) -> AsyncIterator[Logins]:
    """A database and its logins, as docs/security.md makes them; both are gone afterwards."""
    mark = uuid4().hex[:8]
    database, owner, worker, client = (f"{each}_{mark}" for each in ("shop", "owner", "worker", "client"))
    url = make_conninfo(superuser, dbname=database)
    by = {who: make_conninfo(url, user=who, password=PASSWORD) for who in (owner, worker, client)}
    # the roles are there, for other tests share this server, so that the owner may only be made their member
    await _run(superuser, *_login(owner, (*WORKER, *CLIENT)), _named("create database {} owner {}", database, owner))
    try:
        await asyncio.to_thread(install, app, by[owner])
        await _run(superuser, *_login(worker, WORKER), *_login(client, CLIENT))
        yield Logins(by[owner], by[worker], by[client])
    finally:
        await _run(superuser, _named("drop database {} with (force)", database))
        await _run(superuser, *(_named("drop role if exists {}", who) for who in (owner, worker, client)))


def user_of(url: str) -> str:
    return str(conninfo_to_dict(url)["user"])


def _login(name: str, roles: Sequence[str]) -> list[sql.Composed]:
    made = sql.SQL("create role {} login password {}").format(sql.Identifier(name), sql.Literal(PASSWORD))
    return [made, *(_named("grant {} to {}", role, name) for role in roles)]


def _named(statement: str, *names: str) -> sql.Composed:
    return sql.SQL(statement).format(*map(sql.Identifier, names))


async def _run(url: str, *statements: sql.Composed) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for statement in statements:
            await connection.execute(statement)
