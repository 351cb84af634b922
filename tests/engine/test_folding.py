"""The effect of a folded batch is that of one event after the other, done in plain SQL."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb
from sqlalchemy import BigInteger, Boolean, Column, DateTime, Integer, Numeric, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from amends.changes import Derives
from amends.errors import InvalidInput
from amends.projection import Projection
from tests.engine.readside_shop import install

PLAIN = {
    "set": "%s",
    "add": "coalesce({column}, 0) + {value}",
    "append": "coalesce({column}, {empty}) || {value}",
    "least": "least({column}, {value})",
    "greatest": "greatest({column}, {value})",
}
"""What each operation means, told apart from how it is built."""

INTS = st.integers(-1000, 1000)
CENTS = st.decimals(-1000, 1000, places=4)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=3)
TIMES = st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))
PARTS = st.one_of(INTS, TEXTS, st.booleans(), st.lists(INTS, max_size=2), st.dictionaries(TEXTS, INTS, max_size=2))

VALUES: dict[str, tuple[st.SearchStrategy[Any], list[str]]] = {
    "n": (INTS, ["set", "add", "least", "greatest"]),
    "bare": (INTS, ["set", "add", "least", "greatest"]),
    "money": (CENTS, ["set", "add", "least", "greatest"]),
    "words": (TEXTS, ["set", "append"]),
    "things": (PARTS, ["set", "append"]),
    "at": (TIMES, ["set", "least", "greatest"]),
    "yes": (st.booleans(), ["set"]),
}


def operations() -> st.SearchStrategy[tuple[str, str, Any]]:
    one = [st.tuples(st.sampled_from(ops), st.just(column), values) for column, (values, ops) in VALUES.items()]
    nulls = st.tuples(st.just("set"), st.sampled_from(sorted(VALUES)), st.none())
    return st.one_of(*one, nulls, st.tuples(st.sampled_from(["delete", "touch"]), st.just(""), st.none()))


KEYS = st.tuples(st.sampled_from(["a", "b%"]), st.integers(1, 2))
EVENTS = st.lists(st.tuples(KEYS, st.lists(operations(), min_size=1, max_size=3), st.booleans()), max_size=25)


def declare(version: int) -> tuple[Projection, Table]:
    projection = Projection("folding", version=version)
    table = projection.table(
        "folding",
        Column("k", Text, primary_key=True, comment="."),
        Column("l", Integer, primary_key=True, comment="."),
        Column("n", BigInteger, default=7, comment="."),
        Column("bare", Integer, comment="."),
        Column("money", Numeric(12, 2), server_default="1.5", comment="."),
        Column("words", Text, default="it's 100%", comment="."),
        Column("things", JSONB, server_default='["first"]', comment="."),
        Column("at", DateTime(timezone=True), comment="."),
        Column("yes", Boolean, default=True, comment="."),
        comment=".",
    )
    return projection, table


def plainly(connection: psycopg.Connection[Any], key: tuple[str, int], op: tuple[str, str, Any]) -> None:
    kind, column, value = op
    if kind == "delete":
        connection.execute("delete from read_models.folding_v2 where (k, l) = (%s, %s)", key)
        return
    connection.execute("insert into read_models.folding_v2 (k, l) values (%s, %s) on conflict do nothing", key)
    if kind == "touch":
        return
    if column == "things" and value is not None:
        value = Jsonb(value)
    operand = {"money": "round(%s::numeric, 2)", "words": "%s::text", "things": "jsonb_build_array(%s::jsonb)"}
    empty = "'[]'::jsonb" if column == "things" else "''"
    done = PLAIN[kind].format(column=column, value=operand.get(column, "%s"), empty=empty)
    connection.execute(
        f"update read_models.folding_v2 set {column} = {done} where (k, l) = (%s, %s)".encode(), (value, *key)
    )


async def test_given_any_events_and_batches_when_folded_then_the_rows_are_those_of_one_event_at_a_time(
    database_url: str,
) -> None:
    folding, table = declare(1)
    plain, _ = declare(2)
    install(database_url, folding)
    install(database_url, plain)  # another version: its table is there beside the first

    with psycopg.connect(database_url) as connection:

        @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
        @given(EVENTS)
        def check(events: list[tuple[tuple[str, int], list[tuple[str, str, Any]], bool]]) -> None:
            rows = folding.rows()
            for key, ops, cut in events:
                change = rows(table, *key)
                for op in ops:
                    if op[0] == "delete":
                        change.delete()
                    elif op[0] == "touch":
                        change.set()
                    else:
                        getattr(change, op[0])(**{op[1]: op[2]})
                    plainly(connection, key, op)
                if cut:
                    send(connection, rows)
                    rows = folding.rows()
            send(connection, rows)
            found = [
                connection.execute(f"select * from read_models.folding_v{v} order by k, l".encode()).fetchall()
                for v in (1, 2)
            ]
            connection.rollback()
            assert found[0] == found[1]

        check()


def send(connection: psycopg.Connection[Any], rows: Any) -> None:
    for table, keys in rows.reads():
        rows.settle(table, connection.execute(table.generation(1).read, (keys.decode(),)).fetchall())
    for table, payload in rows.statements():
        connection.execute(table.generation(1).merge, (payload.decode(),))


def test_given_one_kind_of_operation_for_each_column_when_folded_then_one_statement_a_table() -> None:
    projection, table = declare(1)
    rows = projection.rows()
    for n in range(100):
        rows(table, "a", n % 3).set(at=datetime(2026, 1, 1, tzinfo=UTC)).add(n=1, money=Decimal(1)).append(things=n)
    assert len(list(rows.statements())) == 1


def test_given_operations_that_can_not_be_one_when_folded_then_in_as_many_statements_as_it_takes() -> None:
    projection, table = declare(1)
    rows = projection.rows()
    rows(table, "a", 1).add(n=1).least(n=5).add(n=1)
    rows(table, "a", 2).add(n=1)
    assert len(list(rows.statements())) == 3
    rows(table, "a", 1).delete()
    assert len(list(rows.statements())) == 1
    rows(table, "a", 1).add(n=1)
    assert len(list(rows.statements())) == 2


DERIVED: dict[str, tuple[Derives, str]] = {
    "n": (lambda row: None if row["n"] is None else row["n"] * 2 + row["l"], "n * 2 + l"),
    "money": (lambda row: row["money"] and -row["money"], "-money"),
    "words": (lambda row: f"{row['words']}/{row['n']}", "coalesce(words, 'None') || '/' || coalesce(n::text, 'None')"),
    "things": (lambda row: row["things"], "things"),
    "at": (lambda row: row["at"], "at"),
    "yes": (lambda row: None if row["yes"] is None else not row["yes"], "not yes"),
}
"""What is derived from the own row, and the same in SQL."""

DERIVING = st.lists(
    st.tuples(
        KEYS,
        st.lists(
            st.one_of(operations(), st.tuples(st.just("derive"), st.sampled_from(sorted(DERIVED)), st.none())),
            min_size=1,
            max_size=4,
        ),
        st.booleans(),
    ),
    max_size=20,
)


async def test_given_rows_derived_from_themselves_when_folded_then_as_one_event_at_a_time_by_one_read_a_batch(
    database_url: str,
) -> None:
    folding, table = declare(1)
    plain, _ = declare(2)
    install(database_url, folding)
    install(database_url, plain)  # another version: its table is there beside the first

    with psycopg.connect(database_url) as connection:

        @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
        @given(DERIVING)
        def check(events: list[tuple[tuple[str, int], list[tuple[str, str, Any]], bool]]) -> None:
            rows = folding.rows()
            for key, ops, cut in events:
                change = rows(table, *key)
                for op in ops:
                    if op[0] == "derive":
                        change.derive(**{op[1]: DERIVED[op[1]][0]})
                        plainly(connection, key, ("touch", "", None))
                        derived = (
                            f"update read_models.folding_v2 set {op[1]} = {DERIVED[op[1]][1]} where (k, l) = (%s, %s)"
                        )
                        connection.execute(derived.encode(), key)
                        continue
                    if op[0] == "delete":
                        change.delete()
                    elif op[0] == "touch":
                        change.set()
                    else:
                        getattr(change, op[0])(**{op[1]: op[2]})
                    plainly(connection, key, op)
                if cut:
                    send(connection, rows)
                    rows = folding.rows()
            send(connection, rows)
            found = [
                connection.execute(f"select * from read_models.folding_v{v} order by k, l".encode()).fetchall()
                for v in (1, 2)
            ]
            connection.rollback()
            assert found[0] == found[1]

        check()


def test_given_derived_rows_when_folded_then_one_read_and_one_statement_a_table() -> None:
    projection, table = declare(1)
    rows = projection.rows()
    for n in range(30):
        rows(table, "a", n % 3).add(n=1).derive(words=lambda row: str(row["n"])).append(words="!")
    assert len(list(rows.reads())) == 1
    [(read, _)] = rows.reads()
    rows.settle(read, [("a", number, False, *[None] * 7, 7, None, None, "", [], None, True) for number in range(3)])
    [(_, payload)] = rows.statements()
    assert payload.count(b'"words":"17!"') == 3


def test_given_a_derivation_of_no_column_or_of_the_key_when_made_then_named() -> None:
    projection, table = declare(1)
    with pytest.raises(InvalidInput, match="no such column"):
        projection.rows()(table, "a", 1).derive(colour=lambda row: 1)
    with pytest.raises(InvalidInput, match="is the key"):
        projection.rows()(table, "a", 1).derive(k=lambda row: "b")
