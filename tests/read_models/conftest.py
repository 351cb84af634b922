"""A shop's database with a past that tests make up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from zoneinfo import ZoneInfo

import pytest

from amends.reader import Reader
from read_models import days
from tests.read_models.past import Past


@pytest.fixture
async def past(database_url: str) -> AsyncIterator[Past]:
    """Nothing has happened yet."""
    async with Reader(database_url, 2) as reader:
        yield Past(database_url, reader)


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Days begin and end in Berlin, an hour or two before UTC's."""
    monkeypatch.setattr(days, "TIME_ZONE", ZoneInfo("Europe/Berlin"))
