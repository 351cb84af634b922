"""Histories that earlier code has written replay: sagas under way survive an update of the code."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from amends.checking.histories import check_histories, kept_histories
from amends.settings import Settings
from app import app
from tests.golden.record import HISTORIES, OF_A_MACHINE, WORKER

KEPT = sorted(HISTORIES.glob("*.json.gz"))


def read(path: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(gzip.decompress(path.read_bytes()))
    return found


async def test_given_a_history_of_earlier_code_when_replayed_by_todays_then_it_goes_the_same_way() -> None:
    checked = await check_histories(app, HISTORIES, Settings())
    assert not checked.failures, "\n".join(failure.what for failure in checked.failures)
    assert checked.looked_at.startswith(f"{len(KEPT)} of ")


@pytest.mark.parametrize("process", app.workflows, ids=lambda process: process.__name__)
def test_given_a_story_when_looked_for_then_its_good_and_its_bad_end_are_kept(process: type) -> None:
    ends = {kept.end for kept in kept_histories(HISTORIES) if kept.type == process.__name__}
    assert "COMPLETED" in ends
    assert ends & {"FAILED", "CANCELED", "TERMINATED"}


def test_given_what_is_kept_when_read_then_nothing_of_a_machine_is_in_it() -> None:
    for path in KEPT:
        text = json.dumps(read(path))
        assert not [name for name in OF_A_MACHINE if f'"{name}"' in text], path.name
        assert "site-packages" not in text, path.name
        assert not WORKER.search(text), path.name
