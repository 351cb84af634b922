"""What docs/testing.md says is so: its sentences hold, and its fault cases are those of a test that runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RULES, FAULTS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "docs" / "testing.md").read_text(), re.DOTALL | re.MULTILINE
)


def sentences() -> dict[str, Callable[[], None]]:
    scope: dict[str, Callable[[], None]] = {}
    exec(compile(RULES, "docs/testing.md", "exec"), scope)
    return {name: test for name, test in scope.items() if name.startswith("test_")}


def test_there_is_a_sentence_for_each_kind_of_rule() -> None:
    assert len(sentences()) == 4


@pytest.mark.parametrize("name", sentences())
def test_the_sentences_hold(name: str) -> None:
    sentences()[name]()


def test_the_fault_cases_are_those_of_the_hotel() -> None:
    assert FAULTS in (ROOT / "tests" / "faults" / "test_hotel.py").read_text()
