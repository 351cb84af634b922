"""Giving a saga up while a child of it is under way past the pivot."""

from __future__ import annotations

from temporalio.client import RPCError

from amends.repair import Abandon
from tests.sagas.given import saga_status, until
from tests.sagas.test_giving_up import WHO, given_up, operator, parked
from tests.sagas.travels import WAIT, Trips, book, child, together


async def test_given_a_child_past_the_pivot_when_its_saga_is_abandoned_then_it_ends_at_its_next_step(
    trips: Trips,
) -> None:
    handle = await trips.start(
        book("hotel", pivot=True), together(child("leg", WAIT, book("car")), book("full cruise"))
    )
    await parked(trips, handle)
    leg = trips.client.get_workflow_handle(f"{handle.id}/leg")

    async def runs() -> bool:
        try:
            return bool(await leg.query("saga"))
        except RPCError:
            return False

    await until("the child runs", runs)
    await operator(trips).repair(handle.id, Abandon(**WHO))
    await given_up(handle)
    await leg.signal("call", "go")
    await given_up(leg)
    assert await saga_status(leg) == "Abandoned"
    assert await trips.events(handle) == ["booked hotel"]
