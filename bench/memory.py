"""The most memory that a process has held."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

__all__ = ["peak"]

MIB = 1024**2


def peak() -> float:
    """Most memory of this process so far, in MiB."""
    try:  # what getrusage says may be the memory of the process that has started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")) / MIB
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MIB
