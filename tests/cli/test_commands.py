"""The command line as people type it: real servers in a folder of the test, ended by Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from temporalio.client import Client

from amends.embedded import Running, running

ROOT = Path(__file__).parents[2]
AMENDS = [sys.executable, "-m", "amends"]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment with a folder and free ports of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AMENDS_", "TEMPORAL_"))}
    ports = {"AMENDS_TEMPORAL_PORT": "0", "AMENDS_TEMPORAL_UI_PORT": "0"}
    return {**clean, **ports, "AMENDS_HOME": str(tmp_path / "home")}


@pytest.fixture
def up(env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A running `amends up`, ended in any case."""
    process = subprocess.Popen([*AMENDS, "up"], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
        process.communicate()


def wait_until_up(process: subprocess.Popen[str], env: dict[str, str], seconds: float = 60) -> Running:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert process.poll() is None, process.communicate()[1]
        found = running(Path(env["AMENDS_HOME"])) if Path(env["AMENDS_HOME"]).exists() else None
        if found is not None:
            return found
        time.sleep(0.05)
    raise AssertionError("amends up did not come up")


def joined_worker(env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen([*AMENDS, "worker", "--join"], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)


def amends(*arguments: str, env: dict[str, str], seconds: float = 110) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*AMENDS, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=seconds, check=False
    )


async def test_up_starts_everything_says_where_refuses_a_second_and_leaves_nothing(
    up: subprocess.Popen[str], env: dict[str, str]
) -> None:
    # given: and one more worker, which waits until all is there
    joining = joined_worker(env)
    where = wait_until_up(up, env)
    children = psutil.Process(up.pid).children(recursive=True)
    assert {"postgres", "temporal"} <= {child.name() for child in children}

    # then: the server is there, and a second one on the same data says who has them
    client = await Client.connect(where.temporal_address)
    assert await client.service_client.check_health()
    second = amends("up", env=env)
    assert second.returncode == 2
    assert str(up.pid) in second.stderr
    assert "AMENDS_HOME" in second.stderr
    assert joining.stderr is not None
    assert "worker_started" in joining.stderr.readline()

    # when: Ctrl-C
    up.send_signal(signal.SIGINT)
    said = up.communicate(timeout=60)[1]

    # then: it has said where all was, ends well, and no process is left
    assert up.returncode == 0
    assert str(where.web_ui) in said
    assert str(conninfo_to_dict(where.database_url)["password"]) not in said
    printed = next(line.split()[1] for line in said.splitlines() if line.startswith("PostgreSQL"))
    # which libpq finds the password by
    _check_passfile(Path(str(conninfo_to_dict(printed)["passfile"])), where)
    assert [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []

    # and: whoever has joined goes too
    assert "worker_draining" in joining.communicate(timeout=60)[1]
    assert joining.returncode == 0


@pytest.mark.timeout(240)
def test_the_demo_settles_its_orders_on_the_servers_that_are_up_and_again_on_its_own(
    up: subprocess.Popen[str], env: dict[str, str]
) -> None:
    # given: servers that are up
    where = wait_until_up(up, env)

    # when
    first = amends("demo", "--orders", "20", "--json", env=env)

    # then
    assert first.returncode == 0, first.stderr
    figures = json.loads(first.stdout)
    assert figures["orders"] == {
        "placed": 20,
        "completed": 17,
        "cancelled": 3,
        "by_reason": {"PaymentDeclined": 1, "OutOfStock": 1, "cancelled_by_customer": 1},
    }
    assert figures["sagas_per_second"] > 0
    assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["p95"] <= figures["latency_ms"]["p99"]
    assert all(sums["taken"] - sums["refunded"] == sums["of_completed_orders"] for sums in figures["money"].values())
    assert set(figures["invariants"].values()) == {True}
    assert figures["web_ui"] == where.web_ui
    assert "password" not in conninfo_to_dict(figures["database_url"])
    with psycopg.connect(figures["database_url"]) as connection:  # its password is in the file that it names
        assert connection.execute("select 1").fetchone() == (1,)

    # and: commands that look at what has happened find those servers too
    nothing = amends("trace", "nothing", env=env)
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "NothingRecorded" in nothing.stderr

    # when: they have ended, and the demo starts its own, on the same data
    up.send_signal(signal.SIGINT)
    up.wait(60)
    again = amends("demo", "--orders", "5", env=env)

    # then: it shows tables, and the books still balance over both runs
    assert again.returncode == 0, again.stderr
    assert "Orders by status" in again.stdout
    assert again.stdout.count("✔") == 5
    assert running(Path(env["AMENDS_HOME"])) is None


def test_up_fresh_starts_empty(env: dict[str, str]) -> None:
    # given: data of an earlier run
    assert amends("demo", "--orders", "1", env=env).returncode == 0
    process = subprocess.Popen([*AMENDS, "up", "--fresh"], cwd=ROOT, env=env, stderr=subprocess.DEVNULL, text=True)
    try:
        # when
        wait_until_up(process, env)
        figures = json.loads(amends("demo", "--orders", "1", "--json", env=env).stdout)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    # then: the books hold that one order alone
    [sums] = figures["money"].values()
    assert figures["orders"]["placed"] == 1
    assert sums["taken"] - sums["refunded"] == sums["of_completed_orders"]
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "setting", "code", "told"),
    [
        (["up"], {"AMENDS_TEMPORAL_PORT": "notaport"}, 2, "AMENDS_TEMPORAL_PORT"),
        (["up"], {"AMENDS_APP": "nothing_here:app"}, 2, "nothing_here:app"),
        (["migrate"], {}, 2, "AMENDS_DATABASE_URL"),
        (["worker"], {"AMENDS_TEMPORAL_ADDRESS": "127.0.0.1:1"}, 2, "127.0.0.1:1"),
        (["demo", "--orders", "0"], {}, 2, "--orders"),
    ],
)
def test_what_can_not_be_is_told_without_a_stack_trace(
    arguments: list[str], setting: dict[str, str], code: int, told: str, env: dict[str, str]
) -> None:
    done = amends(*arguments, env={**env, **setting})
    assert done.returncode == code
    assert told in done.stderr.replace("\n", "")
    assert "Traceback" not in done.stderr


def test_a_taken_port_that_was_asked_for_is_told(env: dict[str, str]) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = amends("up", env={**env, "AMENDS_TEMPORAL_PORT": port})
    assert done.returncode == 2
    assert port in done.stderr


def _check_passfile(passfile: Path, where: Running) -> None:
    assert str(conninfo_to_dict(where.database_url)["password"]) in passfile.read_text()
    assert passfile.stat().st_mode & 0o077 == 0
