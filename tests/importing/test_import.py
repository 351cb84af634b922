"""Files of another system, taken over by the command line: each record once, and what can't be is told."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr
from typer.testing import Result

from amends.database import open_pool
from amends.embedded import EmbeddedTemporal
from amends.handler import CommandHandler
from amends.importing import as_key
from amends.importing.importer import Importer
from amends.importing.reading import candidates, read_jsonl
from amends.importing.session import importing
from amends.settings import Settings
from amends.store import EventStore
from app import app
from client import Shop
from domain.order import OrderExists, OrderIsImported
from domain.stock import ReceiveStock, StockItem
from domain.values import Line
from tests.cli.typing_in import amends
from tests.conftest import RunWorker
from tests.importing.legacy import customer, euros, order, product, projected, rows, said, stock, write
from tests.kernel.kernel_shop import context
from workflows.payment import PaymentMethod

ROOT = Path(__file__).parents[2]
TOGETHER = 60.0
"""Seconds after which a test gives up waiting for a process."""

EVENTS = "select name, count(*) from amends.events group by name order by name"
PER_STREAM = "select coalesce(max(n), 0) from (select count(*) as n from amends.events group by stream) as streams"

Import = Callable[..., Awaitable[tuple[dict[str, Any], Result]]]


@pytest.fixture
def load(settings: Settings) -> Import:
    """`await load(file, *options)` imports it, and gives the summary and what the command came to."""

    async def run(file: Path, *options: str) -> tuple[dict[str, Any], Result]:
        done = await amends("import", str(file), "--json", *options, settings=settings)
        return json.loads(done.stdout) if done.stdout else {}, done

    return run


async def test_customers_products_stock_and_past_orders_show_in_the_views(
    load: Import, database_url: str, tmp_path: Path
) -> None:
    # given
    file = write(
        tmp_path / "shop.jsonl",
        [
            customer("ann", member_since="2017-05-01T00:00:00Z"),
            product("TEA"),
            product("JAM", 300, discontinued=True),
            stock("TEA", 2_500_000),
            stock("JAM", 0),
            order("o1", "ann", total=euros(900)),
            order("o2", "ann", status="cancelled", reason="did not like it"),
            order("o3", "ann", status="refunded"),
            order("o4", "ann", paid=euros(900), refunded=euros(450)),
        ],
    )
    # when
    summary, done = await load(file)
    # then
    assert done.exit_code == 0, done.stderr
    assert summary["by_kind"] == {"customer": 1, "product": 2, "stock": 2, "order": 4}
    assert (summary["imported"], summary["rejected"], summary["report"]) == (9, 0, None)
    await projected(database_url)
    assert await rows(database_url, "select sku, price, discontinued from views.product_catalog order by 1") == [
        ("JAM", 300, True),
        ("TEA", 450, False),
    ]
    assert await rows(database_url, "select sku, on_hand from views.inventory_levels") == [("TEA", 2_500_000)]
    history = """
        select order_id, status, reason, total, paid, refunded, returned, placed_at::text, ended_at::text
        from views.order_history order by 1
    """
    times = ("2019-03-01 10:00:00+00", "2019-03-03 11:00:00+00")
    assert await rows(database_url, history) == [
        ("o1", "completed", None, 900, 900, 0, 0, *times),
        ("o2", "cancelled", "did not like it", 900, 0, 0, 0, *times),
        ("o3", "refunded", None, 900, 900, 900, 900, *times),
        ("o4", "completed", None, 900, 900, 450, 450, *times),
    ]
    since = "select data ->> 'member_since' from amends.events where name = 'customer.registered'"
    assert await rows(database_url, since) == [("2017-05-01T00:00:00Z",)]


async def test_a_second_run_imports_nothing_and_says_so(load: Import, database_url: str, tmp_path: Path) -> None:
    file = write(tmp_path / "shop.jsonl", [customer(1), product("TEA"), stock("TEA", 5), order(1, 1), order(1, 1)])
    first, _ = await load(file)
    before = await rows(database_url, "select count(*), max(position) from amends.events")
    again, done = await load(file)
    assert (first["imported"], first["already"]) == (4, 1)
    assert (again["imported"], again["already"], again["rejected"], done.exit_code) == (0, 5, 0, 0)
    assert await rows(database_url, "select count(*), max(position) from amends.events") == before


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "line: is no JSON"),
        (b"[1]", "line: is no JSON object"),
        (b'{"kind": "customer", "id": NaN}', "line: is no JSON"),
        (b'{"kind": "customer", "id": "\xff"}', "line: is not UTF-8: byte 29 of it is 0xff"),
        (b"x" * (2**20 + 1), "line: is longer than 1048576 bytes"),
        ({"kind": "parrot", "id": 1}, "kind: there is no 'parrot'; there are customer, order, product, stock"),
        ({"id": 1}, "kind: is missing"),
        ({"kind": "customer", "id": 2, "name": "Bob"}, "email: Field required"),
        (customer(2, email="nowhere"), "email: Value error, must look like name@example.org"),
        (customer(2, phone="1"), "phone: Extra inputs are not permitted"),
        (customer(2, name="a\x00b"), "name: text can't hold a NUL character"),
        (customer(2, member_since="2999-01-01T00:00:00Z"), "member_since: Value error, must not be in the future"),
        (customer(2, member_since="0001-01-01T00:00:00+01:00"), "member_since: is not within the years"),
        (order(2, 1, placed_at="0001-01-01T00:00:00+01:00"), "placed_at: is not within the years"),
        (customer(""), "id: String should have at least 1 character"),
        (customer(2, email="1@EXAMPLE.org "), "EmailTaken: The e-mail address belongs to another customer"),
        (product("TEA", -1), "price: Value error, must be more than zero"),
        (product("TEA", 1, price={"amount": 1, "currency": "DOGE"}), "price.currency: Value error, 'DOGE' is no ISO"),
        (stock("TEA", -1), "quantity: Input should be greater than or equal to 0"),
        (order(2, 1, lines=[]), "lines: Value error, must hold at least one line"),
        (order(2, 1, status="open"), "status: Input should be 'completed', 'cancelled' or 'refunded'"),
        (order(2, 1, total=euros(901)), "DoesNotAddUp: The sums of the order don't fit each other"),
        (order(2, 1, placed_at="2019-03-01T10:00:00"), "placed_at: Input should have timezone info"),
        (order(2, 1, ended_at="2018-03-01T10:00:00Z"), "EndedBeforePlaced"),
        (order(1, 2), "id: line 2 has the same one with other content"),
    ],
)
async def test_what_can_t_be_is_told_with_line_and_reason_and_the_rest_is_imported(
    line: dict[str, Any] | bytes, reason: str, load: Import, database_url: str, tmp_path: Path
) -> None:
    # given: good lines around a bad one, and an empty one
    file = write(tmp_path / "shop.jsonl", [customer(1), order(1, 1), b"", line, product("CAKE")])
    # when
    summary, done = await load(file)
    # then
    assert done.exit_code == 3, done.stderr
    assert (summary["imported"], summary["rejected"]) == (3, 1)
    [entry] = said(Path(summary["report"]))
    assert (entry["line"], entry["outcome"]) == (4, "rejected")
    assert entry["reason"].startswith(reason)
    # and: what was refused can be sent again
    again, _ = await load(write(tmp_path / "shop.jsonl", [customer(1), order(1, 1), b"", b"", product("CAKE")]))
    assert (again["imported"], again["already"], again["rejected"]) == (0, 3, 0)
    assert said(tmp_path / "shop.jsonl.rejected.jsonl") == [], "the report is of the last run"


async def test_a_rejected_record_is_taken_over_once_its_reason_is_gone(load: Import, tmp_path: Path) -> None:
    # given: an address that another customer has
    file = write(tmp_path / "shop.jsonl", [customer(1), customer(2, email="1@example.org")])
    summary, _ = await load(file)
    assert (summary["imported"], summary["rejected"]) == (1, 1)
    # when: it is mended
    again, done = await load(write(file, [customer(1), customer(2)]))
    # then
    assert (again["imported"], again["already"], done.exit_code) == (1, 1, 0)


async def test_a_record_whose_content_has_changed_is_told_and_left_as_it_was(
    load: Import, database_url: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "shop.jsonl", [customer(1), product("TEA", 450)])
    await load(file)
    again, done = await load(write(file, [customer(1, name="Somebody Else"), product("TEA", 450)]))
    assert (again["changed"], again["already"], done.exit_code) == (1, 1, 3)
    [entry] = said(Path(again["report"]))
    assert (entry["line"], entry["id"], entry["outcome"]) == (1, "1", "changed")
    assert "Somebody" not in json.dumps(entry), "a report holds no personal data"
    assert await rows(database_url, EVENTS) == [("customer.registered", 1), ("product.added", 1)]


async def test_keys_that_are_none_of_ours_are_hashed_alike_wherever_they_stand(
    load: Import, database_url: str, tmp_path: Path
) -> None:
    odd = "Bob Müller <bob@example.org>"
    summary, _ = await load(write(tmp_path / "shop.jsonl", [customer(odd, email="b@example.org"), order("o/1", odd)]))
    assert summary["imported"] == 2
    keys = "select data ->> 'customer_id' from amends.events order by position"
    assert await rows(database_url, keys) == [(as_key(odd),), (as_key(odd),)]
    ids = [id for (id,) in await rows(database_url, "select command_id from amends.commands order by number")]
    assert ids == [f"import/legacy/customer/{as_key(odd)}/1", f"import/legacy/order/{as_key('o/1')}/1"]
    assert as_key("plain-1.A_b") == "plain-1.A_b"


async def test_a_record_that_is_only_written_otherwise_has_not_changed(load: Import, tmp_path: Path) -> None:
    file = write(tmp_path / "shop.jsonl", [order(1, 1, ended_at="2019-03-03T12:00:00+01:00"), customer(1)])
    await load(file)
    other = dict(reversed(order("1", "1", ended_at="2019-03-03T11:00:00.000Z", total=None).items()))
    again, done = await load(write(file, [customer("1", email=" 1@EXAMPLE.org"), other]))
    assert (again["already"], again["changed"], done.exit_code) == (2, 0, 0)


async def test_two_systems_with_the_same_keys_are_two_sources(load: Import, tmp_path: Path) -> None:
    file = write(tmp_path / "shop.jsonl", [stock("TEA", 5)])
    await load(file, "--source", "north")
    again, _ = await load(file, "--source", "south")
    assert again["imported"] == 1


async def test_one_import_of_a_source_at_a_time(load: Import, database_url: str, tmp_path: Path) -> None:
    file = write(tmp_path / "shop.jsonl", [customer(1)])
    async with importing(database_url, [], "legacy"):
        _, done = await load(file)
        assert done.exit_code == 2
        assert "AlreadyRunning" in done.stderr
        other, _ = await load(file, "--source", "other")
    assert other["imported"] == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["nowhere.jsonl"], "there is no file"), (["pyproject.csv"], "there is no file"), (["."], "there is no file")],
)
async def test_a_file_that_can_t_be_read_is_told(arguments: list[str], told: str, settings: Settings) -> None:
    done = await amends("import", *arguments, settings=settings)
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.split())


async def test_an_imported_order_starts_no_saga_and_is_neither_refunded_nor_placed_again_here(
    load: Import, settings: Settings, run_worker: RunWorker, database_url: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "shop.jsonl", [customer("ann"), product("TEA"), stock("TEA", 5), order("o1", "ann")])
    assert (await load(file))[0]["imported"] == 4
    before = await rows(database_url, EVENTS)
    async with run_worker(), await Shop.connect(settings) as shop:
        with pytest.raises(OrderIsImported):
            await shop.refund_order("o1")
        with pytest.raises(OrderExists):
            await shop.place_order("ann", [Line(sku="TEA", quantity=1)], PaymentMethod(token="tok_ok"), request_id="o1")
    assert await rows(database_url, EVENTS) == before
    assert await rows(database_url, "select count(*) from gateway.requests") == [(0,)]


@pytest.fixture
def bare(postgres_url: str, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a database without the schema."""
    name = f"bare_{uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    url = SecretStr(make_conninfo(postgres_url, dbname=name))
    yield Settings(home=tmp_path / "home", database_url=url, temporal_address="127.0.0.1:1")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.mark.parametrize("verb", ["import", "export", "restore"])
async def test_a_database_without_the_schema_is_told_to_be_migrated(verb: str, bare: Settings, tmp_path: Path) -> None:
    tables = {"events": {"columns": ["xid"], "rows": 0}}
    header = {"amends": "log", "format": 1, "schema": "1", "transactions": 1, "tables": tables, "managers": []}
    done = await amends(verb, str(write(tmp_path / "shop.jsonl", [header, customer(1)])), settings=bare)
    assert done.exit_code == 2, done.stderr
    assert "`amends migrate`" in " ".join(done.stderr.split())


async def test_others_may_write_to_the_same_things_meanwhile(database_url: str, tmp_path: Path) -> None:
    """Commands of the shop on the very products that are imported: nothing is lost on either side."""
    skus = [f"S{n}" for n in range(8)]
    file = write(tmp_path / "shop.jsonl", [stock(sku, 1000 + n) for n, sku in enumerate(skus)])

    async def take_over(source: str) -> int:
        async with importing(database_url, app.aggregates, source) as (connection, bulk):
            found = candidates(read_jsonl(file), app.imports)
            summary = await Importer(bulk, source, "test", print).run(connection, found, asyncio.Event())
            return summary.imported

    async with open_pool(database_url, "writer", 4) as pool:
        handler = CommandHandler(EventStore(pool), [StockItem])

        async def deliver(sku: str) -> None:
            for _ in range(20):
                await handler.handle(ReceiveStock(sku=sku, quantity=1), context())

        deliveries = asyncio.gather(*(deliver(sku) for sku in skus))
        assert await asyncio.gather(*(take_over(f"s{n}") for n in range(3))) == [8, 8, 8]
        await deliveries
    await projected(database_url)
    assert await rows(database_url, "select sku, on_hand from views.inventory_levels order by 1") == [
        (f"S{n}", 3 * (1000 + n) + 20) for n in range(8)
    ]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_an_import_that_is_stopped_or_killed_goes_on_where_it_was(
    number: signal.Signals, database_url: str, temporal: EmbeddedTemporal, load: Import, tmp_path: Path
) -> None:
    # given: an import under way
    count = 12_000
    file = write(tmp_path / "shop.jsonl", (stock(f"S{n}", 1 + n) for n in range(count)))
    env = {**os.environ, "AMENDS_DATABASE_URL": database_url, "AMENDS_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "amends", "import", str(file), "--json"]
    env["AMENDS_TEMPORAL_ADDRESS"] = temporal.address
    process = subprocess.Popen(  # noqa: ASYNC220 - it is awaited in a thread
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        async with asyncio.timeout(TOGETHER):
            while await rows(database_url, "select count(*) from amends.import_rows") == [(0,)]:
                assert process.poll() is None, process.communicate()
        # when
        process.send_signal(number)
        out, err = await asyncio.to_thread(process.communicate, timeout=TOGETHER)
    finally:
        process.kill()
    # then: it has ended half-way
    [(so_far,)] = await rows(database_url, "select count(*) from amends.import_rows")
    assert 0 < so_far < count
    assert await rows(database_url, "select count(*) from amends.events") == [(so_far,)], "rows and events are one"
    if number == signal.SIGINT:
        assert process.returncode == 130, err
        assert json.loads(out)["stopped"] is True
        assert "run the same again" in err
    # and when it is run again, then every record is there, once
    summary, done = await load(file)
    assert done.exit_code == 0, done.stderr
    assert (summary["imported"], summary["already"]) == (count - so_far, so_far)
    assert await rows(database_url, EVENTS) == [("stock.received", count)]
    assert await rows(database_url, PER_STREAM) == [(1,)]
