"""An application's table of contents: worker, command line, client and tests iterate over it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import ProgrammingError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from amends.aggregate import Aggregate
from amends.database import Pool
from amends.derived_views import DerivedView
from amends.derived_views import install as install_views
from amends.errors import ServerFailed, StartupError
from amends.handler import CommandHandler
from amends.importing.records import SourceRecord
from amends.reacting import install as install_manager
from amends.schema import migrate, owner_engine

if TYPE_CHECKING:
    from amends.process_manager import ProcessManager
    from amends.projection import Projection

__all__ = ["App", "Resources", "install", "load_app"]


@dataclass(frozen=True)
class Resources:
    """What a worker hands to the activities it builds.

    Args:
        pool: connections of the writer role.
        handler: runs commands.
    """

    pool: Pool
    handler: CommandHandler


@dataclass(frozen=True)
class App:
    """What an application consists of.

    Args:
        aggregates: classes whose commands can be sent.
        workflows: workflow classes.
        activities: builds the objects that implement activity interfaces, from a worker's resources.
        projections: what keeps the read models.
        process_managers: what reacts to events by starting and signalling workflows.
        views: further views, built on those of the projections; each after those that it stands on.
        imports: what records of other systems become.
        search_attributes: business keys shown in Temporal, name → type (Keyword, Int, …).
        install: creates what the app needs in the database besides; called as the schema's owner, again and again.
        commands: further commands of the `amends` command line, name → function.
        released: folder of what has been released, to which `amends check` holds the code; from where that is run.
        histories: folder of histories that must replay; `histories` in that of what has been released if not given.
    """

    aggregates: Sequence[type[Aggregate[Any, Any]]] = ()
    workflows: Sequence[type[Any]] = ()
    activities: Callable[[Resources], Sequence[object]] = lambda resources: ()
    projections: Sequence[Projection] = ()
    process_managers: Sequence[ProcessManager] = ()
    views: Sequence[DerivedView] = ()
    imports: Sequence[type[SourceRecord]] = ()
    search_attributes: Mapping[str, str] = field(default_factory=dict)
    install: Callable[[Connection], None] = lambda connection: None
    commands: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    released: Path = Path("released")
    histories: Path | None = None

    def __post_init__(self) -> None:
        taken = {projection.name for projection in self.projections}
        for manager in self.process_managers:
            if manager.name in taken:
                raise TypeError(f"The process manager {manager.name!r} needs a name of its own, for its checkpoint")
            taken.add(manager.name)
        shown = {table.name for projection in self.projections for table in projection.tables.values()}
        for view in self.views:
            if view.name in shown:
                raise TypeError(f"There is a view {view.name!r} already; the derived one needs a name of its own")
            shown.add(view.name)


def load_app(where: str) -> App:
    """Import an application.

    Args:
        where: `module:name`, importable from the current folder.

    Raises:
        StartupError: there is no such module, or no App under that name.
    """
    module, _, name = where.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        app = getattr(importlib.import_module(module), name or "app", None)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        app = None
    if not isinstance(app, App):
        raise StartupError(
            f"There is no amends.App at {where!r}. Run this in the folder of your app.py, or set AMENDS_APP=module:name"
        )
    return app


def install(app: App, database_url: str) -> None:
    """Bring a database to what the engine and the application need; safe to repeat.

    Args:
        app: the application.
        database_url: a login that owns the schema.

    Raises:
        ServerFailed: nobody answers there, or the login may not do what is needed.
    """
    try:
        with owner_engine(database_url).begin() as connection:
            migrate(connection)
            app.install(connection)
            for projection in app.projections:
                projection.install(connection)
            bases = [table for projection in app.projections for table in projection.tables.values()]
            install_views(connection, app.views, bases)
            for manager in app.process_managers:
                install_manager(connection, manager)
    except (DBAPIError, ProgrammingError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        raise ServerFailed(
            f"The schema can't be brought up to date: {str(cause).strip()}. See AMENDS_OWNER_URL, or else "
            "AMENDS_DATABASE_URL: it is to be a login that owns the database and may create roles"
        ) from error
