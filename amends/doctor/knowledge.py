"""What the log knows of sagas, commands and reactions: the questions of a reconciliation."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from amends.database import Connection
from amends.doctor.histories import Told
from amends.feed import COLUMNS, Row
from amends.transactions import IDS, Ids

__all__ = ["Log", "OpenSaga"]

COMMANDS = "select command_id from amends.commands where command_id = any(%s)"
"""Which of these commands are on record."""

CLOSED = """
select workflow_id, payload ->> 'run_id' from amends.commands
where name = 'saga.close' and workflow_id = any(%s)
"""
"""The ends of these workflows, by run."""

LACKING = """
select t.name, t.stream from unnest(%(names)s::text[], %(streams)s::text[], %(versions)s::integer[])
    t (name, stream, version)
where not exists (select from amends.commands c
                  where c.correlation_id = %(saga)s and c.name = t.name and c.stream = t.stream
                    and c.version = t.version)
union all
select t.id, '' from unnest(%(ids)s::text[]) t (id)
where not exists (select from amends.commands c
                  where c.correlation_id = %(saga)s and (c.step_id = t.id or c.command_id = t.id))
"""
"""Which of these commands and calls the log does not know."""

OPEN = """
select c.correlation_id, min(c.started_at), (array_agg(c.actor order by c.number))[1],
       array_agg(coalesce(c.step, c.name) order by c.number)
           filter (where c.kind = 'step' and c.outcome <> 'refused' and not exists (
               select from amends.commands u
               where u.correlation_id = c.correlation_id and u.undoes = c.step_id and u.outcome = 'done')),
       bool_or(c.pivot and c.outcome in ('done', 'begun') and not exists (
           select from amends.commands r
           where r.correlation_id = c.correlation_id and r.step_id = c.step_id and r.outcome = 'refused')),
       bool_or(c.workflow_id <> c.correlation_id)
from amends.commands c
where c.kind is not null and not exists (
    select from amends.commands e
    where e.correlation_id = c.correlation_id and e.name = 'saga.close' and e.workflow_id = e.correlation_id)
group by c.correlation_id order by 2
"""
"""Sagas that have done something and not come to their end: since when, for whom, what stands, whether for good."""

REACTED = """
select {columns} from amends.events e, amends.checkpoints c
where c.projection = %(manager)s and c.role = 'served' and e.name = any(%(names)s) and e.recorded_at >= %(since)s
  and (e.xid, e.position) <= (c.xid, c.position)
order by e.xid, e.position
"""
"""The events that a process manager has reacted to."""

EVENT = f"select {COLUMNS} from amends.events e where e.event_id = %s::uuid"
"""An event by its id."""

EVENTS = "select event_id::text from amends.events where event_id = any(%s::uuid[])"
"""Which of these events are there."""


class OpenSaga(NamedTuple):
    """A saga that the log knows and that has not ended.

    Args:
        saga_id: its outermost workflow.
        started_at: when its first step was.
        actor: on whose behalf.
        standing: titles of the steps that stand.
        forward: it has passed its pivot.
        has_children: parts of it are workflows of their own.
    """

    saga_id: str
    started_at: datetime
    actor: str
    standing: Sequence[str] | None
    forward: bool
    has_children: bool


class Log:
    """The log, as a reconciliation asks it.

    Args:
        connection: of the schema's owner, in autocommit.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def ids(self) -> Ids:
        """How the log's transaction ids stand."""
        [row] = await self._rows(IDS)
        return Ids(*row)

    async def commands(self, ids: Collection[str]) -> set[str]:
        """Which of these commands are on record."""
        return {id for (id,) in await self._rows(COMMANDS, (list(ids),))}

    async def closed(self, workflow_ids: Collection[str]) -> dict[str, set[str]]:
        """The runs of these workflows that have come to their end; "" for one whose run is not on record."""
        found: dict[str, set[str]] = {}
        for workflow_id, run_id in await self._rows(CLOSED, (list(workflow_ids),)):
            found.setdefault(workflow_id, set()).add(run_id or "")
        return found

    async def lacking(self, saga_id: str, told: Told) -> list[str]:
        """What a history tells and the log does not know, in words."""
        asked = {
            "saga": saga_id,
            "names": [each.name for each in told.commands],
            "streams": [each.stream for each in told.commands],
            "versions": [each.version for each in told.commands],
            "ids": told.ids,
        }
        return [f"{name} on {stream}" if stream else name for name, stream in await self._rows(LACKING, asked)]

    async def open(self) -> list[OpenSaga]:
        """Sagas that have not come to their end, oldest first."""
        return [OpenSaga(*row) for row in await self._rows(OPEN)]

    async def reacted(self, manager: str, names: Collection[str], since: datetime) -> list[Row]:
        """The events of these names that a process manager has reacted to."""
        asked = {"manager": manager, "names": list(names), "since": since}
        return [Row._make(row) for row in await self._rows(REACTED.format(columns=COLUMNS), asked)]

    async def event(self, event_id: str) -> Row | None:
        """An event; None where there is none of that id."""
        rows = await self._rows(EVENT, (event_id,))
        return Row._make(rows[0]) if rows else None

    async def events(self, event_ids: Collection[str]) -> set[str]:
        """Which of these events are there."""
        return {id for (id,) in await self._rows(EVENTS, (list(event_ids),))}

    async def _rows(self, query: str, arguments: Any = None) -> list[tuple[Any, ...]]:
        return await (await self._connection.execute(query.encode(), arguments)).fetchall()
