"""What docs/migration.md says is so: its file is imported, its mappings read, its commands exist, its queries run."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from amends.database import conninfo
from amends.importing import SourceRecord
from amends.importing.comparing import compare, in_batches
from amends.importing.importer import Importer
from amends.importing.mapping import TableMapping, load_mapping
from amends.importing.reading import candidates, read_jsonl
from amends.importing.session import importing
from amends.reader import Reader
from amends.settings import Settings
from app import app
from tests.cli.typing_in import amends
from tests.importing.legacy import projected, rows, write

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "migration.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


async def test_the_file_is_imported_and_a_comparison_finds_it(
    settings: Settings, database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "shop.jsonl"
    file.write_text(blocks("json")[0])
    done = await amends("import", str(file), "--json", settings=settings)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["by_kind"] == {"customer": 1, "product": 2, "order": 1}
    ids = [id for (id,) in await rows(database_url, "select command_id from amends.commands")]
    assert all(id in ids for id in re.findall(r"`(import/[\w/]+)`", PAGE))
    await projected(database_url)
    compared = await amends("compare", str(file), "--json", settings=settings)
    assert (compared.exit_code, json.loads(compared.stdout)["same"]) == (0, 4)


async def test_the_mapping_reads_a_csv_file(settings: Settings, database_url: str, tmp_path: Path) -> None:
    (tmp_path / "articles.toml").write_text(blocks("toml")[0])
    text = "article;title;price;state\nMUG;Große Tasse;1.012,50;sold\nOLD;Alt;1,00;gone\n"
    (tmp_path / "articles.csv").write_text(text, encoding="cp1252")
    options = ("--map", str(tmp_path / "articles.toml"), "--json")
    done = await amends("import", str(tmp_path / "articles.csv"), *options, settings=settings)
    assert done.exit_code == 0, done.stderr
    await projected(database_url)
    query = "select sku, name, price, discontinued from views.product_catalog order by 1"
    assert await rows(database_url, query) == [("MUG", "Große Tasse", 101250, False), ("OLD", "Alt", 100, True)]


def test_the_mapping_of_a_table_is_one(tmp_path: Path) -> None:
    (tmp_path / "clients.toml").write_text(blocks("toml")[1])
    mapping = load_mapping(tmp_path / "clients.toml", TableMapping)
    assert (mapping.table, mapping.watermark, mapping.overlap) == ("public.clients", "changed_at", 60)


async def test_the_class_takes_records_over(database_url: str, tmp_path: Path) -> None:
    # given: the page's class
    (tmp_path / "shelf_of_the_page.py").write_text(blocks("python")[0])
    sys.path.insert(0, str(tmp_path))
    try:
        shelf: type[SourceRecord] = importlib.import_module("shelf_of_the_page").SourceShelf
    finally:
        sys.path.remove(str(tmp_path))
    record = {"kind": "shelf", "id": "MUG", "pieces": 30, "refill_below": 40}

    async def take_over(follow: bool) -> tuple[int, int]:
        file = write(tmp_path / "f.jsonl", [record])
        async with importing(database_url, app.aggregates, "legacy") as (connection, bulk):
            importer = Importer(bulk, "legacy", "test", print, follow=follow)
            summary = await importer.run(connection, candidates(read_jsonl(file), [shelf]), asyncio.Event())
            return summary.imported, summary.updated

    # when, then: it becomes two commands, and a change is followed
    assert await take_over(False) == (1, 0)
    record["refill_below"] = 20
    assert await take_over(True) == (0, 1)
    await projected(database_url)
    async with Reader(database_url, 1) as reader:
        found = candidates(read_jsonl(write(tmp_path / "f.jsonl", [record])), [shelf])
        assert (await compare(reader, in_batches(found), print)).equal


@pytest.mark.parametrize("query", blocks("sql"))
def test_the_queries_run_as_the_reader(query: str, database_url: str) -> None:
    with psycopg.connect(conninfo(database_url, "reader")) as connection:
        connection.execute(query.encode())


def test_the_commands_exist_with_the_options_shown() -> None:
    lines = [line for block in blocks("console") for line in block.splitlines()]
    used: dict[str, set[str]] = {}
    for line in lines:
        verb = line[line.index("amends") :].split()[1]
        used.setdefault(verb, set()).update(re.findall(r"(--\w+)", line))
    assert used.keys() == {"import", "follow", "compare", "export", "migrate", "restore"}
    for verb, options in used.items():
        shown = subprocess.run(
            [sys.executable, "-m", "amends", verb, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            env={"COLUMNS": "200", "PATH": "", "TERM": "dumb"},
        ).stdout
        assert [option for option in options if option not in shown] == []


def test_what_it_names_exists() -> None:
    from amends.importing.converters import CONVERTERS

    told = re.search(r"Converters are (.*?) and `json`", PAGE, re.DOTALL)
    assert told is not None
    assert {*re.findall(r"`(\w+)`", told[1]), "json"} - {"format", "zone"} == set(CONVERTERS)
    assert (ROOT / "domain" / "imports.py").exists()
    assert {record.kind for record in app.imports} == {"customer", "product", "stock", "order"}
