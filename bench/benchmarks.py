"""The table of contents: which benchmarks there are."""

from __future__ import annotations

from typing import Any

from bench.append import APPEND
from bench.commands import COMMANDS
from bench.freshness import FRESHNESS
from bench.growth import GROWTH
from bench.harness import Benchmark
from bench.projection import PROJECTION
from bench.sagas import SAGAS
from bench.startup import STARTUP

__all__ = ["BENCHMARKS"]

BENCHMARKS: dict[str, Benchmark[Any]] = {
    each.name: each for each in (APPEND, COMMANDS, PROJECTION, FRESHNESS, SAGAS, STARTUP, GROWTH)
}
"""By name, in the order in which they run."""
