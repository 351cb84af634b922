"""`amends check` on the shop: one verdict; and what is wrong is told with how to mend it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import copytree

from amends.checking import check
from amends.settings import Settings
from app import app as shop_app

ROOT = Path(__file__).parents[2]


def amends(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AMENDS_")}
    return subprocess.run(
        [sys.executable, "-m", "amends", "check", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        # somebody's own database, which nobody is to ask
        env={**kept, "AMENDS_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/theirs", "COLUMNS": "400"},
    )


async def test_given_the_shop_when_checked_then_its_code_may_follow_what_has_been_released(postgres_url: str) -> None:
    """Where it may not: do as it says. What is new, an event or a migration, is taken by `amends check --accept`."""
    verdict = await check(shop_app, Settings(), server=postgres_url)
    told = [f"{failure.what}\n{failure.mend}" for part in verdict.parts for failure in part.failures]
    assert verdict.good, "\n".join(told)
    assert [part.name for part in verdict.parts] == [
        "histories replay",
        "events can be read",
        "snapshots fit",
        "read models have versions",
        "migrations",
        "first release upgrades",
    ]
    assert not any(part.looked_at.startswith(("no ", "none ", "0 ")) for part in verdict.parts)


def test_given_something_else_that_was_released_when_the_command_checks_then_it_exits_with_1_and_says_how_to_mend_it(
    postgres_url: str, tmp_path: Path
) -> None:
    # given
    released = copytree(ROOT / "released", tmp_path / "released")
    event, projection = released / "events" / "order.placed.v1.json", released / "projections" / "sales.v1.json"
    for path, part in ((event, "schema"), (projection, "tables")):
        path.write_text(json.dumps(json.loads(path.read_text()) | {part: {}}))
    (released / "states" / "order.v2.json").unlink()
    (released / "first_release.sql").unlink()
    # when
    done = amends("--released", released, "--histories", tmp_path / "none", "--server", postgres_url, "--accept")
    # then
    assert done.returncode == 1, done.stderr
    table = {line.split("│")[1].strip(): line.split("│")[2:4] for line in done.stdout.splitlines() if "│" in line}
    marks = {name: mark.strip() for name, (mark, _) in table.items()}
    assert marks == {
        "histories replay": "✔",
        "events can be read": "✘ 1",
        "snapshots fit": "✔",
        "read models have versions": "✘ 1",
        "migrations": "✔",
        "first release upgrades": "✔",
    }
    assert f"Written: {released / 'states' / 'order.v2.json'}" in done.stderr
    assert "order.placed: version 1 is released, and its schema has changed" in done.stderr
    assert "Raise the version to 2 and add an upcaster" in done.stderr
    assert "sales: version 1 is released, and has changed: table " in done.stderr
    assert "Raise the projection's version to 2" in done.stderr
    assert "nothing says whether sagas under way survive this code" in table["histories replay"][1] + done.stdout
