"""Histories that earlier code has written replay: sagas under way survive an update of the code."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from amends.compensation import Compensation
from amends.dispatch import ExecuteCommand
from amends.process_manager_workflow import RunProcessManager
from amends.projection_workflow import RunProjection
from amends.rebuild_workflow import RebuildProjection
from amends.runner import RUNNER
from amends.sweep import Sweep
from app import app
from tests.golden.record import HISTORIES, OF_A_MACHINE, WORKER

WORKFLOWS = [*app.workflows, ExecuteCommand, Compensation, Sweep, RunProjection, RunProcessManager, RebuildProjection]
KEPT = sorted(HISTORIES.glob("*.json.gz"))


def read(path: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(gzip.decompress(path.read_bytes()))
    return found


async def test_given_a_history_of_earlier_code_when_replayed_by_todays_then_it_goes_the_same_way() -> None:
    """All with one replayer, for setting one up takes longer than replaying."""
    replayer = Replayer(workflows=WORKFLOWS, workflow_runner=RUNNER, data_converter=pydantic_data_converter)
    failed = []
    for path in KEPT:
        kept = read(path)
        history = WorkflowHistory.from_json(str(kept.pop("workflow_id")), json.dumps(kept))
        result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
        if result.replay_failure is not None:
            failed.append(f"{path.name}: {result.replay_failure}")
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("process", app.workflows, ids=lambda process: process.__name__)
def test_given_a_story_when_looked_for_then_its_good_and_its_bad_end_are_kept(process: type) -> None:
    ends = {path.name.split("-")[1] for path in KEPT if path.name.startswith(f"{process.__name__}-")}
    assert "completed" in ends
    assert ends & {"failed", "canceled", "terminated"}


def test_given_what_is_kept_when_read_then_nothing_of_a_machine_is_in_it() -> None:
    for path in KEPT:
        text = json.dumps(read(path))
        assert not [name for name in OF_A_MACHINE if f'"{name}"' in text], path.name
        assert "site-packages" not in text, path.name
        assert not WORKER.search(text), path.name
