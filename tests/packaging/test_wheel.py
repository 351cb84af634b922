"""The engine stands without the shop: its wheel alone, in an empty environment, runs a saga of another domain."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from amends.settings import Settings

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(300)
def test_the_wheel_alone_runs_a_saga_of_another_domain(settings: Settings, tmp_path: Path) -> None:
    # given: the wheel, built from this tree, in an environment that has nothing else, far from the repository
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    [wheel] = tmp_path.glob("amends-*.whl")
    packages = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert packages == {"amends", wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"}
    venv.create(tmp_path / "empty", with_pip=True, symlinks=True)
    python = tmp_path / "empty" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "requirements.txt", wheel, cwd=tmp_path)
    shutil.copy(ROOT / "examples" / "hotel.py", tmp_path / "hotel.py")

    # when: it books three stays, of which the second wants a night that is taken
    assert settings.database_url is not None
    assert settings.temporal_address is not None
    reach = {
        "AMENDS_DATABASE_URL": settings.database_url.get_secret_value(),
        "AMENDS_TEMPORAL_ADDRESS": settings.temporal_address,
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AMENDS_", "PYTHON"))}
    said = run(python, "-c", "import hotel; hotel.run()", cwd=tmp_path, env={**clean, **reach})

    # then: the second gave its first night back, for the third gets it
    assert said.splitlines() == ["1 nights: booked", "2 nights: FullyBooked", "2 nights: booked"]
