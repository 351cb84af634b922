"""Every fault at every step of payments, reservations, leases and replenishments, each by itself."""

from __future__ import annotations

from typing import Any

import pytest

from amends.testing.faults import Bench, Campaign, Case, FaultTable, Scenario
from tests.faults.parts import LEASE, PAYMENT_BY_CARD, PAYMENT_BY_TRANSFER, REPLENISHMENT, RESERVATION
from tests.faults.shop import APP, TABLES

__all__ = ["APP"]

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]  # a case may wait for its turn

SCENARIOS: list[Scenario[Any]] = [PAYMENT_BY_CARD, PAYMENT_BY_TRANSFER, RESERVATION, LEASE, REPLENISHMENT]
CASES = [
    case
    for scenario in SCENARIOS
    for case in FaultTable.read(TABLES / f"{scenario.name}.txt").cases(["as_written"], scenario.faults)
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_given_a_scenario_when_it_runs_dry_then_its_table_is_up_to_date(
    bench: Bench, scenario: Scenario[Any]
) -> None:
    await bench.verify(scenario, "as_written", TABLES / f"{scenario.name}.txt")


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_given_a_fault_when_the_saga_has_ended_then_nothing_leaks(campaign: Campaign, case: Case) -> None:
    await campaign.verdict(case)
