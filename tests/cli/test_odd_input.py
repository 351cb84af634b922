"""What nobody should type or set, and what is said to it: one clear sentence, and never a stack trace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.common import SearchAttributePair, TypedSearchAttributes

from amends.connect import connect
from amends.settings import Settings
from amends.visibility import SAGA_STATUS
from tests.cli.typing_in import amends
from tests.sagas.given import until

ROOT = Path(__file__).parents[2]
WHO = ("--actor", "Grace", "--reason", "because")
NAMESPACE = {"AMENDS_TEMPORAL_NAMESPACE": "nowhere"}


def typed(*arguments: bytes | str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Type a command into a shell: what it hands on as it is, and settings that are read first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AMENDS_")}
    return subprocess.run(
        [sys.executable, "-m", "amends", *arguments],
        cwd=ROOT,
        env={**kept, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_given_bytes_that_are_no_utf_8_when_typed_then_the_argument_is_named() -> None:
    ended = typed("saga", "show", b"\xff")
    assert (ended.returncode, ended.stderr) == (2, "InvalidInput: saga: is no UTF-8\n")


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("rubbish", "rubbish"),
        ("mysql://root:swordfish@localhost/x", "sword"),
        ("postgresql://me:sword/fish@x", "sword"),
    ],
)
def test_given_no_address_of_a_database_when_set_then_the_setting_is_named_and_no_password_told(
    url: str, secret: str
) -> None:
    ended = typed("trace", "x", AMENDS_DATABASE_URL=url)
    assert ended.returncode == 2
    assert " ".join(ended.stderr.split()).startswith("AMENDS_DATABASE_URL: no address of a PostgreSQL")
    assert secret not in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("saga", "skip", "order-\udcff", *WHO), 2, "InvalidInput: saga: is no UTF-8"),
        (("saga", "skip", "order-1", "--actor", "\udcff", "--reason", "x"), 2, "InvalidInput: actor: is no UTF-8"),
        (("trace", "\udcff"), 2, "InvalidInput: id: is no UTF-8"),
        (("show", "order-\udcff"), 2, "InvalidInput: stream: is no UTF-8"),
        (("views", "pause", "\udcff", *WHO), 2, "InvalidInput: name: is no UTF-8"),
        (("saga", "show", ""), 2, "InvalidInput: saga_id"),
        (("saga", "skip", "", *WHO), 2, "InvalidInput: saga_id"),
        (("saga", "cancel", "x" * 2000, *WHO), 2, "InvalidInput: saga_id"),
        (("saga", "skip", "[/red]", *WHO), 1, "UnknownSaga: There is no saga with this id (saga=[/red])"),
        (("show", "order-1", "--at", "9" * 4000), 2, "InvalidInput: at: '999"),
        (("show", "order-1", "--at", "9" * 5000), 2, "InvalidInput: at: is longer than 4,096 characters"),
        (("show", "order-1", "--at", "0001-01-01T00:00+23:59"), 1, "NothingRecorded"),
    ],
)
async def test_given_what_can_not_be_when_typed_then_one_sentence_says_so(
    arguments: tuple[str, ...], code: int, told: str, settings: Settings
) -> None:
    ended = await amends(*arguments, settings=settings)
    assert isinstance(ended.exception, SystemExit), repr(ended.exception)
    assert ended.exit_code == code
    assert " ".join(ended.stderr.split()).startswith(told), ended.stderr
    assert len(ended.stderr) < 500


@pytest.mark.parametrize(
    "arguments", [("saga", "list"), ("saga", "show", "x"), ("saga", "skip", "x", *WHO), ("saga", "sweep")]
)
async def test_given_a_namespace_that_is_none_when_sagas_are_asked_for_then_it_is_told(
    arguments: tuple[str, ...], settings: Settings
) -> None:
    ended = await amends(*arguments, settings=settings, **NAMESPACE)
    assert isinstance(ended.exception, SystemExit), repr(ended.exception)
    assert ended.exit_code == 1
    assert "Namespace nowhere is not found" in ended.stderr


async def test_given_a_task_queue_with_quotes_when_sagas_are_listed_then_it_is_searched_for_as_it_is_called(
    settings: Settings,
) -> None:
    odd = settings.model_copy(update={"task_queue": "it's an 'odd' one"})
    client, id = await connect(settings), f"trip-{uuid4().hex}"
    shown = TypedSearchAttributes([SearchAttributePair(SAGA_STATUS, "Running")])
    handle = await client.start_workflow("Travel", id=id, task_queue=odd.task_queue, search_attributes=shown)

    async def listed() -> bool:
        ended = await amends("saga", "list", settings=odd)
        assert ended.exit_code == 0, ended.stderr
        return id in ended.stdout

    await until("it is listed", listed)
    await handle.terminate()
