"""Tells people what they should see to: kept in the projections' log, and sent to whoever listens; once, not again."""

from __future__ import annotations

from collections.abc import Collection

from psycopg.types.json import Jsonb

from amends.database import Connection

__all__ = ["ALERTS", "alert"]

ALERTS = "amends_alerts"
"""Channel of alerts; the payload is JSON: number in `views.projection_log`, projection, problem."""

ALERT = """
with noted as (
    insert into amends.projection_log (projection, version, generation, action, actor, reason, detail)
    values (%s, %s, %s, 'alert', 'amends', %s, %s) returning number, projection, reason
)
select pg_notify(%s, json_build_object('number', number, 'projection', projection, 'problem', left(reason, 1000))::text)
from noted
"""
"""Keep an alert and send it, in the transaction of what it is about."""


async def alert(
    connection: Connection, build: tuple[str, int, int], problem: str, keys: Collection[str] | None = None
) -> None:
    """Tell people of something that does not mend itself.

    Args:
        connection: in the transaction of what it is about.
        build: projection, version and generation.
        problem: what is wrong, in words.
        keys: of the events concerned, if it is about some.
    """
    detail = None if keys is None else Jsonb({"keys": sorted(keys)})
    await connection.execute(ALERT, (*build, problem, detail, ALERTS))
