"""What `given(projection)` says is in a table is what PostgreSQL has in it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as for_all
from sqlalchemy import Column, Integer, Table, Text, func

from amends import Event, Recorded
from amends.batch import fold
from amends.changes import Rows
from amends.projection import Projection
from amends.testing import ProjectionCase, given
from amends.testing.logged import logged
from tests.engine.readside_shop import install
from tests.engine.test_folding import EVENTS, declare, send

Operations = list[tuple[str, str, Any]]


class Scripted(Event, name="projection_cases.scripted"):
    """Something that a script says the effect of."""

    number: int


def scripted(script: list[tuple[tuple[str, int], Operations, bool]]) -> tuple[Projection, Table]:
    projection, table = declare(1)

    @projection.on(Scripted)
    def follow(event: Scripted, fact: Recorded, rows: Rows) -> None:
        key, operations, _ = script[event.number]
        change = rows(table, *key)
        for op, column, value in operations:
            if op == "delete":
                change.delete()
            elif op == "touch":
                change.set()
            else:
                getattr(change, op)(**{column: value})

    return projection, table


async def test_given_any_events_and_batches_when_applied_then_the_case_has_the_rows_of_the_database(
    database_url: str,
) -> None:
    install(database_url, scripted([])[0])

    with psycopg.connect(database_url) as connection:

        @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
        @for_all(EVENTS)
        def check(script: list[tuple[tuple[str, int], Operations, bool]]) -> None:
            projection, table = scripted(script)
            case, batch = given(projection), []
            for number, (_, _, cut) in enumerate(script):
                batch.append(Scripted(number=number))
                if cut or number == len(script) - 1:
                    case = case.when(*batch)
                    rows = [logged(event, n, {}) for n, event in enumerate(batch, 1)]
                    send(connection, fold(projection, rows).rows)
                    batch = []
            found = connection.execute("select * from read_models.folding_v1 order by k, l").fetchall()
            connection.rollback()
            assert told(case, table) == found

        check()


def told(case: ProjectionCase, table: Table) -> list[tuple[Any, ...]]:
    columns = [str(column.name) for column in table.columns][2:]
    rows = case.rows.get(case.projection.tables[table], {})
    return [(*key, *(row[column] for column in columns)) for key, row in sorted(rows.items())]


def test_given_a_row_that_the_database_would_refuse_when_made_then_told_so() -> None:
    projection = Projection("p", version=1)
    table = projection.table(
        "t",
        Column("k", Integer, primary_key=True, comment="Key."),
        Column("must", Text, nullable=False, comment="Must be there."),
        comment="A row a key.",
    )

    @projection.on(Scripted)
    def follow(event: Scripted, fact: Recorded, rows: Rows) -> None:
        rows(table, event.number).set()

    with pytest.raises(AssertionError, match=r"t\.must of row \(1,\) must not be null"):
        given(projection).when(Scripted(number=1))


def test_given_a_default_in_sql_when_it_is_needed_then_told_that_it_takes_a_database() -> None:
    projection = Projection("p", version=1)
    table = projection.table(
        "t",
        Column("k", Integer, primary_key=True, comment="Key."),
        Column("at", Text, server_default=func.now(), comment="When."),
        comment="A row a key.",
    )

    @projection.on(Scripted)
    def follow(event: Scripted, fact: Recorded, rows: Rows) -> None:
        change = rows(table, event.number)
        change.set(at="noon") if event.number else change.set()

    given(projection).when(Scripted(number=1)).then_row(table, 1, at="noon")
    with pytest.raises(TypeError, match=r"default of t\.at is SQL"):
        given(projection).when(Scripted(number=0))
