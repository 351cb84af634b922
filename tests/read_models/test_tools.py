"""What people ask the views by, besides psql: pandas, and tools that find out by themselves what there is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.types import NullType

from amends.database import reader_url
from domain.stock import StockReceived, StockReserved
from tests.read_models.past import NOON, Past, added, cancelled, eur, given_back, line, placed, registered, sold, usd
from tests.test_docs import as_address, blocks

PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text()

PLAIN = ("TEXT", "BIGINT", "INTEGER", "BOOLEAN", "DATE", "TIMESTAMP", "DOUBLE PRECISION", "NUMERIC")
"""Types that every tool reads."""

SAID = {"JSONB": "JSON", "TSVECTOR": "tsquery"}
"""Types that some read as text only, and the word by which the comment says what they are."""


@pytest.fixture
def lived(past: Past) -> Past:
    """A shop in which something of everything has happened."""
    tea = line("TEA", 2, eur(450))
    past.happened(NOON, registered("ada"), added("TEA", "Tea", eur(450)), StockReceived(sku="TEA", quantity=9))
    past.happened(NOON, StockReserved(sku="TEA", reservation_id="o1", quantity=2), sold("o1", tea))
    past.happened(NOON, sold("o2", line("TEA", 1, usd(500))), placed("o3", tea), cancelled("o3"))
    past.happened(NOON + timedelta(days=31), sold("o4", tea), given_back("o4", eur(100)))
    return past


@pytest.fixture
def connection(lived: Past) -> Iterator[Connection]:
    """As `amends up` prints the address for people: it acts as the reader."""
    engine = create_engine(reader_url(as_address(lived.url)).replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_pandas_reads_every_view_with_its_types(connection: Connection) -> None:
    views = inspect(connection).get_view_names("views")
    assert len(views) > 20
    rows = 0
    for view in views:
        columns = inspect(connection).get_columns(view, "views")
        frame = pd.read_sql(text(f"select * from views.{view}"), connection)
        assert list(frame.columns) == [each["name"] for each in columns]
        rows += len(frame)
        for each in columns:
            if len(frame) and str(each["type"]) == "BIGINT" and frame[each["name"]].notna().all():
                assert frame[each["name"]].dtype == "int64", (view, each)
    assert rows > 20


def test_pandas_reads_times_money_and_days(connection: Connection) -> None:
    orders = pd.read_sql("select * from views.order_history order by order_id", connection)
    assert list(orders["order_id"]) == ["o1", "o2", "o3", "o4"]
    assert orders["placed_at"].dt.tz is not None
    assert orders.groupby("currency")["paid"].sum().to_dict() == {"EUR": 1800, "USD": 500}
    assert [each["sku"] for each in orders["lines"][0]] == ["TEA"]


def test_the_page_s_pandas_says_what_the_views_say(connection: Connection) -> None:
    names: dict[str, Any] = {}
    exec(compile(blocks("python", PAGE)[1], "docs/sql.md", "exec"), names)
    months = names["revenue_by_month"](connection)
    assert [str(month) for month in months.index] == ["2026-05", "2026-06"]
    assert months["net"]["EUR"].tolist() == [900, 800]
    assert months["orders"]["EUR"].tolist() == [1, 1]
    assert months["net"]["USD"].iloc[0] == 500


def test_a_tool_that_looks_for_itself_finds_each_view_with_comments_and_types_that_it_can_read(
    connection: Connection,
) -> None:
    found = inspect(connection)
    views = found.get_view_names("views")
    assert len(views) > 20
    for view in views:
        assert found.get_table_comment(view, "views")["text"]
        for each in found.get_columns(view, "views"):
            where = f"{view}.{each['name']}"
            assert each["comment"], where
            assert not isinstance(each["type"], NullType), where
            kind = str(each["type"]).partition("(")[0]
            assert kind.startswith(PLAIN) or SAID.get(kind, "\0") in each["comment"], (where, kind, each["comment"])
