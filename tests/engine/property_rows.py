"""A projection in which everything can happen to a row, and crashes at planned steps."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import psycopg
from sqlalchemy import BigInteger, CheckConstraint, Column, Text
from sqlalchemy.dialects.postgresql import JSONB

from amends.changes import Rows
from amends.database import Pool
from amends.feed import Feed, Row
from amends.messages import Event
from amends.projection import Projection
from amends.records import Position, Recorded
from tests.engine.readside_shop import install

__all__ = ["BUILD_CRASHES", "KINDS", "PLANNED", "Cut", "Happened", "declare", "fresh", "plan_crashes"]

KINDS = ["add", "append", "set", "delete", "derive", "fail", "refuse", "half", "null"]


class Happened(Event, name="property.happened"):
    key: str
    kind: str
    number: int


def declare(name: str, *, partitions: int = 1, mended: Container[str] = ()) -> Projection:
    """A row a key, and a table that refuses what it is given.

    Args:
        name: of the projection, and of its tables.
        partitions: of the projection.
        mended: kinds of events that are handled by now; may change.
    """
    projection = Projection(name, version=1, partitions=partitions)
    table = projection.table(
        name,
        Column("key", Text, primary_key=True, comment="Key."),
        Column("total", BigInteger, nullable=False, default=0, comment="Sum."),
        Column("most", BigInteger, comment="Maximum."),
        Column("history", JSONB, nullable=False, server_default="[]", comment="What happened, in order."),
        Column("derived", Text, comment="Derived."),
        comment="One row a key.",
    )
    strict = projection.table(
        f"{name}_strict",
        Column("position", BigInteger, primary_key=True, comment="Of the event."),
        Column("number", BigInteger, comment="At most 0."),
        CheckConstraint("number <= 0"),
        comment="Numbers that can't be.",
    )

    @projection.on(Happened, key="key")
    def happened(event: Happened, fact: Recorded, rows: Rows) -> None:
        row = rows(table, event.key)
        match event.kind:
            case kind if kind in mended:
                row.append(history=f"{kind} is mended")
            case "add":
                row.add(total=event.number).greatest(most=event.number)
            case "append":
                row.append(history=event.number)
            case "set":
                row.set(total=event.number, derived=None)
            case "delete":
                row.delete()
            case "derive":
                row.derive(derived=lambda now: f"{now['total']}:{len(now['history'])}")
            case "null":
                row.append(history="null").set(total=None)
            case "fail":
                raise ValueError("can't be handled")
            case "half":
                row.append(history="half")
                rows(table, "other").add(total=1)
                row.derive(derived=lambda now: 1 // 0)
            case "refuse":
                row.append(history="refused")
                rows(strict, fact.position.number).set(number=1)

    return projection


class Cut(Feed):
    """A feed that hands over batches of the sizes it is told, again and again."""

    def __init__(self, pool: Pool, sizes: list[int]) -> None:
        super().__init__(pool)
        self._sizes, self._n = sizes, 0

    async def read(self, after: Position, limit: int) -> list[Row]:
        self._n += 1
        return await super().read(after, self._sizes[self._n % len(self._sizes)])


PLANNED = """
create sequence amends.step;
create table amends.crashes (at bigint);
create function amends.crash() returns trigger language plpgsql security definer as $$
declare
    n constant bigint := nextval('amends.step');
begin
    if exists (select from amends.crashes where at = n) then
        perform pg_terminate_backend(pg_backend_pid());
        perform pg_sleep(5);
    end if;
    return null;
end $$;
"""
"""The connection breaks at the steps that are planned, wherever a trigger says that there is one."""


def plan_crashes(owner: psycopg.Connection[Any], plan: list[int]) -> None:
    """Count the steps anew, and let these break."""
    owner.execute("alter sequence amends.step restart")
    owner.execute("truncate amends.crashes")
    with owner.cursor() as cursor:
        cursor.executemany("insert into amends.crashes values (%s)", [(n,) for n in plan])


BUILD_CRASHES = """
create trigger crash after update on amends.checkpoints for each row
    when (new.projection = 'batched' and (new.position, new.role) is distinct from (old.position, old.role))
    execute function amends.crash();
create constraint trigger crash_at_commit after update on amends.checkpoints deferrable initially deferred for each row
    when (new.projection = 'batched' and (new.position, new.role) is distinct from (old.position, old.role))
    execute function amends.crash();
create trigger crash_at_beginning after insert on amends.checkpoints for each row
    when (new.projection = 'batched') execute function amends.crash();
create trigger crash after insert or update on amends.generations for each row
    when (new.projection = 'batched') execute function amends.crash();
create trigger crash after insert on amends.dead_letters for each row
    when (new.projection = 'batched') execute function amends.crash();
create trigger crash_at_deletion after delete on amends.dead_letters for each row
    when (old.projection = 'batched') execute function amends.crash();
"""
"""There are steps when a follower or builder moves, parks, or has applied what was parked, and at those of a swap."""


def fresh(owner: psycopg.Connection[Any], url: str, *projections: Projection) -> None:
    """Everything empty, and both projections at the beginning."""
    owner.execute("truncate amends.crashes")
    owner.execute("set session_replication_role = replica")
    owner.execute("truncate amends.events, amends.streams, amends.commands, amends.dead_letters, amends.projection_log")
    for projection in projections:
        for table in ("checkpoints", "generations"):
            owner.execute(f"delete from amends.{table} where projection = %s".encode(), (projection.name,))
        for view in (projection.name, f"{projection.name}_strict"):
            owner.execute(f"drop view if exists views.{view}".encode())
    built = "select relname from pg_class where relnamespace = 'read_models'::regnamespace and relkind = 'r'"
    for (table,) in owner.execute(built).fetchall():
        if table.startswith(("batched_", "single_")):
            owner.execute(f"drop table read_models.{table}".encode())
    owner.execute("set session_replication_role = default")
    for projection in projections:
        install(url, projection)
