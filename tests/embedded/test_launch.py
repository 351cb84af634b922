import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amends.embedded import launch
from tests.embedded.helpers import alive, nobody, until

LAUNCHER = [sys.executable, "-I", "-S", launch.__file__]
PR_CAPBSET_DROP = 24


def run(*arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*LAUNCHER, *arguments], capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload,no-any-return]


def as_nobody() -> list[str]:
    account = nobody()
    return [] if account is None else [f"--uid={account.uid}", f"--gid={account.gid}"]


def drop_the_capability() -> None:
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, launch.CAP_DAC_OVERRIDE, 0, 0, 0)


def test_it_turns_into_the_command() -> None:
    process = subprocess.Popen([*LAUNCHER, "--", "sh", "-c", "echo $$"], stdout=subprocess.PIPE, text=True)

    output, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    # On other systems it stays in between.
    assert (int(output) == process.pid) == (sys.platform == "linux")


def test_it_runs_as_a_module_too() -> None:
    done = subprocess.run([sys.executable, "-m", "amends.embedded.launch", "--", "true"], timeout=60)

    assert done.returncode == 0


def test_it_becomes_another_account_without_rights() -> None:
    script = "id -u; id -g; id -G; (grep CapEff /proc/self/status || echo CapEff: 0) 2>/dev/null"

    done = run(*as_nobody(), "--", "sh", "-c", script)

    uid, gid, groups, capabilities = done.stdout.splitlines()
    assert int(uid) != 0
    assert int(gid) != 0
    assert int(capabilities.split()[1], 16) == 0
    assert nobody() is None or groups == gid


def test_reach_holds_for_a_program_that_asks_by_access_as_initdb_does(tmp_path: Path) -> None:
    # given: a program below a closed folder; initdb looks for postgres beside itself by access(2)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    program = closed / "program"
    program.touch(mode=0o755)
    reach = ["--reach"] if nobody() else []
    # when
    asks = f"import os; print(os.access({str(program)!r}, os.X_OK), os.geteuid())"
    done = run(*as_nobody(), *reach, "--", sys.executable, "-c", asks)
    # then
    account = nobody()
    assert done.stdout.split() == ["True", str(account.uid if account else os.geteuid())]


@pytest.mark.parametrize("watchdog", [[], ["--watchdog"]])
def test_reach_passes_a_closed_folder_with_one_right_only(tmp_path: Path, watchdog: list[str]) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    program = closed / "program"
    program.write_text("#!/bin/sh\nid -u; grep -E 'Cap(Eff|Prm)' /proc/self/status || true\n")
    program.chmod(0o755)
    reach = ["--reach"] if nobody() else []

    process = subprocess.Popen(
        [*LAUNCHER, *as_nobody(), *reach, *watchdog, "--", str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.wait(20) == 0
    output, _ = process.communicate()
    uid, *capabilities = output.splitlines()
    assert int(uid) != 0
    assert {int(line.split()[1], 16) for line in capabilities} <= {0, 1 << launch.CAP_DAC_OVERRIDE}


def test_a_right_that_can_not_be_kept_is_explained() -> None:
    done = run("--uid=65534", "--gid=65534", "--reach", "--", "true", preexec_fn=drop_the_capability)

    assert done.returncode == launch.CANNOT_PREPARE
    # An ordinary user fails earlier: at becoming somebody else.
    assert ("chmod o+x" if os.geteuid() == 0 else "not permitted") in done.stderr


def test_a_program_that_is_not_there_is_named() -> None:
    done = run("--", "no-such-program")

    assert done.returncode == launch.CANNOT_RUN
    assert "no-such-program: No such file" in done.stderr


def test_a_parent_that_is_gone_already_stops_it() -> None:
    if sys.platform == "linux":
        assert run("--parent=1", "--", "echo", "started").stdout == ""


@pytest.mark.parametrize(("death", "said"), [("TERM", "asked"), ("KILL", "")])
def test_the_watchdog_ends_the_command_with_its_starter(death: str, said: str, tmp_path: Path) -> None:
    script = "trap 'echo asked; exit 0' TERM; touch \"$0\"; while :; do sleep 0.02; done"
    started = tmp_path / "started"
    reader, writer = os.pipe()
    options = ["--watchdog", f"--death={death}", f"--report={writer}"]
    process = subprocess.Popen(
        [*LAUNCHER, *options, "--", "sh", "-c", script, str(started)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[writer],
    )
    os.close(writer)
    with open(reader) as report:
        pid = int(report.readline())
    until("the command runs", started.exists)

    output, _ = process.communicate(timeout=60)  # closes its stdin, as the starter's death does

    assert output.strip() == said
    assert not alive(pid)


def test_the_watchdog_does_not_wait_for_ever(tmp_path: Path) -> None:
    started = tmp_path / "started"
    script = "trap '' TERM; touch \"$0\"; while :; do sleep 0.02; done"
    command = ["--watchdog", "--death=TERM", "--grace=0.2", "--", "sh", "-c", script, str(started)]
    process = subprocess.Popen([*LAUNCHER, *command], stdin=subprocess.PIPE)
    until("the command runs", started.exists)
    begun = time.monotonic()

    process.communicate(timeout=60)

    assert time.monotonic() - begun >= 0.2
    assert process.returncode == 128 + signal.SIGKILL


def test_the_watchdog_passes_signals_on_and_gives_the_exit_code(tmp_path: Path) -> None:
    started = tmp_path / "started"
    script = "trap 'exit 7' INT; touch \"$0\"; while :; do sleep 0.02; done"
    process = subprocess.Popen([*LAUNCHER, "--watchdog", "--", "sh", "-c", script, str(started)], stdin=subprocess.PIPE)
    until("the command runs", started.exists)

    process.send_signal(signal.SIGINT)

    assert process.wait(20) == 7
    process.communicate()
