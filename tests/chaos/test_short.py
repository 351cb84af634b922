"""A short storm with a fixed seed: real servers, two worker processes, every promise checked."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
SEED = 7


async def _chaos(home: Path, *arguments: str) -> asyncio.subprocess.Process:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AMENDS_")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chaos", "--seed", str(SEED), "--home", str(home), *arguments),
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


@pytest.mark.timeout(360)  # 75 s on a machine of its own
async def test_a_short_storm_breaks_no_promise(tmp_path: Path) -> None:
    # given
    process = await _chaos(tmp_path, "--minutes", "0.5", "--orders", "50", "--settle-minutes", "4")

    # when
    said = (await process.communicate())[0].decode()

    # then
    assert process.returncode == 0, said
    assert said.rstrip().splitlines()[-1].startswith(f"✔ seed {SEED}: every promise held (50 orders, "), said
    assert "the storm is over" in (tmp_path / "timeline.txt").read_text()


@pytest.mark.timeout(90)
async def test_ctrl_c_ends_a_storm_and_leaves_no_process(tmp_path: Path) -> None:
    # given
    process = await _chaos(tmp_path, "--minutes", "5", "--orders", "50")
    timeline = tmp_path / "timeline.txt"
    while "postgres " not in _text(timeline) and "worker-" not in _text(timeline):  # the storm has begun
        assert process.returncode is None
        await asyncio.sleep(0.2)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 4, "PostgreSQL, Temporal and two workers are to be ended"

    # when
    process.send_signal(signal.SIGINT)
    said = (await process.communicate())[0].decode()

    # then
    assert process.returncode == 130, said
    gone, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    assert len(gone) == len(children)


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""
