"""The harness finds what it is there to find: sagas that are wrong in one way each are caught, and told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from amends.testing.faults import Bench, Campaign, Case, Ended, Fault, FaultTable, Scenario, World
from amends.testing.faults.points import Step
from tests.faults.leaky import APP, Cloakroom, Forgetful, Greedy, Guest, Hasty, Stubborn

__all__ = ["APP"]

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]  # a case may wait for its turn

STEPS = (Step("leaky_test.take:*", "command", undo="leaky_test.give"), Step("leaky_test.take:*-2", "command"))
FIRST, SECOND = (step.where for step in STEPS)


async def coat(world: World, key: str) -> Guest:
    return Guest(room=key, coat=key)


async def nothing_hangs_there(ended: Ended[Guest]) -> None:
    for room in (ended.request.room, f"{ended.request.room}-2"):
        coats = (await ended.world.state(Cloakroom, room)).coats
        assert coats == ((ended.request.coat,) if ended.completed else ()), f"{coats} hang in {room}"


def scenario(process: type[Any]) -> Scenario[Guest]:
    return Scenario(process.__name__.lower(), process, coat, nothing_hangs_there)


def case(process: type[Any], what: str, fault: Fault) -> Case:
    cases = FaultTable(scenario(process).name, STEPS).cases(["as_written"])
    [found] = [each for each in cases if str(each.point) == what and each.fault is fault]
    return found


@pytest.mark.parametrize(
    ("process", "what", "fault", "found"),
    [
        (Hasty, FIRST, Fault.ACTS_LATE, None),  # what comes late is refused, for its saga has turned back
        (Hasty, FIRST, Fault.ACTS_AND_HANGS, None),
        (Forgetful, SECOND, Fault.REFUSED, "hang in"),
        (Forgetful, FIRST, Fault.REFUSED, None),
        (Stubborn, SECOND, Fault.REFUSED, "an undo can't be done twice: .*That coat is not here"),
        (Greedy, SECOND, Fault.REFUSED, "an undo that was done a second time led to leaky_test.given"),
        (Greedy, SECOND, Fault.TWICE, None),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
async def test_given_a_saga_that_is_wrong_when_it_is_tried_then_that_is_found_and_nothing_else(
    bench: Bench, process: type[Any], what: str, fault: Fault, found: str | None
) -> None:
    trying = bench.run(scenario(process), case(process, what, fault))
    if found is None:
        await trying
    else:
        with pytest.raises(AssertionError, match=found):
            await trying


@pytest.mark.parametrize("fault", [Fault.KILLED_AFTER, Fault.TERMINATED_AFTER])
async def test_given_a_saga_that_is_wrong_when_it_loses_its_worker_or_is_terminated_then_that_is_found(
    bench: Bench, fault: Fault
) -> None:
    lost = case(Forgetful, f"undo of {FIRST}", fault)
    async with Campaign(bench, [scenario(Forgetful)], [lost]) as campaign:
        with pytest.raises(AssertionError, match=f"it has never come to undo of {FIRST}|hang in"):
            await campaign.verdict(lost)


async def test_given_steps_when_they_run_dry_then_the_table_tells_the_undos_apart(bench: Bench) -> None:
    seen = await bench.record(scenario(Hasty), "as_written")
    assert [str(step) for step in seen.steps] == [
        "command  leaky_test.take:* (undone by leaky_test.give)",
        "command  leaky_test.take:*-2 (undone by leaky_test.give)",
    ]


# Tables


def test_given_a_table_when_written_and_read_then_it_is_the_same(tmp_path: Path) -> None:
    steps = (
        Step("catalogue.price", "call"),
        Step("pay/charge:*-1@2", "call", undo="pay.refund", inside=True, asked=True),
        Step("order.place:*", "command", pivot=True),
    )
    path = tmp_path / "new" / "order.txt"
    FaultTable("order", steps).write(path)
    assert FaultTable.read(path) == FaultTable("order", steps)


def test_given_no_table_when_verified_then_it_is_written_and_has_to_be_looked_at(tmp_path: Path) -> None:
    path, table = tmp_path / "stay.txt", FaultTable("stay", STEPS)
    assert FaultTable.read(path).cases(["as_written"]) == []
    with pytest.raises(AssertionError, match="was missing and is written now"):
        table.verify(path)
    table.verify(path)


def test_given_a_new_step_when_its_table_is_verified_then_told_which(tmp_path: Path) -> None:
    path = tmp_path / "stay.txt"
    FaultTable("stay", STEPS[:1]).write(path)
    with pytest.raises(AssertionError, match=r"\+ command  leaky_test\.take:\*-2"):
        FaultTable("stay", STEPS).verify(path)


def test_given_a_line_that_is_no_step_when_read_then_told(tmp_path: Path) -> None:
    path = tmp_path / "stay.txt"
    path.write_text("# fine\n\nperhaps  night.book\n")
    with pytest.raises(ValueError, match="no step of a fault table: perhaps"):
        FaultTable.read(path)


def test_given_steps_when_asked_for_cases_then_every_fault_is_at_every_step_undo_question_and_at_the_end() -> None:
    steps = (Step("a/b", "call", undo="c", inside=True, asked=True), Step("d", "command", pivot=True))
    cases = FaultTable("trip", steps).cases(["inline", "child"])
    places = {f"{each.point}{' within a' if each.within else ''}" for each in cases}
    assert places == {"a/b", "a/b/ask", "d", "undo of a/b", "undo of a/b within a", "saga.close"}
    assert len({str(each) for each in cases}) == len(cases) == 2 * (6 * len(Fault) - 1)  # an end is not refused
