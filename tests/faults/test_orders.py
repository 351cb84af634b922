"""Every fault at every step of an order and of a return, mounted both ways: no money leaks, and no goods."""

from __future__ import annotations

from typing import Any

import pytest

from amends.projection_workflow import start_projections
from amends.testing.faults import Bench, Campaign, Case, FaultTable, Mount, Scenario
from client import Shop
from tests.faults.orders import BY_CARD, BY_TRANSFER, HELD, RETURN
from tests.faults.shop import APP, TABLES
from tests.sagas.shopping import Market

__all__ = ["APP"]

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]  # a case may wait for its turn

MOUNTS: dict[str, tuple[Mount, ...]] = {
    BY_CARD.name: ("inline", "child"),
    HELD.name: ("as_written",),
    BY_TRANSFER.name: ("child",),  # differs from a card in the payment, whose own table is tried both ways
    RETURN.name: ("as_written",),  # nothing is mounted in it
}
SCENARIOS: list[Scenario[Any]] = [BY_CARD, HELD, BY_TRANSFER, RETURN]
CASES = [
    case
    for scenario in SCENARIOS
    for case in FaultTable.read(TABLES / f"{scenario.name}.txt").cases(MOUNTS[scenario.name], scenario.faults)
]


@pytest.mark.parametrize("mount", ["inline", "child"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_given_a_scenario_when_it_runs_dry_then_its_table_is_up_to_date(
    bench: Bench, scenario: Scenario[Any], mount: Mount
) -> None:
    await bench.verify(scenario, mount, TABLES / f"{scenario.name}.txt")


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_given_a_fault_when_the_saga_has_ended_then_nothing_leaks(campaign: Campaign, case: Case) -> None:
    await campaign.verdict(case)


async def test_given_all_these_faults_when_all_sagas_have_ended_then_the_books_of_the_shop_balance(
    bench: Bench,
) -> None:
    temporal = bench.world.client.temporal
    await start_projections(temporal, bench.app.projections, bench.settings.task_queue)
    assert bench.settings.database_url is not None
    await Market(Shop(bench.world.client), bench.settings.database_url.get_secret_value()).balances()
