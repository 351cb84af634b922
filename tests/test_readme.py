"""What the README says is so: its snippets run, its saga is the repository's, its commands exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from amends.database import conninfo
from amends.settings import Settings
from tests.conftest import RunWorker

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_the_saga_shown_is_the_repositorys() -> None:
    saga = blocks("python")[0]
    assert saga in (ROOT / "workflows" / "inventory_reservation.py").read_text()
    assert len(saga.splitlines()) <= 25


async def test_the_client_snippet_places_an_order(
    settings: Settings, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # given: the addresses in the environment, as the text says, and a worker
    assert settings.database_url is not None
    monkeypatch.setenv("AMENDS_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("AMENDS_TEMPORAL_ADDRESS", str(settings.temporal_address))
    monkeypatch.setenv("AMENDS_TASK_QUEUE", settings.task_queue)
    names: dict[str, Any] = {}
    exec(compile(blocks("python")[1], "README.md", "exec"), names)
    async with run_worker():
        # when
        await names["main"]()
    # then
    said = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert said[0] == "completed"
    assert said[1] == "order.placed 25.00 EUR"
    assert said[-1] == "stock.committed 2 × MUG"


@pytest.mark.parametrize("query", blocks("sql"))
def test_the_queries_run_as_the_reader(query: str, database_url: str) -> None:
    with psycopg.connect(conninfo(database_url, "reader")) as connection:
        connection.execute(query.encode())


def test_the_commands_exist_and_each_is_told_of() -> None:
    told = set(re.findall(r"^\| `amends (\w+)", README, re.MULTILINE))
    shown = subprocess.run(
        [sys.executable, "-m", "amends", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    there = set(re.findall(r"^│ (\w+) ", shown.stdout, re.MULTILINE))
    assert told == there


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make (\w+)`?", README)) <= targets


def test_the_paths_exist() -> None:
    mentioned = set(re.findall(r"`([\w/]+\.(?:py|yml)|[\w]+/)`", README)) - {
        "domain/loyalty.py",
        "workflows/reward_customer.py",
        "read_models/points.py",
    }
    assert [path for path in sorted(mentioned) if not (ROOT / path).exists() and path != ".amends/"] == []


def test_the_hotel_is_as_short_as_it_is_said_to_be() -> None:
    said = re.search(r"in (\d+) lines", README)
    assert said is not None
    assert len((ROOT / "examples" / "hotel.py").read_text().splitlines()) <= int(said[1]) + 10


def test_the_invariants_shown_are_those_checked() -> None:
    from examples.demo.books import Books, check

    books = Books(orders=[], money=[], levels=[], pieces=[], ledger={})
    shown = re.findall(r"^✔ (.*)$", README, re.MULTILINE)
    assert shown == list(json.loads(json.dumps(check(books, []))))
