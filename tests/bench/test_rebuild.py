"""The rebuild under traffic: its log is legal and complete, it ends well where rows are equal, and fails where not."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from amends.database import open_pool
from amends.feed import Feed
from amends.handler import CommandHandler
from amends.log_check import check_log
from amends.logs import configure_logs
from amends.projection import Projection
from amends.settings import Settings
from amends.store import EventStore
from app import app as shop
from bench.rebuild import __main__ as program
from bench.rebuild import measuring
from bench.rebuild.alone import Rebuild, rebuilt
from bench.rebuild.log import fill, go_on, unseen
from bench.rebuild.reading import Looks, RowsLost, watch
from bench.rebuild.reference import GENERATION, Replay, differences, replay
from bench.rebuild.story import Story, Told
from bench.rebuild.traffic import followers
from bench.rebuild.world import World
from tests.engine.readside_shop import until

EVENTS = 3_000
ROOT = Path(__file__).parents[2]


def filled(url: str, events: int = EVENTS) -> Iterator[Told]:
    """A log with the story's first events; returns how it goes on."""
    world, now = World(shop.aggregates), datetime.now(UTC)
    told = iter(Story(world, events, now))
    fill(url, world, told, events, now, lambda n: None)
    return told


async def built(url: str, *projections: Projection) -> None:
    """Built by the serving path, and by the replay."""
    async with open_pool(url, "projector", 2) as pool:
        head = await Feed(pool).head()
        for follower in followers(pool, url, projections):
            await follower.catch_up(head)
    await replay(url, projections, lambda n: None)


def projection(name: str) -> Projection:
    return next(each for each in shop.projections if each.name == name)


def running(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.rebuild", *arguments]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


async def test_given_the_story_when_it_is_loaded_then_every_event_that_a_read_model_handles_is_there(
    database_url: str,
) -> None:
    filled(database_url)

    assert unseen(database_url, shop.projections) == {}
    async with open_pool(database_url, "projector", 1) as pool:
        assert await check_log(pool) == []


async def test_given_a_loaded_log_when_the_story_goes_on_then_the_handlers_decide_as_the_story_does(
    database_url: str,
) -> None:
    told = filled(database_url)

    async with open_pool(database_url, "writer", 1) as pool:
        handler = CommandHandler(EventStore(pool), shop.aggregates)
        appended = [await go_on(handler, told) for _ in range(300)]

    assert all(appended)


def test_given_a_log_that_is_too_short_when_it_is_looked_through_then_what_it_lacks_is_named(
    database_url: str,
) -> None:
    filled(database_url, 200)

    assert "order.imported" in unseen(database_url, shop.projections)["order_history"]


@pytest.mark.parametrize(
    ("tampering", "told"),
    [
        ("update {view} set paid = paid + 1 where order_id = 'o-40'", "1 rows with other values: o-40"),
        ("delete from {view} where order_id = 'o-40'", "1 rows missing: o-40"),
        ("insert into {view} (order_id) values ('o-none')", "1 rows too many: o-none"),
        ("delete from {replay} where order_id = 'o-40'", "1 rows too many: o-40"),
        ("update {replay} set lines = lines || '[1]' where order_id = 'o-40'", "1 rows with other values: o-40"),
    ],
)
async def test_given_equal_rows_when_one_is_tampered_with_then_the_comparison_names_it(
    database_url: str, tampering: str, told: str
) -> None:
    history = projection("order_history")
    filled(database_url, 500)
    await built(database_url, history)
    (table,) = (table for table in history.tables.values() if table.name == "order_history")
    names = {name: f'read_models."{table.generation(n).name}"' for name, n in (("view", 1), ("replay", GENERATION))}

    with psycopg.connect(database_url) as connection:
        assert list(differences(connection, [history])) == []
        connection.execute(tampering.format(**names).encode())
        found = list(differences(connection, [history]))

    assert [str(each) for each in found] == [f"views.order_history: {told}"]


async def test_given_a_reader_when_a_row_goes_missing_then_it_says_which(database_url: str) -> None:
    customers, looks = projection("customers"), Looks()
    filled(database_url, 500)
    await built(database_url, customers)

    reading = asyncio.create_task(watch(database_url, customers, asyncio.Event(), looks))

    async def looked() -> bool:
        return looks.reads >= 3

    await until(looked)
    with psycopg.connect(database_url) as connection:
        connection.execute("delete from read_models.customers_v3 where customer_id = 'c-3'")

    with pytest.raises(RowsLost, match=r"views.customers: 1 of \d+ rows were gone: \[\('c-3',\)\]"):
        await asyncio.wait_for(reading, 60)


def test_given_a_small_log_when_all_is_rebuilt_under_traffic_then_rows_are_equal_and_figures_kept(
    tmp_path: Path,
) -> None:
    process = running(["--events", str(EVENTS), "--results", str(tmp_path)], tmp_path)
    _, err = process.communicate(timeout=240)

    assert process.returncode == 0, err
    found = json.loads((tmp_path / "rebuild.json").read_text())
    assert [each["projection"] for each in found["views"]] == [each.name for each in shop.projections]
    for each in found["views"]:
        assert each["events"] >= EVENTS
        assert each["peak_mib"] >= each["start_mib"] > 10
        assert each["written"] > 0
        assert each["reads"] > 0
    assert found["replay"]["events"] == found["events"] + found["traffic"]["events"]
    assert "| order_history |" in (tmp_path / "rebuild.md").read_text()
    assert not list(tmp_path.glob("amends-bench-*"))


def test_given_other_rows_than_the_replay_has_when_all_is_over_then_it_fails_and_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def tampered(url: str, *arguments: Any) -> Replay:
        done = await replay(url, *arguments)
        _tamper(url)
        return done

    monkeypatch.setattr(measuring, "replay", tampered)
    assert _ended(tmp_path) == 1

    assert re.search(r"✘ views\.daily_registrations: \d+ rows with other values: 20\d\d-", capsys.readouterr().err)
    assert not (tmp_path / "rebuild.json").exists()


def test_given_other_rows_than_are_served_when_a_view_is_rebuilt_then_it_fails_and_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def tampered(url: str, name: str) -> Rebuild:
        _tamper(url)
        return await rebuilt(url, name)

    monkeypatch.setattr(measuring, "rebuilt", tampered)
    assert _ended(tmp_path) == 1

    err = " ".join(capsys.readouterr().err.split())
    assert re.search(r"✘ The rebuild of daily_registrations differs: .*'different': \[\['20\d\d-", err)
    assert not (tmp_path / "rebuild.json").exists()


def _tamper(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("update views.daily_registrations set registrations = registrations + 1")


def _ended(folder: Path) -> int:
    try:
        return program.main(["--events", "500", "--only", "daily_registrations", "--results", str(folder)])
    finally:
        configure_logs(Settings(log_level="warning"))


def test_given_a_rebuild_under_way_when_it_is_interrupted_then_nothing_of_it_is_left(tmp_path: Path) -> None:
    process = running(["--events", str(EVENTS), "--results", str(tmp_path)], tmp_path)
    while f"{process.pid} " not in _rebuilding(process):
        assert process.poll() is None

    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130, err
    assert "Stopped" in err
    assert not list(tmp_path.glob("*"))
    assert not _rebuilding(process)


def _rebuilding(process: subprocess.Popen[str]) -> str:
    """The processes that rebuild for another, each with its parent."""
    every = subprocess.run(["ps", "-A", "-o", "ppid=,command="], capture_output=True, text=True, check=True).stdout
    mine = (line.strip() for line in every.splitlines() if "bench.rebuild.alone" in line)
    return "".join(line for line in mine if line.startswith(f"{process.pid} "))
