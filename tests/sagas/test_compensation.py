"""The compensation of a saga that is ended itself, with an undo of its own under way."""

from __future__ import annotations

from amends.operator import Operator
from amends.sweep import start_sweep
from tests.sagas.given import Handle, until
from tests.sagas.travels import Trips, book, phone


def operator(trips: Trips) -> Operator:
    return Operator(trips.client, trips.task_queue)


async def parked(trips: Trips, handle: Handle, count: int = 1) -> list[str]:
    async def waits() -> list[str]:
        found = [step.title for step in (await operator(trips).view(handle.id)).parked]
        return found if len(found) == count else []

    return await until("it is parked", waits)


async def swept(trips: Trips, handle: Handle) -> Handle:
    async def found() -> bool:
        return handle.id in await start_sweep(trips.client, trips.task_queue)

    await until("the sweep finds it", found)
    return trips.client.get_workflow_handle(f"compensation-{handle.id}")


async def test_given_a_compensation_whose_second_undo_had_acted_when_terminated_too_then_it_does_not_act_twice(
    trips: Trips,
) -> None:
    """An undo that was refused is tried again under another id; that one too may have acted, and has to be kept."""
    # given: the saga's own undo is refused, that of its compensation acts and gets no answer
    trips.desk.will("cancel", "flight", "refuse", "act then fail for good")
    handle = await trips.start(phone("flight"), book("full cruise"))
    await parked(trips, handle)
    await handle.terminate("to see what happens")
    compensation = await swept(trips, handle)
    await trips.called("cancel flight", 2)
    await parked(trips, compensation)
    # when
    await compensation.terminate("again")
    await (await swept(trips, handle)).result()
    # then
    assert trips.desk.acted == [("order", "flight"), ("cancel", "flight")]
