"""On what, and with which versions, a benchmark was taken; without it its figures say nothing."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from amends.embedded.binaries import find_postgres, find_temporal

__all__ = ["machine", "versions"]

PACKAGES = (
    "temporalio",
    "psycopg",
    "sqlalchemy",
    "pydantic",
    "eventsourcing",
    "dbos",
)
"""Libraries whose versions matter here."""


def machine() -> dict[str, str | int | float]:
    """Processor, memory, system, and how busy all that was when the run began."""
    about = {name: value for name, _, value in (line.partition(":") for line in _lines("/proc/cpuinfo"))}
    model = next((value.strip() for name, value in about.items() if name.strip() == "model name"), platform.processor())
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        "memory_gib": round(int(memory) / 2**20, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Of Python, the servers, and the libraries that are installed."""
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    found["postgres"] = _says(find_postgres() / "postgres").rpartition(" ")[2]
    found["temporal"] = _says(find_temporal())
    return found


def _says(program: Path) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[0]


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:  # not Linux
        return []
