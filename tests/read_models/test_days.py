"""Which day it is: in the zone that the shop is set to, also on the days that are longer or shorter than others."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from amends.settings import Settings
from read_models.days import day_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        ("2026-03-28T22:59:59Z", date(2026, 3, 28)),
        ("2026-03-28T23:00:00Z", date(2026, 3, 29)),  # one hour ahead of UTC when that day begins
        ("2026-03-29T21:59:59Z", date(2026, 3, 29)),  # two hours ahead when it ends, after 23 hours
        ("2026-03-29T22:00:00Z", date(2026, 3, 30)),
        ("2026-10-24T22:00:00Z", date(2026, 10, 25)),
        ("2026-10-25T22:59:59Z", date(2026, 10, 25)),  # a day of 25 hours
        ("2026-10-25T23:00:00Z", date(2026, 10, 26)),
        ("2026-10-26T00:30:00+02:00", date(2026, 10, 25)),
    ],
)
def test_given_a_zone_with_summer_time_when_a_moment_is_near_midnight_then_its_day_is_that_of_the_zone(
    in_berlin: None, moment: str, day: date
) -> None:
    assert day_of(datetime.fromisoformat(moment)) == day


@pytest.mark.parametrize("name", ["Mars/Phobos", "Europe", "", "../UTC", "/etc/localtime", "UTC\0"])
def test_given_a_zone_that_is_none_when_set_then_told_so(name: str) -> None:
    with pytest.raises(ValidationError, match=r"is no time zone of the IANA list, such as UTC or Europe/Berlin"):
        Settings(time_zone=name)


def told(code: str, zone: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "AMENDS_TIME_ZONE": zone}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )


def test_given_a_zone_in_the_environment_when_the_read_models_are_loaded_then_their_days_are_in_it() -> None:
    code = (
        "from read_models import days, inventory_report as r\n"
        "print(days.TIME_ZONE, str(days.TIME_ZONE) in r.inventory_report.sql)"
    )
    assert told(code, "Pacific/Auckland").stdout.split() == ["Pacific/Auckland", "True"]
    assert told("import read_models.days; print(read_models.days.TIME_ZONE)", "UTC").stdout.split() == ["UTC"]


def test_given_a_zone_that_is_none_when_a_command_runs_then_it_says_so_without_a_stack_trace() -> None:
    done = told("import sys; sys.argv = ['amends', 'versions']; from amends.cli import main; main()", "Mars/Phobos")
    assert done.returncode == 2
    assert "AMENDS_TIME_ZONE" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
