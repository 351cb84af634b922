"""How the database is: reachable by every role, migrated, its feed moving, its readers up, nothing left to people."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection
from datetime import datetime
from typing import Any, get_args

from psycopg import AsyncConnection
from psycopg import errors as pg

from amends.connections import AWAY, database_away
from amends.database import Connection, Role, conninfo
from amends.doctor.finding import Finding, unknown, well, wrong
from amends.outages import first_line
from amends.revisions import head
from amends.transactions import IDS, Ids

__all__ = ["database_clock", "examine_database"]

REVISION = "select version_num from amends.alembic_version"
"""Which migration the database is at."""

MIGRATED = "select to_regclass('amends.alembic_version') is not null"
"""Whether it has ever been migrated."""

FEED = "select head_position, oldest_pid, oldest_application, oldest_seconds from views.feed_status"
"""How far the log goes, and what holds its readers back."""

PROJECTIONS = """
select projection, version, generation, served, state, healthy, problem, lag_events, lag_seconds, dead_letters
from views.projection_status where state <> 'kept' order by projection, version, generation
"""
"""How the readers of the feed stand."""

AHEAD = """
select c.projection from amends.checkpoints c
left join (select xid, position from amends.events order by xid desc, position desc limit 1) e on true
where (c.xid, c.position) > (coalesce(e.xid, '0'), coalesce(e.position, 0)) and c.position > 0
order by 1
"""
"""Readers that have passed the end of the log."""

PARKED = """
select p.workflow_id, p.step from views.saga_repairs p
where p.action = 'park' and not exists (
    select from views.saga_repairs r where r.workflow_id = p.workflow_id and r.action <> 'park' and r.number > p.number
    and (r.step_id = p.step_id or r.action = 'abandon'))
  and not exists (
    select from amends.commands c where c.name = 'saga.close' and c.workflow_id in (p.workflow_id, p.saga_id))
order by p.number
"""
"""Steps that wait for a person."""

ALERTS = """
select a.projection, a.reason from views.projection_log a
where a.action = 'alert' and not exists (
    select from views.projection_log l where l.projection = a.projection and l.number > a.number)
  and exists (select from views.projection_status s
              where s.projection = a.projection and s.state <> 'kept' and not s.healthy)
order by a.number
"""
"""Alerts after which nobody has done anything, of what is still not well."""

LETTERS = """
select projection, count(*) from views.dead_letters where state <> 'skipped' group by projection order by 1
"""
"""What is parked."""

NOW = "select clock_timestamp()"
"""The database's clock."""

HELD = 10.0
"""Seconds for which a transaction may write before the feed's readers miss something."""

BEHIND = 60.0
"""Seconds that a reader may be behind."""


async def examine_database(url: str, projections: Collection[str] | None) -> AsyncIterator[Finding]:
    """Look at the database.

    Args:
        url: a login that owns the schema.
        projections: names that the application declares, process managers among them; None where that is not known.
    """
    try:
        connection = await AsyncConnection.connect(conninfo(url, "owner"), autocommit=True)
    except AWAY as error:
        yield wrong("database", str(database_away(error)), "start it, or set AMENDS_DATABASE_URL")
        yield unknown("log and read models", "the database does not answer")
        return
    async with connection:
        yield well("database", "answers")
        yield await _schema(connection)
        async for role in _roles(url):
            yield role
        try:
            async for finding in _log(connection, projections):
                yield finding
        except AWAY as error:
            yield wrong("database", str(database_away(error)), "see its log")
        except (pg.UndefinedTable, pg.UndefinedColumn) as error:
            yield unknown("log and read models", f"not there: {first_line(error)}")


async def database_clock(url: str) -> datetime:
    """What time it is for the database; errors as psycopg has them."""
    async with await AsyncConnection.connect(conninfo(url, "reader"), autocommit=True) as connection:
        [(now,)] = await _rows(connection, NOW)
    assert isinstance(now, datetime)
    return now


async def _schema(connection: Connection) -> Finding:
    latest = head()
    if await _rows(connection, MIGRATED) != [(True,)]:
        return wrong("schema", "there is none", "amends migrate")
    [(revision,)] = await _rows(connection, REVISION)
    if revision == latest:
        return well("schema", f"at migration {revision}")
    if revision > latest:
        return wrong("schema", f"at migration {revision}, this code knows up to {latest}", "deploy the newer code")
    return wrong("schema", f"at migration {revision}, this code needs {latest}", "amends migrate")


async def _roles(url: str) -> AsyncIterator[Finding]:
    missing = []
    for role in [each for each in get_args(Role) if each != "owner"]:
        try:
            async with await AsyncConnection.connect(conninfo(url, role), autocommit=True):
                pass
        except AWAY as error:
            missing.append(f"amends_{role} ({first_line(error)})")
    if missing:
        advice = "have the roles' owner grant them to the login, or restore them: pg_dumpall --roles-only"
        yield wrong("roles", f"the login can't act as {', '.join(missing)}", advice)
    else:
        yield well("roles", "the login can act as writer, projector, reader and client")


async def _log(connection: Connection, projections: Collection[str] | None) -> AsyncIterator[Finding]:
    [ids] = await _rows(connection, IDS)
    yield _transactions(Ids(*ids))
    [feed] = await _rows(connection, FEED)
    yield _feed(*feed)
    rows = await _rows(connection, PROJECTIONS)
    passed = {name for (name,) in await _rows(connection, AHEAD)}
    for row in rows:
        yield _reader(*row, passed=row[0] in passed)
    for name in sorted(set(projections or ()) - {row[0] for row in rows}):
        yield wrong(f"read model {name}", "the application has it, the database has not", "amends migrate")
    async for finding in _left_to_people(connection):
        yield finding


def _transactions(ids: Ids) -> Finding:
    if not ids.ahead:
        return well("transaction ids", f"the log's are past; the next one is {ids.next}")
    told = f"the log names {ids.known}, and this cluster is at {ids.next}: it was restored from another cluster"
    return wrong("transaction ids", told, "amends advance, before any worker runs")


def _feed(head: int | None, pid: int | None, application: str | None, seconds: float | None) -> Finding:
    if seconds is not None and seconds > HELD:
        told = f"held back for {seconds:,.0f} s by process {pid} ({application}), which has a transaction open"
        return wrong("feed", told, f"end that: select pg_terminate_backend({pid})")
    return well("feed", f"{head or 0:,} events; nothing holds it back")


def _reader(
    name: str,
    version: int,
    generation: int,
    served: bool,
    state: str,
    healthy: bool,
    problem: str | None,
    lag_events: int,
    lag_seconds: float,
    parked: int,
    *,
    passed: bool,
) -> Finding:
    what = f"read model {name}"
    if not served:
        what += f", build {version}.{generation}"
    if passed:
        told = "its checkpoint is past the end of the log: they were not restored together"
        return wrong(what, told, f"amends views rebuild {name} --actor … --reason …")
    if not healthy:
        return wrong(what, problem or state, _advice(name, state, parked))
    if lag_seconds > BEHIND and served and state == "live":
        told = f"{lag_events:,} events behind, the oldest {lag_seconds:,.0f} s old"
        return wrong(what, told, "see whether its worker keeps up: amends views status")
    return well(what, f"{state}, {lag_events:,} events behind")


def _advice(name: str, state: str, parked: int) -> str:
    if state == "paused":
        return f"amends views resume {name} --actor … --reason …"
    if state == "stopped":
        return "mend what the error says and deploy; it goes on by itself"
    if parked:
        return f"amends views dead-letters list {name}"
    if state == "rebuilding":
        return f"amends views status {name}"
    return "run a worker of this version: amends worker"


async def _left_to_people(connection: Connection) -> AsyncIterator[Finding]:
    parked: dict[str, list[str]] = {}
    for saga, step in await _rows(connection, PARKED):
        parked.setdefault(saga, []).append(step)
    for saga, steps in parked.items():
        yield wrong(f"saga {saga}", f"waits for a person: {', '.join(steps)}", f"amends saga show {saga}")
    if not parked:
        yield well("sagas", "none waits for a person")
    alerts = await _rows(connection, ALERTS)
    for projection, reason in alerts:
        yield wrong(f"alert of {projection}", re.sub(r"\s+", " ", reason), f"amends views status {projection}")
    if not alerts:
        yield well("alerts", "none is open")
    letters = await _rows(connection, LETTERS)
    for projection, count in letters:
        told = f"{count:,} events are parked"
        yield wrong(f"dead letters of {projection}", told, f"amends views dead-letters list {projection}")
    if not letters:
        yield well("dead letters", "none")


async def _rows(connection: Connection, query: str) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query.encode())).fetchall()
