"""What docs/sagas.md says is so: its saga runs, in all its endings; its commands exist; its queries run."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import psycopg
import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.testing import TimeSkipper

from amends import Context
from amends.app import App, install
from amends.connect import connect
from amends.database import conninfo
from amends.settings import Settings
from tests.conftest import RunWorker
from tests.sagas.given import rows, story

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "sagas.md").read_text()

EVENTS = (
    "select name from amends.events where name like 'trip_doc.%%' or name like 'night_doc.%%' order by xid, position"
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The page's story, with the business it takes for granted, as a module."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "saga_of_the_page.py").write_text("from tests.page_business import *\n\n\n" + blocks("python")[0])
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("saga_of_the_page")
    finally:
        sys.path.remove(str(folder))


@pytest.mark.parametrize("ending", ["travelled", "not approved", "full", "ticket unknown"])
async def test_the_story_runs(page: ModuleType, settings: Settings, run_worker: RunWorker, ending: str) -> None:
    from tests.page_business import Night, TripOfPage, TripRequest

    sold: set[str] = set()

    class Counter(page.Agency):  # type: ignore[name-defined,misc]
        async def ticket(self, trip_id: str, context: Context) -> str:
            sold.add(trip_id)
            if ending == "ticket unknown":
                raise ApplicationError("the line is dead", non_retryable=True)
            return "ticket"

        async def find_ticket(self, trip_id: str, context: Context) -> str | None:
            return "ticket" if trip_id in sold else None

        async def return_ticket(self, trip_id: str, context: Context) -> None:
            sold.discard(trip_id)

    app = App(aggregates=[TripOfPage, Night], workflows=[page.BookTrip], activities=lambda resources: [Counter()])
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    install(app, url)
    async with run_worker(app):
        client = TimeSkipper(await connect(settings)).client
        nights = ("monday", "tuesday", *(["full"] if ending == "full" else []))
        handle = await client.start_workflow(
            page.BookTrip.run,
            TripRequest(trip_id="t1", nights=nights),
            id=f"trip-{settings.task_queue}",
            task_queue=settings.task_queue,
        )
        if ending in ("travelled", "ticket unknown"):
            await handle.signal("approve")
            assert await handle.result() == "travelled"
            assert sold == {"t1"}
            assert [name for (name,) in await rows(url, EVENTS)][-2:] == ["trip_doc.confirmed", "trip_doc.closed"]
        else:
            with pytest.raises(WorkflowFailureError):
                await handle.result()
            assert sold == set()
            assert [name for (name,) in await rows(url, EVENTS)][-1] == "trip_doc.released", "it is undone last"
        assert any("reserve the trip" in line for line in await story(handle))


@pytest.mark.parametrize("query", blocks("sql"))
def test_the_queries_run_as_the_reader(query: str, database_url: str) -> None:
    with psycopg.connect(conninfo(database_url, "reader")) as connection:
        connection.execute(query.encode())


def test_the_commands_exist_with_the_options_shown() -> None:
    lines = [line for block in blocks("console") for line in block.splitlines()]
    assert len(lines) > 5
    for verb in sorted({line.split()[3] for line in lines}):
        shown = subprocess.run(
            [sys.executable, "-m", "amends", "saga", verb, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            env={"COLUMNS": "200", "PATH": "", "TERM": "dumb"},
        ).stdout
        used = {option for line in lines if line.split()[3] == verb for option in re.findall(r"(--\w+)", line)}
        assert [option for option in used if option not in shown] == []


def test_every_status_and_update_named_exists() -> None:
    from amends import repair
    from amends.visibility import SagaStatus

    updates = {kind.update for kind in repair.Repair.__subclasses__()}
    assert set(re.findall(r"`(saga_\w+)`", PAGE)) == updates
    named = set(re.findall(r"Compensated|NeedsAttention|Completed|HandedOver|Abandoned", PAGE))
    assert named <= set(SagaStatus.__args__)  # type: ignore[attr-defined]
