"""Another system's tables, followed until the cut-over: nothing is skipped, nothing twice, changes become changes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic_core import from_json
from typer.testing import Result

from amends.database import open_pool
from amends.feed import Feed
from amends.records import START
from amends.settings import Settings
from tests.cli.typing_in import amends
from tests.importing.legacy import customer, projected, rows, said, write

ROOT = Path(__file__).parents[2]
TOGETHER = 60.0
"""Seconds after which a test gives up waiting for a process."""

SCHEMA = """
create table clients (
    no integer primary key, full_name text not null, mail text not null, changed timestamptz default clock_timestamp()
);
create table articles (
    code text primary key, title text not null, price numeric(10, 2) not null, cur text not null default 'EUR',
    sold boolean not null default true, changed timestamp default localtimestamp
);
create table visits (id bigint primary key, sku text not null, pieces integer not null)
"""

CLIENTS = """
kind = "customer"
table = "clients"
key = "no"
watermark = "changed"
[fields]
id = "no"
name = "full_name"
email = "mail"
"""

ARTICLES = """
kind = "product"
table = "public.articles"
key = "code"
watermark = "changed"
[fields]
id = "code"
name = "title"
price = { column = "price", convert = "money", currency_column = "cur" }
discontinued = { column = "sold", values = { True = false, False = true } }
"""

VISITS = """
kind = "stock"
table = "visits"
key = "id"
watermark = "id"
overlap = 10
where = "pieces > 0"
[fields]
id = "sku"
quantity = { column = "pieces", convert = "integer" }
"""

EVENTS = "select name, data - 'customer_id' - 'sku' from amends.events order by xid, position"
COUNT = "select count(*) from amends.events"
MARK = "select watermark from amends.watermarks"


@dataclass(frozen=True)
class Legacy:
    """The other system's database, and mappings of its tables."""

    url: str
    folder: Path

    def run(self, statement: str, *parameters: object) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode(), parameters or None)

    def mapping(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)


async def happened(url: str) -> list[tuple[str, dict[str, Any]]]:
    """What `EVENTS` says, personal data in clear."""
    async with open_pool(url, "projector", 1) as pool:
        found = await Feed(pool).read(START, 1000)
    told = [(row.name, from_json(row.data)) for row in found]
    return [
        (name, {field: facts[field] for field in facts if field not in ("customer_id", "sku")}) for name, facts in told
    ]


@pytest.fixture
def legacy(postgres_url: str, tmp_path: Path) -> Iterator[Legacy]:
    name = f"legacy_{uuid4().hex}"
    parts = conninfo_to_dict(make_conninfo(postgres_url, dbname=name))
    address = f"postgresql://{parts['user']}:{parts['password']}@{parts['host']}:{parts['port']}/{name}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    found = Legacy(address, tmp_path)
    found.run(SCHEMA)
    yield found
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


Look = Callable[..., Awaitable[tuple[list[dict[str, Any]], Result]]]


@pytest.fixture
def look(legacy: Legacy, settings: Settings) -> Look:
    """`await look(mapping, …)` follows once, and gives the figures of each table and what the command came to."""

    async def run(*arguments: str) -> tuple[list[dict[str, Any]], Result]:
        report = str(legacy.folder / "follow.rejected.jsonl")
        told = ("--once", "--json", "--from", legacy.url, "--report", report)
        done = await amends("follow", *arguments, *told, settings=settings)
        return json.loads(done.stdout) if done.stdout else [], done

    return run


async def test_new_rows_come_over_and_changed_ones_become_changes(
    legacy: Legacy, look: Look, database_url: str
) -> None:
    # given
    clients, articles = legacy.mapping("clients.toml", CLIENTS), legacy.mapping("articles.toml", ARTICLES)
    legacy.run("insert into clients values (1, 'Ann', 'ann@example.org'), (2, 'Bob', 'bob@example.org')")
    legacy.run("insert into articles values ('TEA', 'Tea', 4.50), ('JAM', 'Jam', 3)")
    [people, goods], done = await look(clients, articles)
    assert done.exit_code == 0, done.stderr
    assert (people["imported"], goods["imported"], people["behind"], goods["behind"]) == (2, 2, 0, 0)
    # when: an address and a price change, one product ends, and a customer comes
    legacy.run("update clients set mail = 'ann@example.net', changed = clock_timestamp() where no = 1")
    legacy.run("update articles set price = 5, changed = localtimestamp where code = 'TEA'")
    legacy.run("update articles set sold = false, changed = localtimestamp where code = 'JAM'")
    legacy.run("insert into clients values (3, 'Cid', 'cid@example.org')")
    [people, goods], done = await look(clients, articles)
    # then
    assert (people["imported"], people["updated"], goods["updated"], done.exit_code) == (1, 1, 2, 0)
    assert (await happened(database_url))[4:] == [
        ("customer.email_changed", {"email": "ann@example.net"}),
        ("customer.registered", {"name": "Cid", "email": "cid@example.org", "member_since": None}),
        ("product.price_changed", {"price": {"amount": 500, "currency": "EUR"}}),
        ("product.discontinued", {}),
    ]
    # and: a further look finds nothing
    [people, goods], _ = await look(clients, articles)
    assert (people["imported"], people["updated"], goods["imported"], goods["updated"]) == (0, 0, 0, 0)
    assert await rows(database_url, COUNT) == [(8,)]


async def test_of_a_change_what_can_be_followed_is_and_the_rest_is_told_with_its_field(
    legacy: Legacy, look: Look, database_url: str, tmp_path: Path
) -> None:
    # given
    clients = legacy.mapping("clients.toml", CLIENTS)
    legacy.run("insert into clients values (1, 'Ann', 'ann@example.org')")
    await look(clients)
    # when: name and address change in one
    legacy.run("update clients set full_name = 'Anna', mail = 'anna@example.org', changed = clock_timestamp()")
    [people], done = await look(clients)
    # then
    assert (people["updated"], people["changed"], done.exit_code) == (0, 1, 3)
    [entry] = said(tmp_path / "follow.rejected.jsonl")
    assert (entry["id"], entry["outcome"]) == ("1", "changed")
    assert entry["reason"] == "name: has changed, which can't be followed, and stays as it was"
    assert (await happened(database_url))[1:] == [("customer.email_changed", {"email": "anna@example.org"})]
    # and: it is told once, and an address that changes after it is followed
    legacy.run("update clients set mail = 'anna@example.net', changed = clock_timestamp()")
    [people], done = await look(clients)
    assert (people["updated"], people["changed"], done.exit_code) == (1, 0, 0)


async def test_a_price_and_an_end_that_come_in_one_are_both_followed(
    legacy: Legacy, look: Look, database_url: str
) -> None:
    articles = legacy.mapping("articles.toml", ARTICLES)
    legacy.run("insert into articles values ('TEA', 'Tea', 4)")
    await look(articles)
    legacy.run("update articles set price = 5, sold = false, changed = localtimestamp")
    [goods], done = await look(articles)
    assert (goods["updated"], done.exit_code) == (1, 0)
    assert (await rows(database_url, EVENTS))[1:] == [
        ("product.price_changed", {"price": {"amount": 500, "currency": "EUR"}}),
        ("product.discontinued", {}),
    ]


async def test_a_price_that_goes_there_and_back_again_is_followed_each_time(
    legacy: Legacy, look: Look, database_url: str
) -> None:
    articles = legacy.mapping("articles.toml", ARTICLES)
    legacy.run("insert into articles values ('TEA', 'Tea', 4)")
    for price in (4, 5, 4, 5):
        legacy.run("update articles set price = %s, changed = localtimestamp", price)
        await look(articles)
    prices = "select (data #>> '{price,amount}')::int from amends.events order by position"
    assert [price for (price,) in await rows(database_url, prices)] == [400, 500, 400, 500]


async def test_rows_with_one_watermark_are_all_taken_though_they_fill_many_pages(
    legacy: Legacy, look: Look, database_url: str
) -> None:
    things = "select 'S' || n, 'Thing', 1, 'EUR', true, '2026-01-01 10:00' from generate_series(1, 1700) n"
    legacy.run(f"insert into articles {things}")
    [goods], _ = await look(legacy.mapping("articles.toml", "overlap = 0\n" + ARTICLES))
    assert goods["imported"] == 1700
    assert await rows(database_url, COUNT) == [(1700,)]


async def test_a_row_that_was_committed_later_than_its_time_says_is_not_skipped(legacy: Legacy, look: Look) -> None:
    clients = legacy.mapping("clients.toml", CLIENTS)
    with psycopg.connect(legacy.url) as slow:
        # given: a row whose transaction is still open when a later one is taken over
        slow.execute("insert into clients values (1, 'Late', 'late@example.org')")
        legacy.run("insert into clients values (2, 'Bob', 'bob@example.org')")
        [people], _ = await look(clients)
        assert people["imported"] == 1
        # when
        slow.commit()
    [people], _ = await look(clients)
    # then
    assert people["imported"] == 1


async def test_a_time_in_the_future_does_not_hide_what_comes_before_it(legacy: Legacy, look: Look) -> None:
    clients = legacy.mapping("clients.toml", CLIENTS)
    legacy.run("insert into clients values (1, 'Ann', 'ann@example.org', '2999-01-01')")
    [people], _ = await look(clients)
    assert people["imported"] == 1
    assert people["watermark"] < "2999"
    legacy.run("insert into clients values (2, 'Bob', 'bob@example.org')")
    [people], _ = await look(clients)
    assert people["imported"] == 1


async def test_numbers_can_be_the_watermark_and_a_condition_leaves_rows_out(
    legacy: Legacy, look: Look, database_url: str
) -> None:
    visits = legacy.mapping("visits.toml", VISITS)
    legacy.run("insert into visits values (7, 'TEA', 5), (8, 'JAM', 0)")
    [found], _ = await look(visits)
    assert (found["imported"], found["watermark"], found["behind"]) == (1, 7, 0)
    assert await rows(database_url, MARK) == [("7",)]


async def test_a_condition_with_or_leaves_the_watermark_in_force(legacy: Legacy, look: Look) -> None:
    # given: a condition that would hold for each row if its OR swallowed the watermark
    where = "pieces > 0 or sku = 'JAM'"
    visits = legacy.mapping("visits.toml", VISITS.replace("pieces > 0", where).replace("overlap = 10", "overlap = 0"))
    legacy.run("insert into visits values (7, 'TEA', 5), (8, 'JAM', 0), (9, 'MUG', 0)")
    # when
    async with asyncio.timeout(TOGETHER):
        [first], _ = await look(visits)
        [second], _ = await look(visits)
    # then: each row once, and the second look begins at the watermark
    assert (first["read"], first["watermark"], first["behind"]) == (2, 8, 0)
    assert (second["read"], second["behind"]) == (1, 0)


async def test_what_was_imported_from_a_file_is_not_taken_over_again(
    legacy: Legacy, look: Look, settings: Settings, tmp_path: Path
) -> None:
    file = write(tmp_path / "dump.jsonl", [customer(1, name="Ann", email="ann@example.org")])
    assert (await amends("import", str(file), settings=settings)).exit_code == 0
    legacy.run("insert into clients values (1, 'Ann', 'ann@example.org')")
    [people], _ = await look(legacy.mapping("clients.toml", CLIENTS))
    assert (people["imported"], people["already"]) == (0, 1)


async def test_what_can_t_be_taken_over_is_told_and_comes_when_it_is_mended(
    legacy: Legacy, look: Look, tmp_path: Path
) -> None:
    # given: a bad address, a change that can't be followed
    clients = legacy.mapping("clients.toml", CLIENTS)
    legacy.run("insert into clients values (1, 'Ann', 'nowhere'), (2, 'Bob', 'bob@example.org')")
    [people], done = await look(clients)
    assert (people["imported"], people["rejected"], done.exit_code) == (1, 1, 3)
    [entry] = said(tmp_path / "follow.rejected.jsonl")
    assert (entry["kind"], entry["id"], entry["reason"][:6]) == ("customer", "1", "email:")
    # when
    legacy.run("update clients set mail = 'ann@example.org', changed = clock_timestamp() where no = 1")
    legacy.run("update clients set full_name = 'Robert', changed = clock_timestamp() where no = 2")
    [people], done = await look(clients)
    # then
    assert (people["imported"], people["changed"], done.exit_code) == (1, 1, 3)
    [entry] = said(tmp_path / "follow.rejected.jsonl")
    assert (entry["id"], entry["outcome"]) == ("2", "changed")


async def test_a_time_before_all_times_is_told_and_the_rest_is_taken_over(
    legacy: Legacy, look: Look, tmp_path: Path
) -> None:
    # given: 0001-01-01 as a field with a zone, and as the watermark
    since = 'since = { column = "changed", convert = "datetime", zone = "Europe/Berlin" }'
    articles = legacy.mapping("articles.toml", ARTICLES + since.replace("since", "discontinued_at", 1))
    goods = legacy.mapping("goods.toml", ARTICLES.replace("public.articles", "articles"))
    legacy.run("insert into articles values ('TEA', 'Tea', 4, 'EUR', true, '0001-01-01')")
    # when
    [first], done = await look(articles)
    # then
    assert (first["read"], first["rejected"], done.exit_code) == (1, 1, 3), done.stderr
    [entry] = said(tmp_path / "follow.rejected.jsonl")
    assert entry["reason"] == "discontinued_at: column 'changed' is not within the years 1 to 9999 in UTC"
    # and: a look may begin before the first time that there is
    for wanted in (1, 0):
        [found], done = await look(goods)
        assert (found["imported"], done.exit_code) == (wanted, 0), done.stderr


@pytest.mark.parametrize(
    ("prepare", "mapping", "told"),
    [
        ("select 1", CLIENTS.replace('"full_name"', '"nick"'), 'column clients.nick does not exist'),
        ("select 1", CLIENTS.replace('table = "clients"', 'table = "nobody"'), 'relation "nobody" does not exist'),
        ("insert into clients values (1, 'A', 'a@b.org')", CLIENTS.replace('"changed"', '"mail"'), "neither a whole"),
        ("select 1", CLIENTS.replace("watermark", "watermelon"), "watermark: Field required"),
        ("select 1", "][", "neither TOML"),
    ],
)  # fmt: skip
async def test_a_table_that_can_t_be_followed_is_told(
    prepare: str, mapping: str, told: str, legacy: Legacy, look: Look
) -> None:
    legacy.run(prepare)
    _, done = await look(legacy.mapping("clients.toml", mapping))
    assert done.exit_code == 2, done.stderr
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


async def test_the_other_database_is_only_read(legacy: Legacy, look: Look) -> None:
    legacy.run("insert into clients values (1, 'Ann', 'ann@example.org')")
    legacy.run("create function touch() returns boolean language sql as 'update clients set no = 1 returning true'")
    mapping = CLIENTS.replace("[fields]", 'where = "touch()"\n[fields]')
    _, done = await look(legacy.mapping("clients.toml", mapping))
    assert "read-only transaction" in " ".join(done.stderr.split())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_following_goes_on_by_itself_and_after_it_was_stopped_or_killed(
    number: signal.Signals, legacy: Legacy, look: Look, database_url: str, tmp_path: Path
) -> None:
    # given: somebody follows
    articles = legacy.mapping("articles.toml", ARTICLES)
    env = {**os.environ, "AMENDS_DATABASE_URL": database_url, "AMENDS_SOURCE_URL": legacy.url}
    env |= {"AMENDS_HOME": str(tmp_path / "home"), "AMENDS_TEMPORAL_ADDRESS": "127.0.0.1:1"}
    report = str(tmp_path / "r.jsonl")
    command = [sys.executable, "-m", "amends", "follow", articles, "--every", "0.05", "--report", report]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)  # noqa: ASYNC220

    async def there(count: int) -> None:
        async with asyncio.timeout(TOGETHER):
            while (await rows(database_url, COUNT))[0][0] < count:
                assert process.poll() is None, process.communicate()
                await asyncio.sleep(0.01)

    try:
        # when: rows come, one after the other, then many
        for n in range(3):
            legacy.run("insert into articles values (%s, 'Thing', 1)", f"A{n}")
            await there(n + 1)
        legacy.run("insert into articles select 'B' || n, 'Thing', 1 from generate_series(1, 8000) n")
        await there(4)
        process.send_signal(number)
        err = (await asyncio.to_thread(process.communicate, timeout=TOGETHER))[1]
    finally:
        process.kill()
    # then
    if number == signal.SIGINT:
        assert process.returncode == 0, err
        assert "Traceback" not in err
    [(count,)] = await rows(database_url, COUNT)
    assert await rows(database_url, "select count(*) from amends.import_rows") == [(count,)]
    [goods], done = await look(articles)
    assert (done.exit_code, goods["behind"]) == (0, 0)
    assert await rows(database_url, COUNT) == [(8003,)]
    assert await rows(database_url, "select count(distinct stream) from amends.events") == [(8003,)]


async def test_a_comparison_lists_what_differs_between_both_systems(
    legacy: Legacy, look: Look, settings: Settings, database_url: str
) -> None:
    # given: three products, taken over; then one is changed there, one comes
    articles = legacy.mapping("articles.toml", ARTICLES)
    legacy.run("insert into articles values ('TEA', 'Tea', 4), ('JAM', 'Jam', 3), ('OAT', 'Oats', 2)")
    await look(articles)
    await projected(database_url)
    same = await amends("compare", articles, "--from", legacy.url, "--json", settings=settings)
    assert (same.exit_code, json.loads(same.stdout)["same"]) == (0, 3)
    legacy.run("update articles set price = 5, sold = false where code = 'TEA'")
    legacy.run("insert into articles values ('NEW', 'New', 1)")
    # when
    done = await amends("compare", articles, "--from", legacy.url, "--json", settings=settings)
    # then
    found = json.loads(done.stdout)
    assert (done.exit_code, found["same"], found["different"]) == (3, 2, 2)
    assert (found["theirs"], found["ours"]) == ({"product_catalog": 4}, {"product_catalog": 3})
    differences = sorted((d["id"], d["column"], d["theirs"], d["ours"]) for d in found["differences"])
    assert differences == [
        ("NEW", "", "there", "missing"),
        ("TEA", "discontinued", True, False),
        ("TEA", "price", 500, 400),
    ]
    # and: people see a table of it
    table = await amends("compare", articles, "--from", legacy.url, settings=settings)
    assert "product TEA" in table.stdout
    assert "2 of 4 records are the same, 2 differ" in table.stdout
