"""What docs/recovery.md says is so: its commands exist with the options shown, its query runs, its figures hold.

That its procedures put things right is shown by the other tests of this folder.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import psycopg
import pytest

from amends.database import conninfo
from amends.embedded.binaries import find_postgres
from amends.policies import COMMAND
from amends.transactions import MOST
from tests.cli.typing_in import amends

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "recovery.md").read_text()


def lines() -> list[str]:
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]


def verbs() -> list[tuple[str, ...]]:
    named = re.findall(r"`amends ([a-z-]+)(?: (redo|undo|cancel))?", PAGE)
    typed = [re.match(r"amends ([a-z-]+)(?: (redo|undo|cancel))?", line) for line in lines()]
    found = set(named) | {match.groups(default="") for match in typed if match}
    return sorted(tuple(word for word in each if word) for each in found)


@pytest.mark.parametrize("verb", verbs(), ids=" ".join)
async def test_the_commands_exist_with_the_options_shown(verb: tuple[str, ...]) -> None:
    shown = await amends(*verb, "--help", TERM="dumb")
    assert shown.exit_code == 0, shown.stderr
    used = [option for line in lines() if line.startswith(f"amends {' '.join(verb)} ") for option in _options(line)]
    assert [option for option in used if option not in shown.stdout] == []


def _options(line: str) -> list[str]:
    return re.findall(r"(--[a-z-]+)", re.sub(r'"[^"]*"', "", line))


@pytest.mark.parametrize("program", ["psql", "pg_restore", "pg_dump", "pg_dumpall", "pg_resetwal"])
def test_the_programs_know_the_options_shown(program: str) -> None:
    command, path = [str(find_postgres() / program), "--help"], {"PATH": os.environ["PATH"]}
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=path).stdout
    used = {option for said in re.findall(rf"{program}((?: --[a-z-]+)+)", PAGE) for option in _options(said)}
    assert used
    assert [option for option in used if option not in shown] == []


def test_its_query_runs_as_the_reader(database_url: str) -> None:
    [query] = re.findall(r"^```sql\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    with psycopg.connect(conninfo(database_url, "reader")) as connection:
        connection.execute(query.encode())


def test_its_figures_hold() -> None:
    assert COMMAND.deadline is not None
    assert (COMMAND.deadline.total_seconds(), COMMAND.budget.days) == (3600, 1)
    assert (COMMAND.longest_pause.total_seconds(), MOST) == (10, 500_000_000)
