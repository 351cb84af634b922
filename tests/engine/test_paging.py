"""Pages: every row once whatever is written meanwhile, the last as cheap as the first, cursors that are checked."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from pydantic import BaseModel
from sqlalchemy import Column, Date, DateTime, Integer, MetaData, Table, Text, select
from sqlalchemy.dialects.postgresql.base import PGDialect

from amends.asking import LARGEST
from amends.errors import InvalidInput
from amends.paging import Page, between, paged
from amends.query import Query
from amends.reader import Reader
from tests.engine.readside_shop import connect, fetch, install, order_list

ORDERS = Table(
    "readside_order",
    MetaData(),
    *(
        Column("order_id", Text),
        Column("status", Text),
        Column("total", Integer),
        Column("at", DateTime(timezone=True)),
    ),
    schema="views",
)

FILL = """
insert into read_models.readside_order_v1 (order_id, status, total, at)
select 'o' || lpad(n::text, 6, '0'), 'placed', %s * n %% 7, '2026-01-01'::timestamptz + n %% 13 * interval '1 hour'
from generate_series(%s::int, %s::int) as n
"""

DELETE = "delete from read_models.readside_order_v1 where order_id = %s returning 1"

INDEX = "create index on read_models.readside_order_v1 (at, order_id)"


class Row(BaseModel):
    order_id: str
    total: int
    at: datetime


Ask = Callable[..., Query[Page[Row]]]


def by_time(*, total: int | None = None, descending: bool = False, **page: Any) -> Query[Page[Row]]:
    found = select(ORDERS.c.order_id, ORDERS.c.total, ORDERS.c.at)
    if total is not None:
        found = found.where(ORDERS.c.total == total)
    return paged(found, Row, by=[ORDERS.c.at, ORDERS.c.order_id], descending=descending, **page)


@pytest.fixture
async def reader(database_url: str) -> AsyncIterator[Reader]:
    install(database_url, order_list())
    async with Reader(database_url, 1) as reader:
        yield reader


async def fill(url: str, first: int, last: int) -> None:
    await fetch(url, FILL + " returning 1", 3, first, last)


async def walk(
    reader: Reader, ask: Ask, between_pages: Callable[[int], Any] | None = None, **filters: Any
) -> list[Row]:
    """All rows, page by page."""
    rows: list[Row] = []
    after, number = None, 0
    while True:
        page = await reader.query(ask(after=after, **filters))
        rows += page.items
        if page.next is None:
            return rows
        after, number = page.next, number + 1
        if between_pages is not None:
            await between_pages(number)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("limit", [1, 7, 50, 1000])
async def test_given_rows_when_walked_by_pages_then_each_is_there_once_and_in_order(
    reader: Reader, database_url: str, limit: int, descending: bool
) -> None:
    await fill(database_url, 1, 50)
    rows = await walk(reader, by_time, limit=limit, descending=descending)
    found = [(row.at, row.order_id) for row in rows]
    assert found == sorted(found, reverse=descending)
    assert len(found) == 50


@pytest.mark.parametrize("descending", [False, True])
async def test_given_rows_written_and_deleted_while_they_are_walked_then_none_of_the_others_is_missed_or_repeated(
    reader: Reader, database_url: str, descending: bool
) -> None:
    await fill(database_url, 1, 100)

    async def disturb(number: int) -> None:
        await fill(database_url, 1000 * number, 1000 * number + 3)
        await fetch(database_url, DELETE, f"o{number:06}")

    rows = [row.order_id for row in await walk(reader, by_time, disturb, limit=9, descending=descending)]
    assert len(rows) == len(set(rows))
    left = {order for (order,) in await fetch(database_url, "select order_id from views.readside_order")}
    throughout = left & {f"o{number:06}" for number in range(1, 101)}
    assert 80 < len(throughout) < 100
    assert throughout <= set(rows)


async def test_given_an_index_on_the_order_when_a_late_page_is_read_then_it_begins_in_the_index_and_reads_no_more_rows(
    reader: Reader, database_url: str
) -> None:
    await fill(database_url, 1, 20_000)
    async with connect(database_url) as connection:
        await connection.execute(INDEX)
        await connection.execute("vacuum analyze read_models.readside_order_v1")
    first = await reader.query(by_time(limit=20))
    late = first
    for _ in range(15):
        late = await reader.query(by_time(limit=1000, after=late.next))
    assert late.next is not None
    costs = [await explained(database_url, by_time(limit=20, after=after)) for after in (first.next, late.next)]
    for plan in costs:
        [scan] = [node for node in nodes(plan) if "Index Name" in node]
        assert "ROW(" in scan["Index Cond"]
        assert scan["Actual Rows"] <= 21
        assert not [node for node in nodes(plan) if "Sort" in node["Node Type"]]
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 100


async def explained(url: str, query: Query[Any]) -> dict[str, Any]:
    dialect = PGDialect()  # type: ignore[no-untyped-call]
    compiled = query.statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    [(told,)] = await fetch(url, f"explain (analyze, buffers, format json) {compiled}")
    plan: dict[str, Any] = told[0]["Plan"]
    return plan


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


# Cursors


async def some_cursor(reader: Reader, url: str) -> str:
    await fill(url, 1, 50)
    page = await reader.query(by_time(limit=2))
    assert page.next is not None
    return page.next


async def test_given_a_cursor_when_another_question_is_asked_with_it_then_the_field_is_named(
    reader: Reader, database_url: str
) -> None:
    cursor = await some_cursor(reader, database_url)
    by_time(limit=3, after=cursor)
    for other in ({"total": 1}, {"descending": True}):
        with pytest.raises(InvalidInput, match="after: is not the `next` of a page of this very question"):
            by_time(after=cursor, **other)


async def test_given_a_cursor_when_it_is_tampered_with_then_the_field_is_named(
    reader: Reader, database_url: str
) -> None:
    cursor = await some_cursor(reader, database_url)
    text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    sum_, values = text[:16], json.loads(text[16:])
    forged = urlsafe_b64encode(f"{sum_}{json.dumps([values[0], 'o000040'])}".encode()).decode().rstrip("=")
    for wrong in (forged, cursor[:-2], cursor[1:], ""):
        with pytest.raises(InvalidInput, match="after: "):
            by_time(after=wrong)


@for_all(st.text())
def test_given_any_text_when_it_comes_as_a_cursor_then_the_field_is_named(text: str) -> None:
    with pytest.raises(InvalidInput, match="after: "):
        by_time(after=text)


@pytest.mark.parametrize("limit", [0, -1, LARGEST + 1, True, 2.0, "3", None])
def test_given_a_limit_that_can_not_be_one_when_asked_then_the_field_is_named(limit: Any) -> None:
    with pytest.raises(InvalidInput, match="limit: must be a whole number from 1 to 1000"):
        by_time(limit=limit)


# Bounds


def test_given_bounds_of_the_wrong_kind_when_asked_then_the_field_is_named() -> None:
    day = Column("day", Date)
    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    with pytest.raises(InvalidInput, match="since: must be a datetime with time zone"):
        between(ORDERS.c.at, date(2026, 5, 1), None)
    with pytest.raises(InvalidInput, match="until: must be a datetime with time zone"):
        between(ORDERS.c.at, noon, datetime(2026, 5, 1, 12))
    with pytest.raises(InvalidInput, match="first: must be a date"):
        between(day, noon, None, names=("first", "last"))


async def test_given_times_in_any_zone_when_rows_are_asked_for_between_them_then_the_first_counts_and_the_last_does_not(
    reader: Reader, database_url: str
) -> None:
    await fill(database_url, 1, 26)
    since, until = datetime.fromisoformat("2026-01-01T05:00+02:00"), datetime.fromisoformat("2026-01-01T06:00Z")
    found = select(ORDERS.c.order_id, ORDERS.c.total, ORDERS.c.at).where(*between(ORDERS.c.at, since, until))
    page = await reader.query(paged(found, Row, by=[ORDERS.c.order_id]))
    assert {row.at.hour for row in page.items} == {3, 4, 5}
