"""A pretend provider for each test, and transfers that settle soon."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from activities import sandbox_gateway
from activities.sandbox_gateway import SandboxGateway
from activities.sandbox_ledger import install
from amends.schema import owner_engine
from tests.gateway.provider import gateway_on


@pytest.fixture
async def gateway(database_url: str) -> AsyncIterator[SandboxGateway]:
    with owner_engine(database_url).begin() as connection:
        install(connection)
    async with gateway_on(database_url) as gateway:
        yield gateway


@pytest.fixture
def settling(monkeypatch: pytest.MonkeyPatch) -> float:
    """Transfers settle sooner, so that tests need not wait a second."""
    monkeypatch.setattr(sandbox_gateway, "SETTLING_SECONDS", 0.2)
    return 0.25
