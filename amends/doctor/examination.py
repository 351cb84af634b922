"""Looks at all of an installation, whatever part of it is away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.service import RPCError

from amends.app import App
from amends.connect import connect
from amends.connections import AWAY
from amends.doctor.finding import Finding, unknown, well, wrong
from amends.doctor.log_side import database_clock, examine_database
from amends.doctor.temporal_side import HEARD_WITHIN, Heard, examine_temporal, followers
from amends.errors import StartupError
from amends.orphans import declared
from amends.outages import first_line
from amends.settings import Settings
from amends.visibility import SEARCH_ATTRIBUTES

__all__ = ["APART", "examine"]

APART = timedelta(seconds=5)
"""Clocks may differ by so much: what is told by both sides is told in the same order then."""


async def examine(settings: Settings, app: App | None) -> AsyncIterator[Finding]:
    """Look at an installation; changes nothing.

    Args:
        settings: where the servers are.
        app: the application; None where its code is not at hand, then what it declares is not compared.
    """
    heard: Heard = []
    if settings.database_url is None:
        yield wrong("database", "no address is set", "set AMENDS_DATABASE_URL, or have `amends up` run in this folder")
    else:
        names = None if app is None else declared(app)
        async for finding in examine_database(settings.database_url.get_secret_value(), names):
            yield finding
    async for finding in _temporal(settings, app, heard):
        yield finding
    yield await _clocks(settings, heard)


async def _temporal(settings: Settings, app: App | None, heard: Heard) -> AsyncIterator[Finding]:
    try:
        client = await connect(settings)
    except StartupError as error:
        yield wrong("Temporal", first_line(error), "start it, or set AMENDS_TEMPORAL_ADDRESS")
        return
    known: dict[str, Any] = {} if app is None else dict(app.search_attributes)
    partitions = {} if app is None else {each.name: each.partitions for each in app.projections}
    managers = [] if app is None else [each.name for each in app.process_managers]
    following = followers(partitions, managers, settings.task_queue)
    try:
        async for finding in examine_temporal(
            client, settings.task_queue, SEARCH_ATTRIBUTES.keys() | known.keys(), following, heard
        ):
            yield finding
    except RPCError as error:
        yield wrong("Temporal", f"does not answer any more: {first_line(error)}", "see its log")


async def _clocks(settings: Settings, heard: Heard) -> Finding:
    """Compare by what Temporal has heard last: that is now, or a few seconds ago."""
    if settings.database_url is None:
        return unknown("clocks", "the database's is not known")
    try:
        before = datetime.now(UTC)
        database = await database_clock(settings.database_url.get_secret_value())
    except AWAY as error:
        return unknown("clocks", f"the database's is not known: {first_line(error)}")
    skew = {"this machine's clock": before - database}
    if heard:
        latest = max(heard)
        late = latest - database if latest > database else min(timedelta(0), latest - database + HEARD_WITHIN)
        skew["Temporal's clock"] = late
    apart = [
        f"{whose} differs from the database's by {by.total_seconds():+.0f} s"
        for whose, by in skew.items()
        if abs(by) > APART
    ]
    if apart:
        return wrong("clocks", "; ".join(apart), "set the machines' clocks by NTP")
    told = "" if heard else "; of Temporal's nothing is known, for no follower is heard of"
    return well("clocks", f"less than {APART.seconds} s apart{told}")
