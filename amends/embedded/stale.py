"""Whose the pid in a PostgreSQL data folder's lock file is: its server's, or by now somebody else's."""

import subprocess
import sys
from pathlib import Path

__all__ = ["is_held", "stale_holder"]


def is_held(data: Path) -> bool:
    """Whether a server lives that works on these data, even one that is ending.

    Args:
        data: the server's data folder.
    """
    pid = _locked_by(data)
    return pid is not None and str(data) in (_command_of(pid) or "")


def stale_holder(data: Path) -> int | None:
    """The pid in the lock file, if it has passed to a living process that is no server on these data.

    In containers pids are few and come again, so this is no rarity there.

    Args:
        data: the server's data folder.
    """
    pid = _locked_by(data)
    if pid is None:
        return None
    command = _command_of(pid)
    return None if command is None or str(data) in command else pid


def _locked_by(data: Path) -> int | None:
    try:
        return int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def _command_of(pid: int) -> str | None:
    """A living process's command line; None if there is no such process or it can't be told."""
    try:
        if sys.platform == "linux":
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        asked = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True)
    except OSError:
        return None
    return asked.stdout or None
