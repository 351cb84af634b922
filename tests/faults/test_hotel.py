"""The hotel of the examples, tried as a stranger to the shop would try a saga of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from amends.testing.faults import Bench, Campaign, Case, Ended, FaultTable, Scenario, World
from examples.hotel import BookStay, Night, Stay

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]  # a case may wait for its turn

APP = "examples.hotel:app"


async def two_nights(world: World, key: str) -> Stay:
    return Stay(guest=key, nights=(f"{key}-1", f"{key}-2"))


async def all_or_none(ended: Ended[Stay]) -> None:
    for night in ended.request.nights:
        guest = (await ended.world.state(Night, night)).guest
        assert guest == (ended.request.guest if ended.completed else None)


SCENARIOS = [Scenario("book_stay", BookStay, two_nights, all_or_none)]
TABLE = Path(__file__).parent / "tables" / "book_stay.txt"
CASES = FaultTable.read(TABLE).cases(["as_written"], SCENARIOS[0].faults)


async def test_given_a_stay_when_it_runs_dry_then_its_table_is_up_to_date(bench: Bench) -> None:
    await bench.verify(SCENARIOS[0], "as_written", TABLE)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_given_a_fault_when_the_stay_is_settled_then_all_nights_are_booked_or_none(
    campaign: Campaign, case: Case
) -> None:
    await campaign.verdict(case)
