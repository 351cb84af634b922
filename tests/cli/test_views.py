"""`amends views …` as an operator types it, against the shop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from amends.settings import Settings
from domain.customer import CustomerRegistered
from tests.conftest import RunWorker
from tests.engine.readside_shop import append, connect, fetch, install, order_list, until

ROOT = Path(__file__).parents[2]
WHO = ("--actor", "Grace", "--reason", "to see")


class Line:
    """The command line, against the servers of a test."""

    def __init__(self, settings: Settings) -> None:
        assert settings.database_url is not None
        self.url = settings.database_url.get_secret_value()
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AMENDS_")},
            "AMENDS_DATABASE_URL": self.url,
            "AMENDS_TEMPORAL_ADDRESS": str(settings.temporal_address),
            "AMENDS_TASK_QUEUE": settings.task_queue,
            "COLUMNS": "200",
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "amends", "views", *arguments]

    async def type(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        ended = await asyncio.to_thread(
            subprocess.run,
            self.command(*arguments),
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert ended.returncode == code, (ended.stdout, ended.stderr)
        assert "Traceback" not in ended.stderr
        return ended


@pytest.fixture
def line(settings: Settings) -> Line:
    return Line(settings)


async def served(url: str, name: str) -> tuple[int, int]:
    [found] = await fetch(
        url, "select version, generation from views.projection_status where projection = %s and served", name
    )
    return found[0], found[1]


async def test_given_a_worker_when_rebuilt_rolled_back_and_dropped_then_it_says_so(
    line: Line, run_worker: RunWorker
) -> None:
    version, _ = await served(line.url, "order_history")
    async with run_worker():
        done = await line.type("rebuild", "order_history", *WHO, "--json")
        assert json.loads(done.stdout)["outcome"] == "swapped"
        assert "show version" in done.stderr
        assert await served(line.url, "order_history") == (version, 2)

        async def well() -> bool:
            run = partial(subprocess.run, cwd=ROOT, env=line.env, capture_output=True, timeout=60)
            ended = await asyncio.to_thread(run, line.command("status"))
            return ended.returncode == 0

        await until(well, 60)
        listed = json.loads((await line.type("list", "--json")).stdout)
        builds = [(one["generation"], one["state"]) for one in listed if one["projection"] == "order_history"]
        assert builds == [(1, "kept"), (2, "live")]
        await line.type("rollback", "order_history", *WHO)
        assert await served(line.url, "order_history") == (version, 1)
        await line.type("drop-old", "order_history", *WHO)
        assert "NothingToDo" in (await line.type("drop-old", "order_history", *WHO, code=1)).stderr
        assert "there is no projection" in (await line.type("rebuild", "nothing", *WHO, code=2)).stderr


async def test_given_a_rebuild_when_interrupted_then_it_goes_on_is_followed_again_and_can_be_cancelled(
    line: Line, run_worker: RunWorker
) -> None:
    async with run_worker():
        async with connect(line.url) as connection:
            for n in range(40):
                event = CustomerRegistered(customer_id=f"c{n}", name=f"c{n}", email=f"c{n}@example.org")
                await append(connection, f"customer-c{n}", 0, event)
        # when
        follower = await asyncio.create_subprocess_exec(
            *line.command("rebuild", "customers", *WHO, "--throttle", "2"),
            cwd=ROOT,
            env=line.env,
            stderr=asyncio.subprocess.PIPE,
        )
        building = "select count(*)::int from amends.checkpoints where role = 'building'"

        async def begun() -> bool:
            return await fetch(line.url, building) == [(1,)]

        await until(begun, 60)
        follower.send_signal(signal.SIGINT)
        _, said = await follower.communicate()
        # then
        assert follower.returncode == 130
        assert b"goes on by itself" in said
        assert await begun()
        # when
        await line.type("rebuild", "customers", *WHO, "--cancel")
        # then
        assert not await begun()
        assert "NothingToDo" in (await line.type("rebuild", "customers", *WHO, "--cancel", code=1)).stderr


async def test_given_no_worker_when_asked_then_not_healthy_and_pause_and_resume_are_signed(line: Line) -> None:
    assert "nobody has followed it yet" in (await line.type("status", code=1)).stdout
    await line.type("pause", "customers", *WHO)
    [found] = json.loads((await line.type("status", "customers", "--json", code=1)).stdout)
    assert (found["state"], found["problem"]) == ("paused", "paused by Grace: to see")
    await line.type("resume", "customers", *WHO)
    assert "NothingToDo" in (await line.type("resume", "customers", *WHO, code=1)).stderr


async def test_given_a_read_model_that_the_shop_no_longer_has_when_asked_then_named_until_it_is_dropped(
    line: Line,
) -> None:
    await asyncio.to_thread(install, line.url, order_list())
    advice = "`amends views drop-old readside_orders` drops it"
    [found] = json.loads((await line.type("status", "readside_orders", "--json", code=1)).stdout)
    assert found["problem"].endswith(advice)
    assert advice in (await line.type("list")).stdout
    # when
    dropped = await line.type("drop-old", "readside_orders", *WHO)
    # then
    assert "All of readside_orders is dropped" in dropped.stderr
    assert await fetch(line.url, "select to_regclass('views.readside_order')") == [(None,)]
    assert "NothingToDo" in (await line.type("drop-old", "readside_orders", *WHO, code=1)).stderr
    # but: what it has stays, whatever else is kept of it
    assert "NothingToDo" in (await line.type("drop-old", "customers", *WHO, code=1)).stderr


@pytest.mark.parametrize(
    "command",
    [
        ("rebuild", "customers"),
        ("rollback", "customers"),
        ("drop-old", "customers"),
        ("pause", "customers"),
        ("resume", "customers"),
        ("dead-letters", "retry", "customers", "c1"),
        ("dead-letters", "skip", "customers", "1"),
    ],
)
async def test_given_a_change_that_nobody_signs_when_typed_then_refused(line: Line, command: tuple[str, ...]) -> None:
    assert "InvalidInput" in (await line.type(*command, "--actor", "Grace", "--reason", " ", code=2)).stderr


async def test_given_events_that_can_not_be_read_when_checked_and_parked_then_shown_and_skipped(
    line: Line, run_worker: RunWorker
) -> None:
    assert "can read every event" in (await line.type("check")).stderr
    async with connect(line.url) as connection:
        await append(
            connection, "customer-c1", 0, CustomerRegistered(customer_id="c1", name="c1", email="c1@example.org")
        )
        await connection.execute("alter table amends.events disable trigger user")
        await connection.execute('update amends.events set data = \'{"customer_id": "c1"}\'')
    [found] = json.loads((await line.type("check", "--json", code=1)).stdout)
    assert (found["name"], found["count"]) == ("customer.registered", 1)
    async with run_worker():

        async def parked() -> bool:
            letters = "select count(*)::int from views.dead_letters where projection = 'customers' and state = %s"
            return await fetch(line.url, letters, "parked") == [(1,)]

        await until(parked)
        [letter] = json.loads((await line.type("dead-letters", "list", "customers", "--json")).stdout)
        assert "waits" not in (await line.type("dead-letters", "list", "customers")).stdout
        shown = json.loads((await line.type("dead-letters", "show", "customers", letter["key"], "--json")).stdout)
        assert shown[0]["data"] == {"customer_id": "c1"}
        await line.type("dead-letters", "retry", "customers", letter["key"], *WHO)
        await until(parked)
        await line.type("dead-letters", "skip", "customers", str(letter["position"]), *WHO)
        assert json.loads((await line.type("dead-letters", "list", "customers", "--json")).stdout) == []
        assert "NothingToDo" in (await line.type("dead-letters", "show", "customers", "nobody", code=1)).stderr
