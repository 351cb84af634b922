"""Events and states are held to what was released: a changed schema is found, and what is there is never rewritten."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from amends.app import App
from amends.checking import Checked
from amends.checking.schemas import check_events, check_states
from amends.errors import InvalidInput
from tests.checking.conftest import Write

SHELF = '''
"""A shelf."""
from typing import Any, Self
from pydantic import Field
from amends import Aggregate, Command, Event, Key, Money, Personal, Value, upcast


class Put(Command, name="checking.put"):
    shelf: Key


class Thing(Value):
    """A thing."""

    name: str
    price: Money
    parts: tuple["Thing", ...] = ()


class WasPut(Event, name="checking.was_put"):
    """Something was put there."""

    shelf: Key
    thing: Thing
    by: Personal[str]
    note: str | None = None


class Shelf(Aggregate[Put, WasPut], category="checking_shelf", key="shelf"):
    things: int = 0
'''

NEXT = SHELF.replace('name="checking.was_put"', 'name="checking.was_put", version=2').replace(
    "    note: str | None = None\n",
    """    note: str | None = None
    height: int

    @upcast(1)
    @staticmethod
    def _low(data: dict[str, Any]) -> dict[str, Any]:
        return data | {"height": 0}
""",
)


def events(module: ModuleType, folder: Path, *, accept: bool = False) -> Checked:
    return check_events(App(aggregates=[module.Shelf]), folder, accept=accept)


def states(module: ModuleType, folder: Path, *, accept: bool = False) -> Checked:
    return check_states(App(aggregates=[module.Shelf]), folder, accept=accept)


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "released"


def test_given_a_new_event_when_checked_then_it_is_to_be_accepted_and_then_it_is_good(
    write: Write, folder: Path
) -> None:
    # given
    shelf = write(SHELF)
    # when
    [new] = events(shelf, folder).failures
    # then
    assert "Version 1 of checking.was_put is new" in new.what
    assert "amends check --accept" in new.mend
    assert not folder.exists(), "looking writes nothing"
    # and
    accepted = events(shelf, folder, accept=True)
    assert (accepted.failures, len(accepted.accepted)) == ((), 1)
    assert events(shelf, folder).failures == ()
    kept = json.loads(texts(folder)["checking.was_put.v1.json"])
    full, least = kept["examples"]
    assert full["thing"]["price"] == {"amount": 7, "currency": "EUR"}
    assert (full["note"], least["note"]) == ("example", None)


@pytest.mark.parametrize(
    ("was", "is_"),
    [
        ("    shelf: Key\n    thing", "    shelf: str\n    thing"),
        ("    note: str | None = None\n", ""),
        ("    by: Personal[str]\n", "    by: Personal[str]\n    height: int = 0\n"),
        ("    name: str\n", "    called: str\n"),
    ],
)
def test_given_a_released_event_when_its_schema_changes_then_it_fails_and_nothing_is_rewritten(
    was: str, is_: str, write: Write, folder: Path
) -> None:
    events(write(SHELF), folder, accept=True)
    before = texts(folder)
    for accept in (False, True):
        failures = events(write(SHELF.replace(was, is_)), folder, accept=accept).failures
        assert "version 1 is released, and its schema has changed" in failures[0].what
        assert "Raise the version to 2 and add an upcaster, @upcast(1)" in failures[0].mend
        assert texts(folder) == before


def test_given_a_released_event_when_words_and_names_of_classes_change_then_it_is_the_same(
    write: Write, folder: Path
) -> None:
    events(write(SHELF), folder, accept=True)
    changed = SHELF.replace("Something was put there.", "It stands.").replace("Thing", "Item").replace("WasPut", "Was")
    assert events(write(changed), folder).failures == ()


def test_given_a_raised_version_when_accepted_then_both_versions_are_kept_and_the_old_one_is_read(
    write: Write, folder: Path
) -> None:
    events(write(SHELF), folder, accept=True)
    old = texts(folder)
    assert events(write(NEXT), folder, accept=True).failures == ()
    assert texts(folder).keys() == {"checking.was_put.v1.json", "checking.was_put.v2.json"}
    assert texts(folder)["checking.was_put.v1.json"] == old["checking.was_put.v1.json"]


@pytest.mark.parametrize(
    ("was", "is_", "why"),
    [
        ('data | {"height": 0}', "data", "height: Field required"),
        ('data | {"height": 0}', 'data["depth"]', "KeyError"),
        ("@upcast(1)", "@upcast(1)\n    # never mind", ""),
    ],
)
def test_given_a_raised_version_when_its_upcaster_fails_then_the_old_example_tells(
    was: str, is_: str, why: str, write: Write, folder: Path
) -> None:
    events(write(SHELF), folder, accept=True)
    events(write(NEXT), folder, accept=True)
    told = [failure.what for failure in events(write(NEXT.replace(was, is_)), folder).failures]
    assert [why in each and "example" in each for each in told] == ([True, True] if why else [])


def test_given_a_released_event_when_its_class_is_gone_or_older_than_the_file_then_its_examples_tell(
    write: Write, folder: Path
) -> None:
    events(write(NEXT), folder, accept=True)
    gone = events(write(SHELF.replace("checking.was_put", "checking.placed")), folder, accept=True)
    assert any("UnknownMessage" in failure.what for failure in gone.failures)
    events(write(SHELF), folder, accept=True)
    older = events(write(SHELF), folder)
    assert any("MessageFromTheFuture" in failure.what for failure in older.failures)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("return value and value.upper()", "it comes back as something else"),
        ("raise ValueError('no notes')", "no notes"),
    ],
)
def test_given_a_rule_that_no_schema_tells_when_it_refuses_or_changes_what_is_stored_then_the_example_tells(
    rule: str, why: str, write: Write, folder: Path
) -> None:
    events(write(SHELF), folder, accept=True)
    ruled = SHELF.replace("import Field", "import Field, field_validator").replace(
        "    note: str | None = None\n",
        f"""    note: str | None = None

    @field_validator("note")
    @classmethod
    def _ruled(cls, value: Any) -> Any:
        {rule}
""",
    )
    failures = events(write(ruled), folder).failures
    assert why in failures[0].what
    assert "let its fields take what they took" in failures[0].mend


def test_given_an_older_version_that_nothing_is_kept_of_when_checked_then_that_is_told(
    write: Write, folder: Path
) -> None:
    [missing] = events(write(NEXT), folder, accept=True).failures
    assert "nothing is kept of version 1, which the log may hold" in missing.what


def test_given_rules_that_no_made_up_example_obeys_when_accepted_then_it_asks_for_one_and_takes_it(
    write: Write, folder: Path
) -> None:
    strict = SHELF.replace("    name: str\n", '    name: str = Field(pattern="^shelf [0-9]+$")\n')
    [failure] = events(write(strict), folder, accept=True).failures
    assert "no example of version 1 can be made up" in failure.what
    given = strict.replace('[0-9]+$"', '[0-9]+$", examples=["shelf 9"]')
    assert events(write(given), folder, accept=True).failures == ()


def test_given_a_file_that_is_no_json_when_checked_then_it_is_named(write: Write, folder: Path) -> None:
    events(write(SHELF), folder, accept=True)
    (folder / "checking.was_put.v1.json").write_text("{")
    with pytest.raises(InvalidInput, match=r"checking\.was_put\.v1\.json: can't be read"):
        events(write(SHELF), folder)


def test_given_a_state_that_changed_when_its_snapshot_version_is_not_raised_then_it_fails(
    write: Write, folder: Path
) -> None:
    states(write(SHELF), folder, accept=True)
    changed = SHELF.replace("things: int = 0", "things: str = ''")
    [failure] = states(write(changed), folder, accept=True).failures
    assert "is not that of snapshot version 1" in failure.what
    assert "Raise the aggregate's snapshot_version to 2" in failure.mend
    raised = changed.replace('key="shelf"', 'key="shelf", snapshot_version=2')
    assert "is new" in states(write(raised), folder).failures[0].what
    assert states(write(raised), folder, accept=True).failures == ()
