"""`amends saga …` as an operator types it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from amends.settings import Settings
from tests.cli.typing_in import amends
from tests.sagas.conftest import trips
from tests.sagas.given import Handle, saga_status, until
from tests.sagas.travels import WAIT, Trips, book, undone

__all__ = ["trips"]

ROOT = Path(__file__).parents[2]
WHO = ("--actor", "Grace", "--reason", "the agency called back")


class Line:
    """The command line, against the servers of a test."""

    def __init__(self, settings: Settings) -> None:
        assert settings.database_url is not None
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AMENDS_")},
            "AMENDS_DATABASE_URL": settings.database_url.get_secret_value(),
            "AMENDS_TEMPORAL_ADDRESS": str(settings.temporal_address),
            "AMENDS_TASK_QUEUE": settings.task_queue,
            "COLUMNS": "200",
        }

    async def type(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "amends", "saga", *arguments],
            cwd=ROOT,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=60,
        )

    async def done(self, *arguments: str) -> str:
        ended = await self.type(*arguments)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    async def refused(self, code: int, *arguments: str) -> str:
        ended = await self.type(*arguments)
        assert ended.returncode == code, (ended.stdout, ended.stderr)
        assert "Traceback" not in ended.stderr
        return ended.stderr


@pytest.fixture
def line(settings: Settings) -> Line:
    return Line(settings)


async def parked(trips: Trips, what: str = "car") -> Handle:
    """A saga that waits for a person, because of a stop."""
    handle = await trips.start(book("hotel"), book(f"stuck {what}"), book("full cruise"))

    async def waits() -> bool:
        return bool((await handle.query("saga"))["parked"])

    await until("it is parked", waits)
    return handle


async def test_given_a_parked_saga_when_listed_shown_and_skipped_then_it_ends(trips: Trips, line: Line) -> None:
    handle = await parked(trips)

    async def listed() -> bool:
        found = json.loads(await line.done("list", "--status", "NeedsAttention", "--json"))
        return [saga["workflow_id"] for saga in found] == [handle.id]

    await until("it is listed", listed)
    assert "book stuck car" in await line.done("list")
    shown = json.loads(await line.done("show", handle.id, "--json"))
    assert (shown["status"], shown["parked"][0]["title"]) == ("NeedsAttention", "book stuck car")
    said = await line.done("show", handle.id)
    assert "What is booked stays booked" in said
    await line.done("skip", handle.id, *WHO)
    await undone(handle)


async def test_given_titles_in_brackets_and_colons_when_shown_listed_or_traced_then_they_read_as_they_were_written(
    trips: Trips, settings: Settings
) -> None:
    title = "stuck [/car] [red] :car:"
    handle = await parked(trips, title.removeprefix("stuck "))
    for command in (("saga", "show", handle.id), ("trace", handle.id)):
        shown = await amends(*command, settings=settings)
        assert shown.exit_code == 0, repr(shown.exception)
        assert f"book {title}" in shown.stdout
    listed = await amends("saga", "list", settings=settings)
    assert listed.exit_code == 0, repr(listed.exception)
    refused = await amends("saga", "show", "[/nobody]", settings=settings)
    assert "UnknownSaga" in refused.stderr
    assert "[/nobody]" in refused.stderr


def test_given_the_command_line_then_none_of_its_consoles_takes_what_it_shows_for_markup() -> None:
    from_elsewhere = [
        file.name
        for file in (ROOT / "amends" / "cli").glob("*.py")
        if file.name != "people.py" and re.search(r"\bConsole\(|from_markup", file.read_text())
    ]
    assert from_elsewhere == []


async def test_given_a_parked_saga_when_retried_with_other_input_then_it_ends(trips: Trips, line: Line) -> None:
    handle = await parked(trips)
    other = {"trip_id": handle.id, "what": "hotel", "why": "paid for"}
    assert "InvalidInput" in await line.refused(2, "retry", handle.id, *WHO, "--input", "{nonsense")
    assert "InvalidInput" in await line.refused(2, "retry", handle.id, *WHO, "--input", '{"what": 1}')
    await line.done("retry", handle.id, *WHO, "--input", json.dumps(other))
    await undone(handle)


async def test_given_a_parked_saga_when_resolved_or_abandoned_then_it_ends(trips: Trips, line: Line) -> None:
    one, other = await parked(trips), await parked(trips)
    await line.done("resolve", one.id, *WHO, "--done", "sold it")
    await undone(one)
    await line.done("abandon", other.id, *WHO)
    with pytest.raises(Exception, match="execution failed"):
        await other.result()
    assert await saga_status(other) == "Abandoned"


async def test_given_a_running_saga_when_cancelled_then_it_is_undone_and_a_second_time_is_refused(
    trips: Trips, line: Line
) -> None:
    handle = await trips.start(book("hotel"), WAIT)
    await trips.hear(handle)
    assert "NotParked" in await line.refused(1, "skip", handle.id, *WHO)
    await line.done("cancel", handle.id, *WHO)
    await undone(handle)
    assert "SagaEnded" in await line.refused(1, "cancel", handle.id, *WHO)
    assert "UnknownSaga" in await line.refused(1, "cancel", "nonsense", *WHO)


async def test_given_a_terminated_saga_when_swept_then_it_is_told_and_undone(trips: Trips, line: Line) -> None:
    handle = await trips.start(book("hotel"), WAIT)
    await trips.hear(handle)
    await handle.terminate("to see what happens")

    async def found() -> bool:
        return bool(json.loads(await line.done("sweep", "--json")) == [handle.id])

    await until("the sweep finds it", found)
    await trips.client.get_workflow_handle(f"compensation-{handle.id}").result()
    assert await trips.events(handle) == ["booked hotel", "unbooked hotel"]
    assert "Nothing to do" in (await line.type("sweep")).stderr


@pytest.mark.parametrize("verb", ["retry", "skip", "resolve", "abandon", "cancel"])
async def test_given_a_repair_without_a_reason_when_typed_then_it_is_refused(line: Line, verb: str) -> None:
    done = ("--done", "it") if verb == "resolve" else ()
    assert "--reason" in await line.refused(2, verb, "order-1", "--actor", "Grace", *done)
    assert "InvalidInput" in await line.refused(2, verb, "order-1", "--actor", "Grace", "--reason", " ", *done)


async def test_given_a_status_that_is_none_when_listed_then_it_is_refused(line: Line) -> None:
    assert "NeedsAttention" in await line.refused(2, "list", "--status", "Nonsense")
