import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from amends.embedded import EmbeddedPostgres, Stack, free_port, running
from amends.errors import AlreadyRunning, PortTaken, ServerFailed
from amends.settings import Settings
from tests.embedded.helpers import (
    ATTRIBUTES,
    FAST,
    ROOT,
    alive,
    answers,
    ask,
    beats,
    holder,
    nobody,
    owner_of,
    processes_of,
    until,
    worker_command,
)


@pytest.fixture(scope="module")
def made_cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database's data, made once: making them anew takes longer than most of these tests."""
    folder = tmp_path_factory.mktemp("made")
    server = EmbeddedPostgres(folder, free_port(), options=FAST)
    try:
        server.start()
        server.wait_ready()
    finally:
        server.stop()
    return folder / "postgres"


@pytest.fixture
def home(tmp_path: Path, made_cluster: Path) -> Iterator[Path]:
    shutil.copytree(made_cluster, tmp_path / "home" / "postgres")
    yield tmp_path / "home"
    until("nothing is left", lambda: not processes_of(tmp_path))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    # Temporal takes a second to end in order.
    monkeypatch.setattr("amends.embedded.stack.TEMPORAL_STOP_SECONDS", 0.0)


def stack(home: Path, **options: Any) -> Stack:
    # Not the usual ports: other tests may run beside these.
    settings = Settings(home=home, temporal_namespace="shop", temporal_port=0, temporal_ui_port=0)
    options = {"search_attributes": ATTRIBUTES, "postgres_options": FAST, "worker_output": "file", **options}
    return Stack(settings, **options)


async def begin(address: str, name: str) -> None:
    client = await Client.connect(address, namespace="shop")
    await client.start_workflow("Anything", id=name, task_queue="nobody")


async def knows(address: str, name: str) -> bool:
    client = await Client.connect(address, namespace="shop")
    return [one.id async for one in client.list_workflows(f"WorkflowId = '{name}'")] == [name]


async def test_both_servers_keep_their_data_until_fresh_ones_are_wanted(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amends.embedded.stack.TEMPORAL_STOP_SECONDS", 10.0)
    mine = home / "mine.txt"
    with stack(home) as first:
        mine.write_text("stays")
        ask(first.running.database_url, "CREATE TABLE kept AS SELECT 42 AS value")
        await begin(first.running.temporal_address, "order-1")
        pids = first.pids()
        assert owner_of(pids["postgres"]) != 0
    assert not any(alive(pid) for pid in pids.values())

    with stack(home) as second:
        assert ask(second.running.database_url, "SELECT value FROM kept") == 42
        assert await knows(second.running.temporal_address, "order-1")

    with stack(home, fresh=True) as third:
        assert ask(third.running.database_url, "SELECT to_regclass('kept') IS NULL")
        assert not await knows(third.running.temporal_address, "order-1")
    assert mine.read_text() == "stays"


async def test_what_is_killed_comes_back_and_can_be_used(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "beats.json"
    with stack(home, worker_command=worker_command(file)) as held:
        ask(held.running.database_url, "CREATE TABLE kept AS SELECT 42 AS value")
        await begin(held.running.temporal_address, "order-1")
        before = held.pids()
        until("the worker beats", lambda: beats(file))
        assert set(before) == {"postgres", "temporal", "worker"}

        for pid in before.values():
            os.kill(pid, signal.SIGKILL)

        def all_back() -> bool:
            held.check()
            now = held.pids()
            return now.keys() == before.keys() and not set(now.values()) & set(before.values())

        until("all are back", all_back)
        until("PostgreSQL answers", lambda: answers(held.running.database_url))
        assert ask(held.running.database_url, "SELECT value FROM kept") == 42
        until("the worker beats", lambda: beats(file)["pid"] == held.pids()["worker"])
        await until_known(held, "order-1")
        assert beats(file)["AMENDS_DATABASE_URL"] == held.running.database_url
        assert beats(file)["AMENDS_TEMPORAL_ADDRESS"] == held.running.temporal_address
        assert beats(file)["AMENDS_TEMPORAL_NAMESPACE"] == "shop"


async def until_known(held: Stack, name: str) -> None:
    for _ in range(100):
        held.check()
        with suppress(Exception):
            if await knows(held.running.temporal_address, name):
                return
    raise AssertionError("Temporal did not come back")


def test_a_worker_that_keeps_dying_ends_the_stack(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amends.embedded.supervisor.LONGEST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("amends.embedded.stack.LOOK_SECONDS", 0.01)

    with pytest.raises(ServerFailed, match="worker ended 10 times"), stack(
        home, worker_command=["false"]
    ) as held:  # fmt: skip
        held.run()


@pytest.mark.parametrize("how", [[], ["--watchdog"]])
def test_a_killed_holder_leaves_nobody(home: Path, tmp_path: Path, how: list[str]) -> None:
    file = tmp_path / "beats.json"
    with holder(home, "--worker", str(file), *how) as (process, _):
        until("the worker beats", lambda: beats(file))
        assert len(processes_of(home)) >= 3

        process.kill()
        process.wait()

        until("nothing is left", lambda: not processes_of(home) and not alive(beats(file)["pid"]))
    assert running(home) is None
    with stack(home) as again:
        assert answers(again.running.database_url)


@pytest.mark.parametrize(
    ("how", "options"), [(signal.SIGINT, []), (signal.SIGTERM, ["--watchdog"]), (signal.SIGHUP, [])]
)
def test_asked_to_end_it_drains_the_worker_while_the_servers_are_there(
    home: Path, tmp_path: Path, how: signal.Signals, options: list[str]
) -> None:
    file = tmp_path / "beats.json"
    with holder(home, "--worker", str(file), *options) as (process, _):
        until("the worker beats", lambda: beats(file))

        # As Ctrl-C at a terminal does: to the whole group.
        os.killpg(process.pid, how)

        assert process.wait(20) == 0
        assert beats(file)["drained"]
        assert not processes_of(home)
        assert not (home / "up.json").exists()


def test_fresh_data_may_be_wanted_right_after_the_holder_was_killed(home: Path) -> None:
    with holder(home) as (process, found):
        ask(found.database_url, "CREATE TABLE kept AS SELECT 42 AS value")
        process.kill()
        process.wait()

        with stack(home, fresh=True) as held:
            assert ask(held.running.database_url, "SELECT to_regclass('kept') IS NULL")


def test_a_worker_that_does_not_drain_is_killed_in_the_end(home: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    stubborn = ["sh", "-c", f"trap '' TERM; touch {ready}; while :; do sleep 0.05; done"]
    with Stack(
        Settings(home=home, drain_seconds=0.3, temporal_port=0, temporal_ui_port=0),
        worker_command=stubborn,
        postgres_options=FAST,
    ) as held:
        until("the worker runs", ready.exists)
        pid = held.pids()["worker"]
    assert not alive(pid)


def test_a_second_stack_is_told_who_holds_the_data(home: Path) -> None:
    with stack(home) as held:
        found = running(home)
        assert found == held.running
        assert found is not None
        assert found.pid == os.getpid()
        assert stat.S_IMODE((home / "up.json").stat().st_mode) == 0o600

        with pytest.raises(AlreadyRunning, match=rf"process {found.pid} \(Web UI {found.web_ui}.*AMENDS_HOME"):
            stack(home, fresh=True).start()

        assert answers(found.database_url)
    assert running(home) is None


def test_a_port_that_was_asked_for_is_not_replaced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        for setting in ("AMENDS_POSTGRES_PORT", "AMENDS_TEMPORAL_PORT", "AMENDS_TEMPORAL_UI_PORT"):
            with monkeypatch.context() as environment:
                environment.setenv(setting, str(taken))
                with pytest.raises(PortTaken, match=f"port {taken} .*{setting}"):
                    Stack(Settings(home=home)).start()


def test_usual_ports_give_way_and_chosen_ones_are_used(home: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken, chosen = listener.getsockname()[1], free_port()
        settings = Settings(home=home, postgres_port=chosen)
        # What a default is, is decided by who set it.
        usual = settings.model_copy(update={"temporal_port": taken})
        usual.model_fields_set.discard("temporal_port")
        with Stack(usual, postgres_options=FAST) as held:
            assert not held.running.temporal_address.endswith(f":{taken}")
            assert f":{chosen}/" in held.running.database_url


def test_servers_of_ones_own_are_used_and_left_alone(home: Path, tmp_path: Path) -> None:
    prepared: list[str] = []
    with stack(home) as own:
        address = {
            "database_url": own.running.database_url,
            "temporal_address": own.running.temporal_address,
            "temporal_ui": "http://ui",
        }
        second = Stack(Settings(home=tmp_path / "b", **address), prepare=prepared.append)  # type: ignore[arg-type]
        with second:
            assert second.pids() == {}
            assert second.running.web_ui == "http://ui"
        assert prepared == [own.running.database_url]
        assert len(own.pids()) == 2


def test_a_failure_while_starting_leaves_nobody(home: Path) -> None:
    def fail(url: str) -> None:
        assert answers(url)
        raise RuntimeError("a migration failed")

    with pytest.raises(RuntimeError, match="a migration failed"):
        stack(home, prepare=fail).start()

    assert not processes_of(home)
    assert running(home) is None


def test_asked_to_end_while_starting_it_does(home: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stack(home, prepare=lambda _: os.kill(os.getpid(), signal.SIGTERM)).start()

    assert not processes_of(home)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_another_thread_may_ask_to_end(home: Path) -> None:
    with stack(home) as held:
        threading.Timer(0.1, held.request_stop).start()
        held.run()


def test_started_in_another_thread_it_outlives_that_thread(home: Path) -> None:
    held = stack(home)
    thread = threading.Thread(target=held.start)
    thread.start()
    thread.join()
    try:
        assert answers(held.running.database_url)
        held.check()
        assert len(held.pids()) == 2
    finally:
        held.stop()


def test_an_ordinary_user_can_hold_one(tmp_path: Path) -> None:
    account = nobody()
    folder = Path(tempfile.mkdtemp())
    try:
        if account is not None:
            os.chown(folder, account.uid, account.gid)
        with holder(folder / "home", account=account, environment={"HOME": str(folder)}) as (process, found):
            assert answers(found.database_url)
            if account is not None:
                assert owner_of(process.pid) == account.uid
            process.terminate()
            assert process.wait(20) == 0
    finally:
        shutil.rmtree(folder)


def test_a_folder_closed_to_others_is_no_obstacle(tmp_path: Path) -> None:
    # As root this is what a fresh clone in `mktemp -d` looks like.
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    with stack(closed / "home") as held:
        assert answers(held.running.database_url)
        assert owner_of(held.pids()["postgres"]) != 0

    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_a_folder_of_another_account_is_named() -> None:
    account = nobody()
    # Become somebody else only when everything is imported: the interpreter may be out of that one's reach.
    become = f"os.setuid({account.uid})" if account is not None else "pass"
    script = f"import os, sys, pathlib, amends.embedded as e; {become}; e.running(pathlib.Path(sys.argv[1]))"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        Path(folder, "lock").touch(mode=0o000)

        done = subprocess.run([sys.executable, "-c", script, folder], cwd=ROOT, capture_output=True, text=True)

    assert "belongs to another account" in done.stderr
