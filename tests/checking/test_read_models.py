"""A projection whose rows would be others has a raised version: what counts as a change, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from amends.app import App
from amends.checking import Checked
from amends.checking.read_models import check_projections
from tests.checking.conftest import Write

COUNTS = '''
from dataclasses import dataclass
from enum import Enum
from sqlalchemy import BigInteger, Column, Index, Text
from amends import Event, Key, Recorded
from amends.changes import Rows
from amends.projection import Projection

STEP = 1
NAMES = {"a": "Ann"}


class Kind(Enum):
    FIRST = 1


class Rate:
    def __init__(self, per: int) -> None:
        self.per = per


KIND, RATE = Kind.FIRST, Rate(1)


class Counted(Event, name="checking.counted"):
    """Counted."""

    what: Key

    @property
    def loud(self) -> str:
        return self.what.upper()


counts = Projection("checking_counts", version=1)
table = counts.table(
    "checking_counts",
    Column("what", Text, primary_key=True, comment="What."),
    Column("number", BigInteger, nullable=False, default=0, comment="How many."),
    Column("name", Text, comment="Whose."),
    Index("checking_counts_by_number", "number"),
    comment="How many.",
    computed={"many": ("number > 3", "Whether that is much.")},
)


@counts.on(Counted, key="what")
def counted(event: Counted, fact: Recorded, rows: Rows) -> None:
    """One more."""
    rows(table, event.what).add(number=more(event)).set(name=[NAMES.get(each) for each in ("a",)][0])


def more(event: Counted) -> int:
    """How many more."""
    return Steps.length() * RATE.per * KIND.value + (more(event) if False else 0)


class Steps:
    """Steps."""

    @staticmethod
    def length() -> int:
        return STEP
'''

SAME = [
    ("One more.", "One more of them."),
    ("How many more.", "How many, once more."),
    ("return STEP\n", "return (  # as long as that\n            STEP\n        )\n"),
    ("event: Counted, fact", "event: 'Counted', fact"),
    ('comment="Whose."', 'comment="Whose it is."'),
    ("def counted(", "def count("),
    ("NAMES = {", "OTHERS = 7\nNAMES = {"),
]

CHANGES = [
    (".add(number=more(event))", ".add(number=more(event) + 1)", "what checking.counted does"),
    ("if False else 0", "if False else 1", "what checking.counted does"),
    ("STEP = 1", "STEP = 2", "what checking.counted does"),
    ("FIRST = 1", "FIRST = 2", "what checking.counted does"),
    ("Rate(1)", "Rate(3)", "what checking.counted does"),
    ("return STEP", "return -STEP", "what checking.counted does"),
    ('"a": "Ann"', '"a": "Anne"', "what checking.counted does"),
    ("self.what.upper()", "self.what.lower()", "what checking.counted does"),
    (', key="what"', "", "what checking.counted does"),
    ('"name", Text', '"name", BigInteger', "table checking_counts"),
    ('    Index("checking_counts_by_number", "number"),\n', "", "table checking_counts"),
    ("number > 3", "number > 4", "computed columns of view checking_counts"),
    ("version=1", "version=1, partitions=2", "partitions, from 1 to 2"),
]


def checked(write: Write, folder: Path, source: str, *, accept: bool = False) -> Checked:
    return check_projections(App(projections=[write(source).counts]), folder, accept=accept)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "released"


@pytest.mark.parametrize(("was", "is_"), SAME)
def test_given_a_released_projection_when_only_its_looks_change_then_it_is_the_same(
    was: str, is_: str, write: Write, folder: Path
) -> None:
    assert was in COUNTS
    checked(write, folder, COUNTS, accept=True)
    assert checked(write, folder, COUNTS.replace(was, is_)).failures == ()


@pytest.mark.parametrize(("was", "is_", "told"), CHANGES)
def test_given_a_released_projection_when_it_changes_in_the_same_version_then_it_fails_and_says_what_changed(
    was: str, is_: str, told: str, write: Write, folder: Path
) -> None:
    assert was in COUNTS
    checked(write, folder, COUNTS, accept=True)
    kept = (folder / "checking_counts.v1.json").read_text()
    [failure] = checked(write, folder, COUNTS.replace(was, is_), accept=True).failures
    assert failure.what == f"checking_counts: version 1 is released, and has changed: {told}"
    assert "Raise the projection's version to 2" in failure.mend
    assert (folder / "checking_counts.v1.json").read_text() == kept


def test_given_a_changed_projection_when_its_version_is_raised_then_it_is_accepted_and_never_goes_back(
    write: Write, folder: Path
) -> None:
    # given
    checked(write, folder, COUNTS, accept=True)
    raised = COUNTS.replace("STEP = 1", "STEP = 2").replace("version=1", "version=2")
    # when, then
    assert "is new" in checked(write, folder, raised).failures[0].what
    assert checked(write, folder, raised, accept=True).failures == ()
    assert checked(write, folder, raised).failures == ()
    [back] = checked(write, folder, COUNTS).failures
    assert back.what == "checking_counts: version 2 is released, and the code has version 1"
