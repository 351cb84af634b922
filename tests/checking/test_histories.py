"""A history that this code can't replay is found, and so is a workflow of which none is kept."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from shutil import copy

import pytest
from temporalio import workflow

from amends.app import App
from amends.checking.histories import check_histories, kept_histories
from amends.errors import InvalidInput
from amends.settings import Settings
from tests.golden.record import HISTORIES
from workflows.lease import Lease, ReservationLease

KEPT = sorted(HISTORIES.glob("ReservationLease-*.json.gz"))


@workflow.defn(name="ReservationLease")
class Changed(ReservationLease):
    """Told in another way by code of another day."""

    @workflow.run
    async def run(self, lease: Lease) -> None:
        """Sleep first."""
        await workflow.sleep(1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in KEPT:
        copy(path, tmp_path)
    return tmp_path


async def test_given_histories_when_the_story_is_the_same_then_all_of_them_replay(folder: Path) -> None:
    checked = await check_histories(App(workflows=[ReservationLease]), folder, Settings())
    assert checked.failures == ()
    assert checked.looked_at == f"{len(KEPT)} of 1 workflows in {folder}"


async def test_given_histories_when_the_story_has_changed_then_each_that_no_longer_fits_is_named(folder: Path) -> None:
    checked = await check_histories(App(workflows=[Changed]), folder, Settings())
    assert len(checked.failures) >= len(KEPT) - 2
    assert "ReservationLease no longer goes this way" in checked.failures[0].what
    assert ".json.gz" in checked.failures[0].what
    assert "workflow.patched" in checked.failures[0].mend


async def test_given_a_workflow_without_a_history_of_each_end_when_checked_then_that_is_told(folder: Path) -> None:
    for kept in list(kept_histories(folder)):
        if kept.end != "COMPLETED":
            kept.path.unlink()
    checked = await check_histories(App(workflows=[ReservationLease]), folder, Settings())
    [missing] = checked.failures
    assert missing.what == f"ReservationLease: {folder} has no history that failed or was ended"


async def test_given_no_histories_when_checked_then_the_application_is_told_so(tmp_path: Path) -> None:
    checked = await check_histories(App(workflows=[ReservationLease]), tmp_path / "none", Settings())
    assert checked.failures == ()
    assert checked.looked_at.startswith(f"none in {tmp_path / 'none'}")
    assert "temporal workflow show" in checked.looked_at


async def test_given_a_file_as_temporal_writes_it_when_read_then_it_replays(tmp_path: Path) -> None:
    said = json.loads(gzip.decompress(KEPT[0].read_bytes()))
    (tmp_path / "lease.json").write_text(json.dumps({"events": said["events"]}))
    [kept] = kept_histories(tmp_path)
    assert (kept.type, kept.history.workflow_id) == ("ReservationLease", "lease.json")


def test_given_a_file_that_is_no_history_when_read_then_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text('{"events": []}')
    with pytest.raises(InvalidInput, match=r"odd\.json: is no history"):
        list(kept_histories(tmp_path))
