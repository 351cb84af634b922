"""A worker of the trips' app for each test of sagas."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from amends.settings import Settings
from tests.conftest import RunWorker
from tests.sagas.travels import Trips, travelling


@pytest.fixture
async def trips(settings: Settings, run_worker: RunWorker) -> AsyncIterator[Trips]:
    async with travelling(settings, run_worker) as trips:
        yield trips
