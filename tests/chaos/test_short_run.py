"""A short storm over a real shop: every promise holds, and the verdict says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEED = 7


@pytest.mark.timeout(540)
def test_given_a_storm_when_it_is_over_then_every_promise_holds(tmp_path: Path) -> None:
    options = ["--seed", str(SEED), "--minutes", "0.7", "--orders", "40", "--home", str(tmp_path / "chaos")]

    run = subprocess.run(
        [sys.executable, "-m", "chaos", *options], cwd=ROOT, capture_output=True, text=True, timeout=500, check=False
    )

    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2_000:]
    assert f"seed {SEED}" in run.stdout.strip().splitlines()[-1]
