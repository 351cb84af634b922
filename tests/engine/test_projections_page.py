"""What docs/projections.md says is so: its queries run for a reader, its commands and functions exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from amends.cli.views import views
from amends.database import conninfo
from tests.engine.readside_shop import connect, fetch

PAGE = (Path(__file__).parents[2] / "docs" / "projections.md").read_text()
QUERIES = re.findall(r"^```sql\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("query", QUERIES)
async def test_its_queries_run_for_a_reader(database_url: str, query: str) -> None:
    async with connect(conninfo(database_url, "reader")) as reader:
        await reader.execute(query.encode())


def test_its_commands_are_those_there_are() -> None:
    line = get_command(views())
    there = set(line.commands) | {f"dead-letters {name}" for name in line.commands["dead-letters"].commands}  # type: ignore[attr-defined]
    told = set(re.findall(r"amends views ((?:dead-letters )?[a-z-]+)", PAGE)) | {"dead-letters show"}
    assert told == there - {"dead-letters", "list"}


async def test_its_functions_exist(database_url: str) -> None:
    told = set(re.findall(r"`amends\.([a-z_]+)\(", PAGE))
    found = await fetch(database_url, "select proname from pg_proc where pronamespace = 'amends'::regnamespace")
    assert told
    assert told <= {name for (name,) in found}
