"""What docs/sagas.md says is so: its saga runs, in all its endings; its commands exist; its queries run.

So is what docs/sql.md says: its queries find what has happened, and its Python reads it.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from sqlalchemy import create_engine
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.testing import TimeSkipper

from amends import Context, Money
from amends.app import App, install
from amends.connect import connect
from amends.database import conninfo, reader_url
from amends.settings import Settings
from client import Shop
from domain.customer import RegisterCustomer
from domain.product import AddProduct
from domain.stock import ReceiveStock, SetReorderPoint
from domain.values import Line
from tests.conftest import RunWorker
from tests.sagas.given import rows, story
from workflows.payment import PaymentMethod

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "sagas.md").read_text()
SQL_PAGE = (ROOT / "docs" / "sql.md").read_text()

EVENTS = (
    "select name from amends.events where name like 'trip_doc.%%' or name like 'night_doc.%%' order by xid, position"
)


def blocks(language: str, page: str = PAGE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def example(title: str) -> str:
    """A query of docs/sql.md, by the comment it begins with."""
    [found] = [query for query in blocks("sql", SQL_PAGE) if query.startswith(f"-- {title}\n")]
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The page's story, with the business it takes for granted, as a module."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "saga_of_the_page.py").write_text("from tests.page_business import *\n\n\n" + blocks("python")[0])
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("saga_of_the_page")
    finally:
        sys.path.remove(str(folder))


@pytest.mark.parametrize("ending", ["travelled", "not approved", "full", "ticket unknown"])
async def test_the_story_runs(page: ModuleType, settings: Settings, run_worker: RunWorker, ending: str) -> None:
    from tests.page_business import Night, TripOfPage, TripRequest

    sold: set[str] = set()

    class Counter(page.Agency):  # type: ignore[name-defined,misc]
        async def ticket(self, trip_id: str, context: Context) -> str:
            sold.add(trip_id)
            if ending == "ticket unknown":
                raise ApplicationError("the line is dead", non_retryable=True)
            return "ticket"

        async def find_ticket(self, trip_id: str, context: Context) -> str | None:
            return "ticket" if trip_id in sold else None

        async def return_ticket(self, trip_id: str, context: Context) -> None:
            sold.discard(trip_id)

    app = App(aggregates=[TripOfPage, Night], workflows=[page.BookTrip], activities=lambda resources: [Counter()])
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    install(app, url)
    async with run_worker(app):
        client = TimeSkipper(await connect(settings)).client
        nights = ("monday", "tuesday", *(["full"] if ending == "full" else []))
        handle = await client.start_workflow(
            page.BookTrip.run,
            TripRequest(trip_id="t1", nights=nights),
            id=f"trip-{settings.task_queue}",
            task_queue=settings.task_queue,
        )
        if ending in ("travelled", "ticket unknown"):
            await handle.signal("approve")
            assert await handle.result() == "travelled"
            assert sold == {"t1"}
            assert [name for (name,) in await rows(url, EVENTS)][-2:] == ["trip_doc.confirmed", "trip_doc.closed"]
        else:
            with pytest.raises(WorkflowFailureError):
                await handle.result()
            assert sold == set()
            assert [name for (name,) in await rows(url, EVENTS)][-1] == "trip_doc.released", "it is undone last"
        assert any("reserve the trip" in line for line in await story(handle))


@pytest.mark.parametrize("query", [*blocks("sql"), *blocks("sql", SQL_PAGE)])
def test_the_queries_run_as_the_reader(query: str, database_url: str) -> None:
    with psycopg.connect(conninfo(database_url, "reader")) as connection:
        connection.execute(query.encode())


def test_the_commands_exist_with_the_options_shown() -> None:
    lines = [line for block in blocks("console") for line in block.splitlines()]
    assert len(lines) > 5
    for verb in sorted({line.split()[3] for line in lines}):
        shown = subprocess.run(
            [sys.executable, "-m", "amends", "saga", verb, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            env={"COLUMNS": "200", "PATH": "", "TERM": "dumb"},
        ).stdout
        used = {option for line in lines if line.split()[3] == verb for option in re.findall(r"(--\w+)", line)}
        assert [option for option in used if option not in shown] == []


def test_every_status_and_update_named_exists() -> None:
    from amends import repair
    from amends.visibility import SagaStatus

    updates = {kind.update for kind in repair.Repair.__subclasses__()}
    assert set(re.findall(r"`(saga_\w+)`", PAGE)) == updates
    named = set(re.findall(r"Compensated|NeedsAttention|Completed|HandedOver|Abandoned", PAGE))
    assert named <= set(SagaStatus.__args__)  # type: ignore[attr-defined]


async def test_the_examples_in_sql_find_what_has_happened(settings: Settings, run_worker: RunWorker) -> None:
    # given: an order that went well and partly came back, one that was declined, one that ran out of goods
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    async with run_worker(), await Shop.connect(settings, actor="ann") as shop:
        await shop.execute(RegisterCustomer(customer_id="ann", name="Ann", email="ann@example.org"))
        await shop.execute(AddProduct(sku="MUG", name="A mug", price=Money(amount=1250, currency="EUR")))
        await shop.execute(SetReorderPoint(sku="MUG", at=9, quantity=10))
        await shop.execute(ReceiveStock(sku="MUG", quantity=10))
        orders = [
            await shop.place_order("ann", [Line(sku="MUG", quantity=quantity)], PaymentMethod(token=token))
            for quantity, token in ((3, "tok_ok"), (1, "tok_declined"), (99, "tok_ok"))
        ]
        outcomes = [await order.result() for order in orders]
        assert [outcome.reason for outcome in outcomes] == [None, "PaymentDeclined", "OutOfStock"]
        refund = await shop.refund_order(orders[0].order_id, [Line(sku="MUG", quantity=1)], restock=False)
        assert (await refund.result()).status == "refunded"
        await shop.require(await shop.client.reader.head())

        # when: asked as the reader
        async def asked(title: str) -> list[dict[str, Any]]:
            with psycopg.connect(conninfo(url, "reader"), row_factory=dict_row) as connection:
                return connection.execute(example(title).encode()).fetchall()

        # then
        compensated = await asked("compensated last week")
        assert {row["reason"]: row["orders"] for row in compensated} == {"PaymentDeclined": 1, "OutOfStock": 1}
        assert all(0 < row["average_seconds"] <= row["longest_seconds"] for row in compensated)
        [day] = await asked("revenue by day")
        figures = ("currency", "orders", "sold", "returned", "revenue", "average_order")
        assert [day[figure] for figure in figures] == ["EUR", 1, 3750, 1250, 2500, 3750]
        [low] = await asked("low stock")
        assert (low["sku"], low["available"], low["reorder_at"]) == ("MUG", 7, 9)
        mine = await asked("a customer's orders")
        assert [row["order_id"] for row in mine] == [order.order_id for order in reversed(orders)]
        story_ = [row["event"] for row in await asked("the story of an order")]
        assert (story_[0], story_[-1]) == ("order.placed", "order.cancelled")
        slowest = await asked("slowest sagas")
        assert {f"order-{order.order_id}" for order in orders} <= {row["saga_id"] for row in slowest}
        assert await asked("money by currency") == [
            {"currency": "EUR", "taken": 3750 + 99 * 1250, "given_back": 1250 + 99 * 1250, "kept": 2500}
        ]
        assert await asked("needs attention") == []
        assert await asked("dead letters") == []
        assert {row["projection"] for row in await asked("up to date")} >= {"order_history", "inventory_levels"}

        # and: the snippet of Python reads the same
        names: dict[str, Any] = {}
        exec(compile(blocks("python", SQL_PAGE)[0], "docs/sql.md", "exec"), names)
        engine = create_engine(reader_url(as_address(url)).replace("postgresql://", "postgresql+psycopg://"))
        try:
            found = await asyncio.to_thread(names["newest"], engine)
        finally:
            engine.dispose()
        assert found[-1] == (orders[0].order_id, "completed")


def as_address(url: str) -> str:
    parts = conninfo_to_dict(url)
    login = f"{parts['user']}:{quote(str(parts['password']))}" if parts.get("password") else parts["user"]
    return f"postgresql://{login}@{parts['host']}:{parts['port']}/{parts['dbname']}"
