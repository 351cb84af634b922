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

__all__ = ["KINDS", "PLANNED", "Cut", "Happened", "declare", "plan_crashes"]

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
