"""Lets the wall clock of one worker process jump, by a library of ours that is loaded before the system's own."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

__all__ = ["Clock"]

SOURCE = Path(__file__).with_name("clock.c")


class Clock:
    """A process's clock, by way of a file with the seconds it is off.

    Args:
        folder: for the library and the file.
        name: whose clock.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._file = folder / f"{name}.clock"
        self._library = _build(folder / "clock.so")
        self.set(0)

    @property
    def can_jump(self) -> bool:
        """Whether this machine lets us: on Linux, with a C compiler."""
        return self._library is not None

    @property
    def environment(self) -> dict[str, str]:
        """What the process is to be started with."""
        if self._library is None:
            return {}
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._file)}

    def set(self, seconds: int) -> None:
        """Let the clock be off by so many seconds."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", seconds))


def _build(library: Path) -> Path | None:
    """Compile the library, where that is possible."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        return None
    if not library.exists():
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            return None
    return library
