"""Looks at everything, one part after the other."""

from __future__ import annotations

from asyncio import to_thread
from pathlib import Path

from amends.app import App
from amends.checking.histories import check_histories
from amends.checking.migrations import check_migrations
from amends.checking.read_models import check_projections
from amends.checking.schemas import check_events, check_states
from amends.checking.scratch import scratch_database, scratch_server
from amends.checking.upgrading import check_upgrade
from amends.checking.verdict import Verdict
from amends.settings import Settings

__all__ = ["check"]


async def check(
    app: App,
    settings: Settings,
    *,
    released: Path | None = None,
    histories: Path | None = None,
    server: str | None = None,
    accept: bool = False,
) -> Verdict:
    """See whether this code may follow what has been released.

    Args:
        app: the application.
        settings: hold the keys, where histories are encrypted; their database is not touched.
        released: folder of what has been released; the application's own when not given.
        histories: folder of histories to replay; the application's own when not given.
        server: a PostgreSQL to make scratch databases on; an embedded one when not given.
        accept: write down what is new, never change what is there.

    Raises:
        InvalidInput: a file in the folders can't be read.
        ServerFailed: there is no PostgreSQL to try things on.
    """
    folder = released or app.released
    parts = [
        await check_histories(app, histories or app.histories or folder / "histories", settings),
        check_events(app, folder / "events", accept=accept),
        check_states(app, folder / "states", accept=accept),
        check_projections(app, folder / "projections", accept=accept),
    ]
    with scratch_server(server) as url:
        with scratch_database(url) as database:
            parts.append(await to_thread(check_migrations, database, accept=accept))
        with scratch_database(url) as database:
            parts.append(await check_upgrade(app, folder / "first_release.sql", database))
    return Verdict(parts=tuple(parts))
