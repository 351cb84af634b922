"""`amends sql`: the reference of the views is written by it, and what they promise is held by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from amends.interface import MARKER

ROOT = Path(__file__).parents[2]


def amends(*arguments: str | Path, database_url: str | None) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AMENDS_")}
    given = {} if database_url is None else {"AMENDS_DATABASE_URL": database_url}
    return subprocess.run(
        [sys.executable, "-m", "amends", "sql", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        env={**kept, **given},
    )


def test_given_no_database_when_the_page_is_written_then_it_is_the_committed_one(tmp_path: Path) -> None:
    committed = (ROOT / "docs" / "sql.md").read_text()
    page = tmp_path / "sql.md"
    page.write_text(committed.partition(MARKER)[0] + MARKER)
    done = amends("docs", page, database_url=None)
    assert done.returncode == 0, done.stderr
    assert page.read_text() == committed


def test_given_what_was_promised_when_something_was_added_then_it_can_be_promised_too(
    database_url: str, tmp_path: Path
) -> None:
    # given
    promised = tmp_path / "views.json"
    committed = (ROOT / "tests" / "golden" / "views.json").read_text()
    views = json.loads(committed)
    last = views["customers"].pop()
    promised.write_text(json.dumps(views))
    # when
    looked = amends("check", promised, database_url=database_url)
    # then
    assert looked.returncode == 0, looked.stderr
    assert f"Not promised yet: views.customers.{last}" in looked.stderr
    assert json.loads(promised.read_text()) == views, "looking changes nothing"
    # and
    accepted = amends("check", promised, "--accept", database_url=database_url)
    assert f"Promised: views.customers.{last}" in accepted.stderr
    assert promised.read_text() == committed


def test_given_a_promise_that_is_broken_when_checked_then_it_fails_and_can_t_be_accepted(
    database_url: str, tmp_path: Path
) -> None:
    promised = tmp_path / "views.json"
    views = json.loads((ROOT / "tests" / "golden" / "views.json").read_text())
    views["customers"].append("shoe_size integer")
    promised.write_text(json.dumps(views))
    for options in ([], ["--accept"]):
        done = amends("check", promised, *options, database_url=database_url)
        assert (done.returncode, "views.customers.shoe_size is gone" in done.stderr) == (1, True)
    assert json.loads(promised.read_text()) == views


def test_given_a_page_without_the_marker_or_none_at_all_when_written_then_told_what_to_do(
    database_url: str, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    missing = amends("docs", page, database_url=database_url)
    assert (missing.returncode, "can't be read" in " ".join(missing.stderr.split())) == (2, True)
    page.write_text("# Mine\n")
    bare = amends("docs", page, database_url=database_url)
    assert (bare.returncode, "has no line" in " ".join(bare.stderr.split())) == (2, True)
    assert page.read_text() == "# Mine\n"
