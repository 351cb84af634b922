import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from amends.embedded import EmbeddedPostgres, free_port
from amends.errors import PortTaken, ServerFailed
from tests.embedded.helpers import FAST, ROOT, alive, answers, ask, owner_of, processes_of, until


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    until("nothing is left", lambda: not processes_of(tmp_path))


@pytest.fixture
def postgres(home: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(home, free_port(), options=FAST)
    try:
        server.start()
        server.wait_ready()
        yield server
    finally:
        server.stop()


def kill(server: EmbeddedPostgres) -> int:
    """SIGKILL, and its pid, when it has been noticed."""
    assert server.pid is not None
    pid = server.pid
    os.kill(pid, signal.SIGKILL)
    assert until("its death is noticed", server.poll) == -signal.SIGKILL
    return pid


def restart(server: EmbeddedPostgres) -> None:
    server.start()
    server.wait_ready()


def test_it_is_a_real_server_in_utf8_with_facts_that_survive(postgres: EmbeddedPostgres) -> None:
    assert ask(postgres.url, "SHOW server_encoding") == "UTF8"
    assert ask(postgres.url, "SHOW synchronous_commit") == "on"
    assert ask(postgres.url, "SHOW idle_in_transaction_session_timeout") == "1min"
    assert ask(postgres.url, "SELECT current_database() || current_user") == "amendsamends"
    assert ask(postgres.url, "SHOW fsync") == "off"  # what the caller set


def test_it_does_not_run_as_root_and_others_do_not_get_in(postgres: EmbeddedPostgres, home: Path) -> None:
    assert postgres.pid is not None
    assert owner_of(postgres.pid) != 0
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://amends:guess@127.0.0.1:{postgres.port}/amends")
    assert stat.S_IMODE((home / "postgres" / "password").stat().st_mode) == 0o600
    assert not stat.S_IMODE(home.stat().st_mode) & 0o066


def test_data_stay_after_an_orderly_end(postgres: EmbeddedPostgres) -> None:
    ask(postgres.url, "CREATE TABLE kept AS SELECT 42 AS value")
    pid = postgres.pid

    postgres.stop()

    assert pid is not None
    assert not alive(pid)
    assert postgres.pid is None
    restart(postgres)
    assert ask(postgres.url, "SELECT value FROM kept") == 42


def test_data_stay_after_kill_9(postgres: EmbeddedPostgres) -> None:
    ask(postgres.url, "CREATE TABLE kept AS SELECT 42 AS value")

    kill(postgres)

    restart(postgres)
    assert ask(postgres.url, "SELECT value FROM kept") == 42


def test_the_killed_servers_pid_may_have_passed_to_another_process(postgres: EmbeddedPostgres, home: Path) -> None:
    killed = kill(postgres)
    owner = (home / "postgres" / "data").stat()
    with subprocess.Popen(["sleep", "60"], user=owner.st_uid if os.geteuid() == 0 else None) as other:
        lock = home / "postgres" / "data" / "postmaster.pid"
        lock.write_text(lock.read_text().replace(str(killed), str(other.pid), 1))

        restart(postgres)

        assert answers(postgres.url)
        other.kill()


def test_two_servers_on_the_same_data_are_refused_after_a_while(
    postgres: EmbeddedPostgres, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amends.embedded.postgres.LET_GO_SECONDS", 1.0)
    second = EmbeddedPostgres(home, free_port(), options=FAST)
    second.start()

    with pytest.raises(ServerFailed, match=r'postmaster\.pid" already exists'):
        second.wait_ready()

    second.stop()
    assert answers(postgres.url)


def test_a_server_that_is_still_ending_is_waited_for(postgres: EmbeddedPostgres, home: Path) -> None:
    second = EmbeddedPostgres(home, free_port(), options=FAST)
    second.start()
    until("it meets the first one", lambda: second.poll() is not None)
    postgres.stop()
    try:
        second.wait_ready()

        assert answers(second.url)
    finally:
        second.stop()


def test_a_taken_port_is_named(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    second = EmbeddedPostgres(tmp_path / "other", postgres.port, options=FAST)
    second.start()

    with pytest.raises(PortTaken, match=f"port {postgres.port} .*AMENDS_POSTGRES_PORT"):
        second.wait_ready()

    second.stop()


def test_a_setting_it_does_not_know_is_reported_with_its_own_words(home: Path) -> None:
    server = EmbeddedPostgres(home, free_port(), options={**FAST, "no_such_setting": "1"})
    server.start()

    with pytest.raises(ServerFailed, match="no_such_setting"):
        server.wait_ready()

    server.stop()


def test_a_death_while_the_data_are_made_leaves_no_half_cluster(home: Path) -> None:
    script = "import sys, pathlib; from amends.embedded import EmbeddedPostgres; "
    script += "EmbeddedPostgres(pathlib.Path(sys.argv[1]), 1).start()"
    maker = subprocess.Popen([sys.executable, "-c", script, str(home)], cwd=ROOT)
    until("the making has begun", lambda: list(home.glob("postgres.new.*/data/base")))
    maker.kill()
    maker.wait()

    assert not (home / "postgres").exists()
    server = EmbeddedPostgres(home, free_port(), options=FAST)
    try:
        restart(server)
        assert answers(server.url)
        assert not list(home.glob("postgres.new.*"))
    finally:
        server.stop()


def test_something_else_in_its_place_is_left_alone(home: Path) -> None:
    (home / "postgres").mkdir(parents=True)
    (home / "postgres" / "letters.txt").write_text("dear")

    with pytest.raises(ServerFailed, match="move it away"):
        EmbeddedPostgres(home, free_port(), options=FAST).start()

    assert (home / "postgres" / "letters.txt").read_text() == "dear"


def test_between_a_launcher_and_a_server_the_servers_pid_counts(home: Path) -> None:
    server = EmbeddedPostgres(home, free_port(), options=FAST, watchdog=True)
    try:
        restart(server)
        kill(server)
        restart(server)
        assert server.pid == ask_postmaster(home)
    finally:
        server.stop()


def test_a_killed_launcher_leaves_no_server(home: Path) -> None:
    server = EmbeddedPostgres(home, free_port(), options=FAST, watchdog=True)
    try:
        restart(server)
        pid = server.pid
        assert pid is not None
        launcher = int(subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True).stdout)
        os.kill(launcher, signal.SIGKILL)

        assert until("the launcher's death is noticed", server.poll) is not None
        assert not alive(pid)
        restart(server)
        assert answers(server.url)
    finally:
        server.stop()


def ask_postmaster(home: Path) -> int:
    return int((home / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
