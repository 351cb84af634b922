"""The database of the first release, with its data, comes up to date: it is read, written and projected like any."""

from __future__ import annotations

from asyncio import to_thread
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from pydantic import ValidationError

from amends.app import App, install
from amends.building import Builder, bulk_url
from amends.checking.verdict import Checked, Failure
from amends.database import Pool, conninfo, open_pool
from amends.errors import AmendsError
from amends.feed import Feed
from amends.log_check import check_log
from amends.messages import Command, Event, Key
from amends.projection import Projection
from amends.projector import Projector
from amends.records import Context
from amends.revisions import known
from amends.schema import migrate, owner_engine
from amends.store import EventStore, append_request

__all__ = ["check_upgrade"]

NAME = "first release upgrades"

STREAMS = "select stream, version from amends.streams where starts_with(stream, %s) order by stream"
"""The things of one kind, and how much has happened to each."""

LAST = """
select e.stream, s.version, e.name, e.schema_version, e.data::text from amends.events e
join amends.streams s on s.stream = e.stream order by e.xid desc, e.position desc limit 1
"""
"""What has happened last."""

COMMAND = "select command_id, name, stream from amends.commands where outcome = 'done' order by command_id limit 1"
"""A command that was done."""

CLAIM = "select scope, encode(hash, 'hex') from amends.claims order by scope, hash limit 1"
"""A value that somebody holds."""

APPEND = "select status from amends.append(%s)"
"""Append as the store does, with whatever is in the request."""

BUILDS = "select role from amends.checkpoints where projection = %s and version = %s and role <> 'kept'"
"""Whether a version is shown, or being built."""

PARKED = "select projection, event, error from amends.dead_letters order by projection, xid, position"
"""What could not be applied."""


class _Noted(Command, name="amends_check.note"):
    """Stands for any command, where only what it leads to matters."""

    noted: Key = "check"


async def check_upgrade(app: App, data: Path, database: str) -> Checked:
    """Install the first schema with data in it, bring it up to date, and go on.

    Args:
        app: whose code is to go on.
        data: SQL that fills a database of the first revision, as its release would have.
        database: an empty one.
    """
    if not await to_thread(data.exists):
        told = f"no {data}: keep there what your first release wrote, as SQL that fills schema {known()[0]}"
        return Checked(name=NAME, looked_at=told)
    failures: list[Failure] = []
    try:
        await to_thread(_install_first, database, data)
        await to_thread(install, app, database)
        failures = await _use(app, database)
    except (AmendsError, psycopg.Error) as error:
        failures.append(_failure(f"{data} does not come up to date: {type(error).__name__}: {error}"))
    told = f"{data}, from schema {known()[0]} to {known()[-1]}; then read, appended to and projected"
    return Checked(name=NAME, looked_at=told, failures=tuple(failures))


def _install_first(database: str, data: Path) -> None:
    with owner_engine(database).begin() as connection:
        migrate(connection, known()[0])
    with psycopg.connect(conninfo(database, "owner"), autocommit=True) as driver:
        driver.execute(data.read_bytes())


async def _use(app: App, url: str) -> list[Failure]:
    async with AsyncExitStack() as stack:
        writing = await stack.enter_async_context(open_pool(url, "writer", 2))
        projecting = await stack.enter_async_context(open_pool(bulk_url(url), "projector", 4))
        failures = [
            _failure(f"{each.count} events {each.name!r} of version {each.schema_version} can't be read: {each.error}")
            for each in await check_log(projecting)
        ]
        failures += await _load(app, writing)
        failures += await _append(writing)
        for projection in app.projections:
            await _project(projection, projecting, url)
        async with projecting.connection() as connection:
            parked = await (await connection.execute(PARKED)).fetchall()
        return failures + [_failure(f"{name} can't apply the event at {event}: {why}") for name, event, why in parked]


async def _load(app: App, pool: Pool) -> list[Failure]:
    """What this code makes of every thing there is."""
    store, failures = EventStore(pool), []
    for aggregate in app.aggregates:
        async with pool.connection() as connection:
            streams = await (await connection.execute(STREAMS, (f"{aggregate.category}-",))).fetchall()
        for stream, version in streams:
            try:
                loaded = await store.load(stream, aggregate.snapshot_version)
                state = aggregate() if loaded.state is None else aggregate.model_validate_json(loaded.state)
                state.replay(loaded.events)
            except (AmendsError, ValidationError) as error:
                failures.append(_failure(f"The stream {stream} can't be loaded: {type(error).__name__}: {error}"))
            else:
                if loaded.version != version:
                    failures.append(_failure(f"{stream} is at version {version}, and comes as {loaded.version}"))
    return failures


async def _append(pool: Pool) -> list[Failure]:
    """Once more what happened last; a command that was done is not done again, and what is held stays held."""
    failures: list[Failure] = []
    async with pool.connection() as connection:
        last = await (await connection.execute(LAST)).fetchone()
        done = await (await connection.execute(COMMAND)).fetchone()
        held = await (await connection.execute(CLAIM)).fetchone()
        if last is None:
            return [_failure("There are no events in it")]
        stream, version, *stored = last
        event = Event.read(*stored)
        fresh = _request(stream, version, event, "amends-check")
        wanted: list[tuple[str, dict[str, Any], str]] = [("an event can't be appended", fresh, "appended")]
        if done is not None:
            again = fresh | dict(zip(("command_id", "name", "stream"), done, strict=True))
            wanted.append(("a command that was done is not known any more", again, "repeated"))
        for told, request, status in wanted:
            row = await (await connection.execute(APPEND, (Jsonb(request),))).fetchone()
            if row != (status,):
                failures.append(_failure(f"{told}: {row and row[0]} instead of {status}"))
        if held is not None:
            scope, value = held
            claim = {"scope": scope, "hash": value, "required": True}
            request = _request("amends_check-1", 0, event, "amends-check-claim") | {"claims": [claim]}
            try:
                await connection.execute(APPEND, (Jsonb(request),))
                failures.append(_failure(f"a value of {scope!r} that is held was given to somebody else"))
            except psycopg.Error as error:
                if error.sqlstate != "AM001":
                    raise
    return failures


async def _project(projection: Projection, pool: Pool, url: str) -> None:
    head = await Feed(pool).head()
    async with pool.connection() as connection:
        rows = await (await connection.execute(BUILDS, (projection.name, projection.version))).fetchall()
    for partition in range(projection.partitions):
        if ("served",) in rows:
            await Projector(projection, pool, url, partition=partition).catch_up(head)
        else:
            await Builder(projection, pool, url, partition=partition).up_to(head)


def _request(stream: str, expected: int, event: Event, command_id: str) -> dict[str, Any]:
    context = Context(command_id=command_id, actor="amends check", correlation_id=command_id, causation_id=command_id)
    request = append_request(stream, expected, _Noted(), context, [event], started_at=datetime.now(UTC))
    return request | {"started_at": request["started_at"].isoformat()}


def _failure(what: str) -> Failure:
    return Failure(
        what=what,
        mend="A database in use would fare the same: mend the migration, upcaster or handler before it is run",
    )
