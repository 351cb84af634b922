"""A bench for each module that tries scenarios, and a campaign of the cases that were selected.

Such a module has APP (where the application is), SCENARIOS and the test of `case`s that its tables give.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from pydantic import SecretStr

from amends.app import install, load_app
from amends.embedded import EmbeddedTemporal
from amends.settings import Settings
from amends.testing.faults import Bench, Campaign, Case
from tests.sagas.shopping import new_database


@pytest.fixture(scope="module")
async def bench(
    request: pytest.FixtureRequest,
    postgres_url: str,
    template: str,
    temporal: EmbeddedTemporal,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Bench]:
    """A worker in this process that faults get into, with a database of its own."""
    url = new_database(postgres_url, template)
    settings = Settings(
        app=request.module.APP,
        home=tmp_path_factory.mktemp("amends"),
        database_url=SecretStr(url),
        temporal_address=temporal.address,
        task_queue=f"test-{uuid4().hex}",
        drain_seconds=5,
    )
    install(load_app(settings.app), url)
    async with Bench.open(settings) as bench:
        yield bench


@pytest.fixture(scope="module")
async def campaign(request: pytest.FixtureRequest, bench: Bench) -> AsyncIterator[Campaign]:
    """The cases of this module that are to be run, under way."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    mine = [item.callspec.params for item in items if item.module is request.module and hasattr(item, "callspec")]
    cases = [case for parameters in mine if isinstance(case := parameters.get("case"), Case)]
    async with Campaign(bench, request.module.SCENARIOS, cases) as campaign:
        yield campaign
