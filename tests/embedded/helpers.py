"""What the tests of the embedded servers share: waiting for a condition, and looking at processes."""

import json
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from amends.embedded import Running, launch, running
from amends.embedded.account import Account

ROOT = Path(__file__).parents[2]
FAST = {"fsync": "off"}
ATTRIBUTES = {"SagaStatus": "Keyword"}

T = TypeVar("T")


def until(what: str, condition: Callable[[], T], seconds: float = 60) -> T:
    """Waits until the condition gives something true, and returns it."""
    deadline = time.monotonic() + seconds
    while not (outcome := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)
    return outcome


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be collected does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def processes_of(home: Path) -> list[str]:
    """All processes that were started with the folder or work in it."""
    listed = subprocess.run(["ps", "-axww", "-o", "pid=,command="], capture_output=True, text=True).stdout
    found = [line for line in listed.splitlines() if str(home) in line]
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith(str(home)):
            found.append(f"{link.parent.name} in {target}")
    return found


def nobody() -> Account | None:
    """An ordinary account to start things as; None: we are one ourselves."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


def owner_of(pid: int) -> int:
    """The uid a process runs as."""
    return int(subprocess.run(["ps", "-o", "uid=", "-p", str(pid)], capture_output=True, text=True).stdout)


def ask(url: str, statement: str) -> Any:
    """The first value a statement gives, by a connection of its own."""
    with psycopg.connect(url, connect_timeout=5) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


def answers(url: str, statement: str = "SELECT 1") -> bool:
    """Whether the database can be used now."""
    try:
        ask(url, statement)
    except psycopg.OperationalError:
        return False
    return True


def beats(file: Path) -> dict[str, Any]:
    """What the heartbeat worker wrote last."""
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    return found


def worker_command(file: Path) -> list[str]:
    """Starts the heartbeat worker."""
    return [sys.executable, str(Path(__file__).with_name("heartbeat_worker.py")), str(file)]


@contextmanager
def holder(
    home: Path, *options: str, account: Account | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[tuple["subprocess.Popen[bytes]", Running]]:
    """Another process that holds a stack; killed at the end if it still runs."""
    command: Sequence[str] = [sys.executable, "-m", "tests.embedded.holder", str(home), *options]
    if account is not None:
        become = ["--uid", str(account.uid), "--gid", str(account.gid), "--reach"]
        command = [sys.executable, "-I", "-S", launch.__file__, *become, "--", *command]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:

        def found() -> Running | None:
            assert process.poll() is None, "the holder ended"
            return running(home)

        up = until("the stack is up", found, 40)
        assert up is not None
        yield process, up
    finally:
        process.kill()
        process.wait()
        until("nothing is left", lambda: not processes_of(home))
