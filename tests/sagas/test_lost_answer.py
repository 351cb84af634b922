"""A call that was refused, and whose worker died before it could say so: the next attempt gets the same no."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from amends.command_activities import bind_activities
from amends.database import open_pool
from amends.records import Context, UndoStep
from amends.store import EventStore
from tests.sagas.given import rows
from tests.sagas.trips import Desk, Ticket

FLIGHT = Ticket(what="flight")
BY: dict[str, Any] = {"actor": "Phileas", "correlation_id": "trip", "causation_id": "trip", "workflow_id": "trip"}
UNDO = UndoStep(id="trip/undo", undoes="trip/order", title="phone flight", name="agency_test.cancel", data={})
CONTEXTS = {
    "order": Context(command_id="trip/order", step="phone flight", kind="step", undo=UNDO, **BY),
    "cancel": Context(command_id="trip/undo", step="phone flight", kind="undo", undoes="trip/order", **BY),
}
ANSWERS = "select outcome, refusal ->> 'name' from amends.commands where command_id = %s"


async def attempt(url: str, desk: Desk, verb: str, number: int) -> Any:
    """One attempt at a call, by a worker of its own: what comes of it goes to nobody else."""
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, attempt=number)
    async with open_pool(url, "writer", 1) as pool:
        offered = bind_activities(desk, EventStore(pool))
        [call] = [
            each for each in offered if activity._Definition.must_from_callable(each).name == f"agency_test.{verb}"
        ]
        return await environment.run(call, FLIGHT, CONTEXTS[verb])


@pytest.mark.parametrize(("verb", "name"), [("order", "TripFull"), ("cancel", "NotRefundable")])
async def test_given_a_refusal_whose_answer_got_lost_when_tried_again_then_it_is_the_recorded_refusal(
    database_url: str, verb: Literal["order", "cancel"], name: str
) -> None:
    # given: the agency says no once, and would say yes the next time
    desk = Desk()
    desk.will(verb, "flight", "refuse")
    with pytest.raises(ApplicationError) as lost:
        await attempt(database_url, desk, verb, 1)
    # when
    with pytest.raises(ApplicationError) as second:
        await attempt(database_url, desk, verb, 2)
    # then
    assert (second.value.type, second.value.details) == (lost.value.type, lost.value.details)
    assert second.value.non_retryable
    assert second.value.details[0].name == name
    assert len(desk.calls) == 1, "the agency is not asked again"
    assert desk.acted == []
    answer = f"{CONTEXTS[verb].command_id}/answer"
    assert await rows(database_url, ANSWERS, answer) == [("refused", name)]


async def test_given_a_success_whose_answer_got_lost_when_tried_again_then_the_agency_is_asked_under_the_same_key(
    database_url: str,
) -> None:
    desk = Desk()
    await attempt(database_url, desk, "order", 1)
    answer = await attempt(database_url, desk, "order", 2)
    assert (answer.value, answer.attempt) == ("ticket for flight", 2)
    assert [key for _, key in desk.calls] == ["trip/order", "trip/order"]
    assert desk.acted == [("order", "flight")]
