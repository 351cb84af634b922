"""Lets the views show another build, in one short transaction; brings back the last one; drops what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, LiteralString

import structlog
from psycopg import AsyncConnection
from psycopg import errors as pg
from psycopg.types.json import Jsonb

from amends.database import Connection, conninfo
from amends.errors import Incompatible, NothingToDo, ProjectionError, Superseded
from amends.installation import LOCK, NOTE, discard
from amends.notify import CHECKPOINTS, EVENTS, NOTIFY
from amends.public_views import COLUMNS, ViewSpec, arranged, statements
from amends.records import Position
from amends.schema import owner_engine
from amends.verifying import served_at

__all__ = ["cancel_build", "drop_old", "roll_back", "swap"]

log = structlog.get_logger("amends.projections")

PATIENCE: LiteralString = "set local lock_timeout = '500ms'"
"""Readers of a view wait while its replacement waits for those who read it now: so it does not wait for long."""

FIRST_PAUSE, LAST_PAUSE = 0.2, 5.0
"""Seconds between two attempts; doubles."""

SPECS = "select views from amends.generations where projection = %s and version = %s and generation = %s"
"""What the views are to show."""

RETIRE = """
with was as (
    select max(paused_at) as paused_at, max(paused_by) as paused_by, max(pause_reason) as pause_reason
    from amends.checkpoints where projection = %(p)s and role = 'served'
), retired as (
    update amends.checkpoints set role = 'kept', paused_at = null, paused_by = null, pause_reason = null
    where projection = %(p)s and role = 'served' returning 1
)
select paused_at, paused_by, pause_reason, (select count(*) from retired) from was
"""
"""What was served is kept; a pause goes on with what takes its place."""

SERVE = """
update amends.checkpoints set role = 'served', throttle = null, paused_at = %s, paused_by = %s, pause_reason = %s
where projection = %s and version = %s and generation = %s
"""
"""This is served from now on."""

SERVED_SINCE = """
update amends.generations set served_at = clock_timestamp() where projection = %s and version = %s and generation = %s
"""
"""Since when it is served."""

SKIP_TOO = """
with left_out as materialized (
    select distinct on (d.xid, d.position) d.projection, d.position, o.actor, o.reason
    from amends.dead_letters d join amends.dead_letters o using (projection, version, xid, position)
    where d.projection = %s and d.version = %s and d.generation = %s and d.state <> 'skipped' and o.state = 'skipped'
    order by d.xid, d.position, o.settled_at
)
select amends.skip_dead_letter(projection, position, actor, reason) from left_out
"""
"""What was skipped while a build was kept is skipped there too."""

LAST = """
select g.version, g.generation, g.views from amends.generations g
join amends.checkpoints c on (c.projection, c.version, c.generation) = (g.projection, g.version, g.generation)
where g.projection = %s and c.role = 'kept' and c.partition = 0 order by g.served_at desc nulls last limit 1
"""
"""What was served last."""

KEPT = "select version, generation from amends.checkpoints where projection = %s and role = %s and partition = 0"
"""Builds that are kept, or under way."""


async def swap(
    url: str,
    name: str,
    build: tuple[int, int],
    finish: Callable[[Connection, Position], Awaitable[None]],
    actor: str,
    reason: str,
    detail: dict[str, Any],
) -> None:
    """Let the views show a build; whoever reads sees the old rows or the new ones, and none that are older than before.

    Args:
        url: a login that owns the schema.
        name: of the projection.
        build: version and generation.
        finish: brings the build up to a position, in the transaction it is given.
        actor: who wanted it.
        reason: why.
        detail: what is to be recorded of it.

    Raises:
        Incompatible: a view would lose or retype a column.
        Superseded: the build was cancelled.
        DataError, IntegrityError, Poisoned: one of the last events can't be applied.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            async with await AsyncConnection.connect(conninfo(url, "owner")) as connection:
                await connection.execute(LOCK, (name,))
                version, _, positions = await served_at(connection, name, locked=True)
                await finish(connection, max(positions))
                await connection.execute(PATIENCE)
                row = await (await connection.execute(SPECS, (name, *build))).fetchone()
                if row is None:
                    raise Superseded(f"Projection {name!r}: the build {build[0]}, generation {build[1]} was cancelled")
                await _show(connection, row[0], pad=version == build[0])
                await _serve(connection, name, build)
                await connection.execute(NOTE, (name, *build, "swap", actor, reason, Jsonb(detail)))
            return
        except pg.LockNotAvailable:
            log.warning("swap_waits_for_readers", projection=name, retry_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)


async def roll_back(url: str, name: str, actor: str, reason: str) -> tuple[int, int]:
    """Let the views show what they showed before; it is followed again from where it was left.

    Args:
        url: a login that owns the schema.
        name: of the projection.
        actor: who wants it.
        reason: why.

    Returns:
        version and generation of what is served now.

    Raises:
        NothingToDo: nothing is kept.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            async with await AsyncConnection.connect(conninfo(url, "owner")) as connection:
                await connection.execute("select amends.said_by(%s, %s)", (actor, reason))
                await connection.execute(LOCK, (name,))
                last = await (await connection.execute(LAST, (name,))).fetchone()
                if last is None:
                    raise NothingToDo(f"Projection {name!r} keeps no other build; see amends views list")
                version, generation, _ = await served_at(connection, name, locked=True)
                build = (last[0], last[1])
                await connection.execute(PATIENCE)
                await _show(connection, last[2], pad=True)
                await _serve(connection, name, build)
                await connection.execute(SKIP_TOO, (name, *build))
                detail = Jsonb({"to_version": build[0], "to_generation": build[1]})
                await connection.execute(NOTE, (name, version, generation, "rollback", actor, reason, detail))
            return build
        except pg.LockNotAvailable:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)


def drop_old(url: str, name: str, actor: str, reason: str) -> list[tuple[int, int]]:
    """Drop the builds that are kept.

    Args:
        url: a login that owns the schema.
        name: of the projection.
        actor: who wants it.
        reason: why.

    Returns:
        their versions and generations.

    Raises:
        NothingToDo: nothing is kept.
        ProjectionError: somebody has built something upon their tables.
    """
    return _drop(url, name, "kept", "drop", actor, reason)


def cancel_build(url: str, name: str, actor: str, reason: str) -> list[tuple[int, int]]:
    """Drop the build that is under way; arguments, result and errors as for `drop_old`."""
    return _drop(url, name, "building", "cancel", actor, reason)


def _drop(url: str, name: str, role: str, action: str, actor: str, reason: str) -> list[tuple[int, int]]:
    with owner_engine(url).begin() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("select amends.said_by(%s, %s)", (actor, reason))
        driver.execute(LOCK, (name,))
        builds = [(version, generation) for version, generation in driver.execute(KEPT, (name, role)).fetchall()]
        if not builds:
            raise NothingToDo(f"Projection {name!r} has no build that is {role}; see amends views list")
        for version, generation in builds:
            try:
                discard(driver, name, version, generation)
            except pg.DependentObjectsStillExist as error:
                raise ProjectionError(
                    f"The tables of projection {name!r}, version {version}, can't be dropped: others are built upon "
                    f"them: {error.diag.message_detail}. Drop those first"
                ) from error
            driver.execute(NOTE, (name, version, generation, action, actor, reason, None))
    return builds


async def _show(connection: Connection, views: Sequence[dict[str, Any]], *, pad: bool) -> None:
    for each in views:
        spec = ViewSpec.model_validate(each)
        current = await (await connection.execute(COLUMNS, (f"views.{spec.name}",))).fetchall()
        try:
            for statement in statements(spec, arranged(spec, [(n, kind) for n, kind in current], pad=pad)):
                await connection.execute(statement)
        except pg.InvalidTableDefinition as error:
            raise Incompatible(
                f"views.{spec.name} can't be replaced: {error.diag.message_primary}. Keep the type of its columns, and "
                "add new ones under other names"
            ) from error


async def _serve(connection: Connection, name: str, build: tuple[int, int]) -> None:
    row = await (await connection.execute(RETIRE, {"p": name})).fetchone()
    assert row is not None
    if (await connection.execute(SERVE, (*row[:3], name, *build))).rowcount == 0:
        raise Superseded(f"Projection {name!r}: the build {build[0]}, generation {build[1]} is gone")
    await connection.execute(SERVED_SINCE, (name, *build))
    await connection.execute(NOTIFY, (EVENTS, f"swap {name}"))
    _, _, positions = await served_at(connection, name)
    await connection.execute(NOTIFY, (CHECKPOINTS, f"{name}:{min(positions)}"))
