"""A child process that ends when we do."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from amends.embedded import launch
from amends.embedded.account import Account
from amends.errors import ServerFailed

__all__ = ["Child", "Launch", "clean_environment"]

# A log that has grown beyond this is set aside at the next start: one old one is kept.
LARGEST_LOG_BYTES = 16 * 1024 * 1024
KEPT_VARIABLES = (
    "HOME",
    "PATH",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "DYLD_FALLBACK_LIBRARY_PATH",
)
PRIVATE_UMASK = 0o077


def clean_environment(**extra: str) -> dict[str, str]:
    """The environment of a server: only what it needs, so that nothing set for other programs reaches it."""
    return {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ} | extra


@dataclass(frozen=True)
class Launch:
    """What to start, and how it ends if we die.

    Args:
        command: the program and its arguments.
        environment: all of its environment.
        account: whom to run it as; None: as ourselves.
        reach: let that account pass folders closed to others.
        death: signal it gets when we die.
        grace: seconds from that signal to SIGKILL (watchdog only).
        umask: of the files it makes; -1: as ours.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    account: Account | None = None
    reach: bool = False
    death: signal.Signals = signal.SIGKILL
    grace: float = 5.0
    umask: int = PRIVATE_UMASK


class Child:
    """One child process at a time, started anew as often as wanted, its output in a log file.

    It is tied to our death: by the kernel when started from the main thread on Linux (the kernel's tie is to
    the thread), else by a launcher that stays in between and watches a pipe.

    Args:
        name: what it is, in messages and logs.
        log: file its output is appended to; None: our own stdout and stderr.
        watchdog: True forces the launcher in between; None decides by platform and thread.
    """

    def __init__(self, name: str, *, log: Path | None, watchdog: bool | None = None) -> None:
        self.name = name
        self.log = log
        self._watchdog = watchdog
        self._popen: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._log_start = 0
        self._launch: Launch | None = None

    @property
    def pid(self) -> int | None:
        """The process's own pid (never the launcher's), as long as it has not been seen to end."""
        return self._pid if self._popen is not None and self._popen.returncode is None else None

    def start(self, launch: Launch) -> None:
        """Starts it; its session is its own, so a Ctrl-C at the terminal does not reach it.

        Errors:
            ServerFailed: it is running already.
        """
        if self._popen is not None:
            if self.poll() is None:
                raise ServerFailed(f"{self.name} is running already, as process {self._pid}")
            self._forget(self._popen)
        self._launch, self._pid = launch, None
        watched = self._is_watched()
        reader, writer = os.pipe() if watched else (None, None)
        output = self._open_log()
        try:
            self._popen = subprocess.Popen(
                _launcher(launch, writer),
                stdin=subprocess.PIPE if watched else subprocess.DEVNULL,
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
                env=dict(launch.environment),
                start_new_session=True,
                pass_fds=() if writer is None else (writer,),
                umask=launch.umask,
            )
        finally:
            for end in (output, writer):
                if end is not None:
                    os.close(end)
        self._pid = self._popen.pid if reader is None else _read_pid(reader)

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs or if it was never started."""
        if self._popen is None:
            return None
        return None if self._popen.poll() is None else self._exit_code()

    def wait(self, timeout: float) -> int | None:
        """Waits up to `timeout` seconds for its end; the exit code as `poll` gives it."""
        if self._popen is not None:
            try:
                self._popen.wait(timeout)
            except subprocess.TimeoutExpired:
                return None
        return self.poll()

    def stop(self, how: signal.Signals, timeout: float) -> None:
        """Ends it: asks with the signal, waits up to `timeout` seconds, then kills it."""
        if self._popen is None:
            return
        self.send(how)
        if self.wait(timeout) is None:
            self.kill()
        self._forget(self._popen)

    def send(self, how: signal.Signals) -> None:
        """Sends it a signal, if it still runs."""
        if self._popen is not None and self._popen.poll() is None:
            self._popen.send_signal(how)

    def kill(self) -> None:
        """Ends it at once, with SIGKILL."""
        popen = self._popen
        if popen is None or popen.poll() is not None:
            return
        if self._pid is not None and self._pid != popen.pid:
            # The launcher in between sees its command end and goes too; without it there would be an orphan.
            _send(self._pid, signal.SIGKILL)
            if self.wait(5.0) is not None:
                return
        popen.kill()
        popen.wait()

    def tail(self, lines: int = 15) -> str:
        """The last lines it wrote to its log since it was started, or nothing."""
        if self.log is None or not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return "\n".join(deque((line.decode(errors="replace").rstrip() for line in file), maxlen=lines))

    def _is_watched(self) -> bool:
        if self._watchdog is not None:
            return self._watchdog
        return sys.platform != "linux" or threading.current_thread() is not threading.main_thread()

    def _open_log(self) -> int | None:
        if self.log is None:
            return None
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LARGEST_LOG_BYTES:
            self.log.replace(self.log.with_name(self.log.name + ".1"))
        opened = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._log_start = os.fstat(opened).st_size
        return opened

    def _exit_code(self) -> int | None:
        assert self._popen is not None
        code = self._popen.returncode
        if self._pid is None or self._pid == self._popen.pid:
            return code
        if code < 0:
            # The launcher itself was killed, so nobody else ends its command.
            self._end_orphan(self._pid)
        return 128 - code if code > 128 else code

    def _end_orphan(self, pid: int) -> None:
        assert self._launch is not None
        deadline = time.monotonic() + self._launch.grace
        alive = _send(pid, self._launch.death)
        while alive and time.monotonic() < deadline:
            time.sleep(0.02)
            alive = _send(pid, 0)
        _send(pid, signal.SIGKILL)
        self._pid = None

    def _forget(self, popen: "subprocess.Popen[bytes]") -> None:
        self.poll()
        if popen.stdin is not None:
            popen.stdin.close()
        self._popen = None


def _launcher(launch_: Launch, report: int | None) -> list[str]:
    # By path, isolated, without site-packages: up in 20 ms, and independent of the working folder.
    command = [sys.executable, "-I", "-S", launch.__file__, f"--parent={os.getpid()}"]
    command += [f"--death={launch_.death.name}", f"--grace={launch_.grace}"]
    if launch_.account is not None:
        command += [f"--uid={launch_.account.uid}", f"--gid={launch_.account.gid}"]
    if launch_.reach:
        command.append("--reach")
    if report is not None:
        command += ["--watchdog", f"--report={report}"]
    return [*command, "--", *launch_.command]


def _read_pid(reader: int) -> int | None:
    with open(reader, "rb") as report:
        line = report.readline()
    return int(line) if line else None


def _send(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
