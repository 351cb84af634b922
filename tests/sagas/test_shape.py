"""Stories that can't be: each fails its workflow task clearly, undoes nothing, and goes on once it is mended."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sagas.given import Handle, saga_status, until
from tests.sagas.travels import MOUNTS, Mount, Trips, book, child, phone, sub, together
from tests.sagas.trips import Stop, Travel


async def told(handle: Handle) -> str:
    """What the first workflow task that failed says."""

    async def failed() -> str:
        for event in (await handle.fetch_history()).events:
            if event.HasField("workflow_task_failed_event_attributes"):
                return event.workflow_task_failed_event_attributes.failure.message
        return ""

    return await until("a workflow task fails", failed)


def mended(stop: Stop) -> Stop:
    """A stop as its story should have been."""
    return stop.model_copy(
        update={
            "pivot": False,
            "name": stop.name.replace("/", "-") or "leg",
            "stops": tuple(mended(inner) for inner in stop.stops),
        }
    )


def deploy(patch: pytest.MonkeyPatch) -> None:
    """Let the workflow's code be mended, as a deploy does; what has run so far is the same."""
    go = Travel._go

    async def going(self: Travel, saga: Any, trip_id: str, stop: Stop) -> None:
        await go(self, saga, trip_id, mended(stop))

    patch.setattr(Travel, "_go", going)


SIDE_BY_SIDE = {
    "a command": together(book("car"), book("boat", pivot=True)),
    "a call": together(phone("car"), phone("boat", pivot=True)),
    "further in": together(book("car"), Stop(kind="try", stops=(book("boat"), book("train", pivot=True)))),
    "in a sub": together(book("car"), sub("leg", book("boat", pivot=True))),
}


@pytest.mark.parametrize("where", SIDE_BY_SIDE)
async def test_given_a_pivot_side_by_side_with_others_when_it_comes_to_it_then_the_task_fails_until_it_is_mended(
    monkeypatch: pytest.MonkeyPatch, trips: Trips, where: str
) -> None:
    handle = await trips.start(book("hotel"), SIDE_BY_SIDE[where], mount="inline")
    assert "pivot" in await told(handle)
    assert not any(event.startswith("unbooked") for event in await trips.events(handle))
    assert await saga_status(handle) == "Running"
    deploy(monkeypatch)
    await handle.result()
    assert await saga_status(handle) == "Completed"
    assert not any(event.startswith("unbooked") for event in await trips.events(handle))


@pytest.mark.parametrize("mount", MOUNTS)
async def test_given_a_pivot_in_a_mounted_process_when_it_comes_to_it_then_the_task_fails_until_it_is_mended(
    monkeypatch: pytest.MonkeyPatch, trips: Trips, mount: Mount
) -> None:
    handle = await trips.start(book("hotel"), sub("leg", book("car"), book("boat", pivot=True)), mount=mount)
    where = handle if mount == "inline" else trips.client.get_workflow_handle(f"{handle.id}/leg")

    async def there() -> bool:
        return mount == "inline" or "booked car" in await trips.events(handle)

    await until("the sub runs", there)
    assert "A mounted process has no pivot" in await told(where)
    assert await trips.events(handle) == ["booked hotel", "booked car"]
    deploy(monkeypatch)
    await handle.result()
    assert await trips.events(handle) == ["booked hotel", "booked car", "booked boat"]


@pytest.mark.parametrize("name", ["", "/", "leg/deep", "leg/"])
@pytest.mark.parametrize("mount", [sub, child], ids=["sub", "child"])
async def test_given_a_name_that_is_no_name_when_mounted_then_the_task_fails_until_it_is_mended(
    monkeypatch: pytest.MonkeyPatch, trips: Trips, mount: Any, name: str
) -> None:
    handle = await trips.start(book("hotel"), mount(name, book("car")))
    assert "needs a name without a slash" in await told(handle)
    assert await trips.events(handle) == ["booked hotel"]
    deploy(monkeypatch)
    await handle.result()
    assert await trips.events(handle) == ["booked hotel", "booked car"]
