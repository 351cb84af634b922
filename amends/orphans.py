"""Drops what is left in the database of a projection or process manager that the application no longer has."""

from __future__ import annotations

from typing import Any

from psycopg import Connection, sql
from psycopg import errors as pg
from psycopg.types.json import Jsonb

from amends.app import App
from amends.errors import NothingToDo, ProjectionError
from amends.installation import LOCK, NOTE, SHOWN, discard
from amends.schema import owner_engine

__all__ = ["declared", "drop_orphan"]

PATIENCE = "set local lock_timeout = '5s'"
"""Whoever comes to read waits behind a drop that waits for those who read now."""

BUILDS = """
select c.version, c.generation, g.tables, g.views, bool_or(c.beat_at > clock_timestamp() - interval '15 seconds')
from amends.checkpoints c left join amends.generations g using (projection, version, generation)
where c.projection = %s group by c.version, c.generation, g.tables, g.views order by 1, 2
"""
"""All builds of a projection, what they consist of, and whether somebody follows them."""

FORGET = "delete from amends.dead_letters where projection = %s"
"""Also what is known from builds elsewhere."""


def declared(app: App) -> set[str]:
    """Names of an application's projections and process managers."""
    return {each.name for each in app.projections} | {each.name for each in app.process_managers}


def drop_orphan(url: str, app: App, name: str, actor: str, reason: str) -> list[str]:
    """Drop all that is left of a projection or process manager: its views, tables, checkpoints and dead letters.

    Args:
        url: a login that owns the schema.
        app: the application.
        name: what it no longer has.
        actor: who wants it.
        reason: why.

    Returns:
        the views and tables that are gone; none of a process manager, and none where they were made before builds were
        recorded: those are to be dropped by hand.

    Raises:
        NothingToDo: there is nothing left of that name.
        ProjectionError: the application has it, somebody follows or reads it, or something is built upon it.
    """
    if name in declared(app):
        raise ProjectionError(f"{name!r} is not dropped: the application has it")
    with owner_engine(url).begin() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("select amends.said_by(%s, %s)", (actor, reason))
        driver.execute(LOCK, (name,))
        driver.execute(PATIENCE)
        builds = driver.execute(BUILDS, (name,)).fetchall()
        if not builds:
            raise NothingToDo(f"There is no projection {name!r}; see amends views list")
        if any(followed for *_, followed in builds):
            raise ProjectionError(
                f"{name!r} is not dropped: this application has it no longer, but some worker follows it, of another "
                "version of the code. Stop that, or run this command with its code"
            )
        tables = {table for _, _, made, _, _ in builds for table in made or ()}
        shown = sorted({view["name"] for _, _, _, views, _ in builds for view in views or ()})
        try:
            views = [view for view in shown if _drop_view(driver, view, tables)]
            for version, generation, *_ in builds:
                discard(driver, name, version, generation)
            driver.execute(FORGET, (name,))
        except pg.DependentObjectsStillExist as error:
            raise ProjectionError(
                f"{name!r} can't be dropped: others are built upon it: {error.diag.message_detail}. Drop those first"
            ) from error
        except pg.LockNotAvailable as error:
            raise ProjectionError(f"{name!r} is not dropped: somebody is reading it; see pg_stat_activity") from error
        gone = [f"views.{view}" for view in views] + [f"read_models.{table}" for table in sorted(tables)]
        driver.execute(NOTE, (name, None, None, "drop", actor, reason, Jsonb({"dropped": gone})))
    return gone


def _drop_view(driver: Connection[Any], view: str, tables: set[str]) -> bool:
    """Drop a view, if it still shows one of these tables: another projection may have taken over its name."""
    row = driver.execute(SHOWN, (f'views."{view}"',)).fetchone()
    if row is None or row[0] not in tables:
        return False
    driver.execute(sql.SQL("drop view {}").format(sql.Identifier("views", view)))
    return True
