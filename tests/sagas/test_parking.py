"""What can't be undone waits for a person; what people then do is checked, done once, and written down."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from amends.repair import Abandon, ParkedStep, Repair, Resolve, Retry, SagaView, Skip
from amends.visibility import SAGA_STEP, keyword
from tests.sagas.given import Handle, failed_tasks, rows, saga_status, story, until
from tests.sagas.travels import MOUNTS, WAIT, Mount, Trips, book, child, phone, sub, together, undone
from tests.sagas.trips import Stop

REPAIRS = """
select action, coalesce(step, ''), actor, reason, coalesce(done, '') from views.saga_repairs
where saga_id = %s order by number
"""
STATUS = "select status from views.saga_runs where workflow_id = %s"

WHO = {"actor": "Grace", "reason": "the agency called back"}


async def view(handle: Handle) -> SagaView:
    return SagaView.model_validate(await handle.query("saga"))


async def parked(handle: Handle, count: int = 1) -> tuple[ParkedStep, ...]:
    """Wait until so much is parked."""

    async def waits() -> tuple[ParkedStep, ...] | None:
        found = (await view(handle)).parked
        return found if len(found) == count else None

    return await until("it is parked", waits) or ()


async def repair(handle: Handle, request: Repair) -> None:
    await handle.execute_update(request.update, request)


async def refusal(handle: Handle, name: str, request: Any) -> ApplicationError:
    with pytest.raises(WorkflowUpdateFailedError) as failure:
        await handle.execute_update(name, request)
    assert isinstance(failure.value.cause, ApplicationError)
    return failure.value.cause


# Parking


@pytest.mark.parametrize("sign", ["x", "ä", "€", "😀"])
async def test_given_a_title_longer_than_a_list_takes_when_parked_and_turned_back_then_lists_show_its_beginning(
    trips: Trips, sign: str
) -> None:
    title = f"stuck {sign * 3000}"
    handle = await trips.start(phone(sign * 3000), book(title), book(f"full {sign * 3000}"))
    [step] = await parked(handle)
    assert step.title == f"book {title}"

    shown = (await handle.describe()).typed_search_attributes[SAGA_STEP]
    assert f"book {title}".startswith(shown.removesuffix("…"))
    assert 250 <= len(shown.encode()) <= 255
    await repair(handle, Skip(**WHO))
    await undone(handle)
    assert await failed_tasks(handle) == 0


def test_given_a_title_that_just_fits_when_shown_in_lists_then_it_is_not_cut() -> None:
    assert keyword("x" * 255) == "x" * 255
    assert keyword("x" * 256) == "x" * 252 + "…"


@pytest.mark.parametrize("mood", ["refuse", "fail for good"])
async def test_given_an_undo_that_fails_for_good_when_undone_then_the_others_run_and_it_needs_attention(
    trips: Trips, mood: Any
) -> None:
    trips.desk.will("cancel", "flight", mood)
    handle = await trips.start(book("hotel"), phone("flight"), book("stuck car"), book("boat"), book("full cruise"))
    first, second = await parked(handle, 2)
    assert {first.title, second.title} == {"phone flight", "book stuck car"}
    left = ["booked hotel", "booked stuck car", "booked boat", "unbooked boat", "unbooked hotel"]

    async def others_are_undone() -> bool:
        return await trips.events(handle) == left

    await until("the others are undone", others_are_undone)
    query = f"SagaStatus = 'NeedsAttention' and ExecutionStatus = 'Running' and WorkflowId = '{handle.id}'"

    async def listed() -> list[str]:
        return [found.id async for found in trips.client.list_workflows(query)]

    assert await until("the list shows it", listed) == [handle.id]
    assert (await handle.describe()).typed_search_attributes.get(SAGA_STEP) in ("phone flight", "book stuck car")
    assert await rows(trips.url, STATUS, handle.id) == [("NeedsAttention",)]
    assert (await view(handle)).reason == "TripFull"


async def test_given_an_undo_that_is_flaky_beyond_its_budget_when_undone_then_it_parks(trips: Trips) -> None:
    for _ in range(500):
        trips.desk.will("cancel", "flight", "fail")
    handle = await trips.start(Stop(kind="phone", name="flight", budget=0.2), book("full cruise"))
    [step] = await parked(handle)
    assert "no line to the agency" in step.why
    trips.desk.plan["cancel flight"].clear()
    await repair(handle, Retry(**WHO))
    await undone(handle)
    assert trips.desk.held == []
    assert len({key for call, key in trips.desk.calls if call == "cancel flight"}) == 1, "it may have acted before"


async def test_given_steps_side_by_side_whose_undos_fail_when_undone_then_every_one_is_reported(trips: Trips) -> None:
    handle = await trips.start(together(book("stuck car"), book("hotel"), book("stuck boat")), book("full cruise"))
    assert [step.title for step in await parked(handle, 2)] == ["book stuck boat", "book stuck car"]


async def test_given_an_undo_that_waits_for_the_others_when_one_is_parked_then_it_is_done_after_the_repair(
    trips: Trips,
) -> None:
    first = Stop(kind="book", name="hotel", last=True)
    handle = await trips.start(first, book("stuck car"), book("boat"), book("full cruise"))
    [step] = await parked(handle)
    assert step.title == "book stuck car"
    assert await trips.events(handle) == ["booked hotel", "booked stuck car", "booked boat", "unbooked boat"]
    await repair(handle, Skip(**WHO))
    await undone(handle)
    assert (await trips.events(handle))[-1] == "unbooked hotel"


async def test_given_a_child_that_can_not_undo_a_step_when_it_ends_then_the_parent_parks_it_and_goes_on(
    trips: Trips,
) -> None:
    handle = await trips.start(book("hotel"), child("leg", book("stuck car"), book("boat"), book("full cruise")))
    [step] = await parked(handle)
    assert step.title == "book stuck car"
    assert await saga_status(trips.client.get_workflow_handle(f"{handle.id}/leg")) == "HandedOver"

    async def rest_is_undone() -> bool:
        return (await trips.events(handle))[-2:] == ["unbooked boat", "unbooked hotel"]

    await until("the rest is undone", rest_is_undone)
    await repair(handle, Resolve(**WHO, done="paid for it"))
    assert (await undone(handle)).details[0] == "TripFull"


@pytest.mark.parametrize("mount", MOUNTS)
async def test_given_a_sub_whose_no_is_lived_with_when_its_undo_is_parked_then_the_saga_ends_after_the_repair(
    trips: Trips, mount: Mount
) -> None:
    attempt = Stop(kind="try", stops=(sub("leg", book("stuck car"), book("full cruise")),))
    handle = await trips.start(attempt, book("hotel"), mount=mount)
    await parked(handle)

    async def goes_on() -> bool:
        return "booked hotel" in await trips.events(handle)

    await until("it goes on meanwhile", goes_on)
    await repair(handle, Skip(**WHO))
    await handle.result()
    assert await saga_status(handle) == "Completed"


# Repairs


async def test_given_a_refused_undo_when_retried_then_it_is_asked_under_a_new_id_and_ends_well(trips: Trips) -> None:
    trips.desk.will("cancel", "flight", "refuse", "refuse")
    handle = await trips.start(phone("flight"), book("full cruise"))
    await parked(handle)
    await repair(handle, Retry(**WHO))

    async def parked_again() -> bool:
        return (await story(handle)).count(
            "↩ phone flight: parked: refused: What is booked stays booked (what=flight)"
        ) == 2

    await until("it is parked again", parked_again)
    assert await saga_status(handle) == "NeedsAttention"
    await repair(handle, Retry(**WHO))
    await undone(handle)
    assert trips.desk.held == []
    assert len({key for call, key in trips.desk.calls if call == "cancel flight"}) == 3
    assert await rows(trips.url, STATUS, handle.id) == [("Compensated",)]


async def test_given_a_refused_undo_when_retried_with_other_input_then_that_is_what_is_done(trips: Trips) -> None:
    handle = await trips.start(book("hotel"), book("stuck car"), book("full cruise"))
    [step] = await parked(handle)
    assert step.input == {"trip_id": handle.id, "what": "stuck car", "why": "TripFull"}
    await repair(handle, Retry(**WHO, input=step.input | {"what": "hotel"}))
    await undone(handle)
    assert await rows(trips.url, REPAIRS, handle.id) == [
        ("park", "book stuck car", "Phileas", "refused: What is booked stays booked (what=stuck car)", ""),
        ("retry", "book stuck car", "Grace", "the agency called back", ""),
    ]


async def test_given_a_parked_call_when_retried_with_other_input_then_that_is_what_is_called(trips: Trips) -> None:
    trips.desk.will("cancel", "flight", "refuse")
    handle = await trips.start(phone("flight"), book("full cruise"))
    await parked(handle)
    await repair(handle, Retry(**WHO, input={"what": "flight by another name"}))
    await undone(handle)
    assert [call for call, _ in trips.desk.calls][-1] == "cancel flight by another name"


@pytest.mark.parametrize(
    ("request_", "written"),
    [
        (Skip(**WHO), ("skip", "book stuck car", "Grace", "the agency called back", "")),
        (Resolve(**WHO, done="sold it"), ("resolve", "book stuck car", "Grace", "the agency called back", "sold it")),
    ],
)
async def test_given_a_parked_undo_when_settled_then_the_saga_ends_and_the_log_says_who_and_why(
    trips: Trips, request_: Repair, written: tuple[str, ...]
) -> None:
    handle = await trips.start(book("stuck car"), book("full cruise"))
    await parked(handle)
    await repair(handle, request_)
    await undone(handle)
    assert (await rows(trips.url, REPAIRS, handle.id))[-1] == written
    assert any("Grace" in line for line in await story(handle))


async def test_given_two_parked_undos_when_abandoned_then_the_saga_ends_and_what_waits_for_them_is_left(
    trips: Trips,
) -> None:
    first = Stop(kind="book", name="hotel", last=True)
    handle = await trips.start(first, book("stuck car"), book("stuck boat"), book("full cruise"))
    await parked(handle, 2)
    await repair(handle, Abandon(**WHO))
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    assert isinstance(failure.value.cause, ApplicationError)
    assert failure.value.cause.type == "Abandoned"
    assert await saga_status(handle) == "Abandoned"
    assert await trips.events(handle) == ["booked hotel", "booked stuck car", "booked stuck boat"]
    assert (await rows(trips.url, REPAIRS, handle.id))[-1] == ("abandon", "", "Grace", "the agency called back", "")


async def test_given_two_parked_undos_when_one_is_named_by_the_end_of_its_id_then_that_one_is_repaired(
    trips: Trips,
) -> None:
    handle = await trips.start(book("stuck car"), book("stuck boat"), book("full cruise"))
    boat, _ = await parked(handle, 2)
    error = await refusal(handle, "saga_skip", Skip(**WHO))
    assert (error.type, error.details[0]["name"]) == ("Refused", "NotParked")
    await repair(handle, Skip(**WHO, step=boat.step[-8:]))
    [left] = await parked(handle)
    assert left.title == "book stuck car"
    await repair(handle, Skip(**WHO, step=left.step))
    await undone(handle)


# After the pivot


async def test_given_a_step_refused_after_the_pivot_when_retried_with_other_input_then_the_saga_completes(
    trips: Trips,
) -> None:
    handle = await trips.start(book("hotel", pivot=True), book("full cruise"), book("car"))
    [step] = await parked(handle)
    assert (step.kind, step.title) == ("step", "book full cruise")
    assert await saga_status(handle) == "NeedsAttention"
    await repair(handle, Retry(**WHO, input={"trip_id": handle.id, "what": "cruise"}))
    await handle.result()
    assert await trips.events(handle) == ["booked hotel", "booked cruise", "booked car"]
    assert await saga_status(handle) == "Completed"


@pytest.mark.parametrize("stop", [book("full cruise"), phone("cruise")])
async def test_given_a_step_refused_after_the_pivot_when_skipped_then_the_saga_goes_on(
    trips: Trips, stop: Stop
) -> None:
    trips.desk.will("order", "cruise", "refuse")
    handle = await trips.start(book("hotel", pivot=True), stop, book("car"))
    await parked(handle)
    await repair(handle, Skip(**WHO))
    await handle.result()
    assert await trips.events(handle) == ["booked hotel", "booked car"]


@pytest.mark.parametrize("mount", MOUNTS)
async def test_given_a_step_refused_in_a_sub_after_the_pivot_when_repaired_where_it_runs_then_all_completes(
    trips: Trips, mount: Mount
) -> None:
    handle = await trips.start(book("hotel", pivot=True), sub("leg", book("full cruise")), book("car"), mount=mount)
    where = handle if mount == "inline" else trips.client.get_workflow_handle(f"{handle.id}/leg")

    async def started() -> bool:
        return any("leg" in line for line in await story(handle)) or mount == "inline"

    await until("the sub runs", started)
    await parked(where)
    await repair(where, Skip(**WHO))
    await handle.result()
    assert await trips.events(handle) == ["booked hotel", "booked car"]


# Abuse


async def test_given_a_saga_in_which_nothing_is_parked_when_repaired_then_it_is_refused_and_nothing_changes(
    trips: Trips,
) -> None:
    handle = await trips.start(book("hotel"), WAIT)
    await trips.hear(handle)
    for request in (Retry(**WHO), Skip(**WHO, step="nonsense"), Resolve(**WHO, done="it"), Abandon(**WHO)):
        error = await refusal(handle, request.update, request)
        assert error.details[0]["name"] == "NotParked"
    await handle.signal("call", "go")
    await handle.result()
    assert await rows(trips.url, REPAIRS, handle.id) == []


@pytest.mark.parametrize(
    "request_",
    [
        {"actor": "Grace"},
        {"actor": "Grace", "reason": "  "},
        {"actor": "", "reason": "because"},
        {"reason": "because"},
        {"actor": "Grace", "reason": "because", "nonsense": 1},
        {"actor": "Grace", "reason": "a NUL \x00"},
        "nonsense",
        None,
    ],
)
@pytest.mark.parametrize("name", ["saga_retry", "saga_skip", "saga_resolve", "saga_abandon"])
async def test_given_a_parked_saga_when_a_repair_says_not_who_and_why_then_it_is_refused(
    trips: Trips, name: str, request_: Any
) -> None:
    handle = await trips.start(book("stuck car"), book("full cruise"))
    await parked(handle)
    if name == "saga_resolve" and isinstance(request_, dict):
        request_ = request_ | {"done": "it"}
    await refusal(handle, name, request_)
    assert len((await view(handle)).parked) == 1
    assert [action for action, *_ in await rows(trips.url, REPAIRS, handle.id)] == ["park"]
    await repair(handle, Skip(**WHO))
    await undone(handle)


@pytest.mark.parametrize("input", [{"what": "hotel"}, "nonsense", {"trip_id": "x y", "what": "a", "why": "b"}, []])
async def test_given_a_parked_undo_when_retried_with_input_that_does_not_fit_then_it_is_refused(
    trips: Trips, input: Any
) -> None:
    handle = await trips.start(book("stuck car"), book("full cruise"))
    await parked(handle)
    error = await refusal(handle, "saga_retry", Retry(**WHO, input=input))
    assert error.type == "InvalidInput"
    await repair(handle, Skip(**WHO))
    await undone(handle)


async def test_given_two_operators_at_once_when_both_skip_then_one_is_refused_and_it_is_written_once(
    trips: Trips,
) -> None:
    handle = await trips.start(book("stuck car"), book("full cruise"))
    await parked(handle)
    both = await asyncio.gather(
        *(repair(handle, Skip(actor=actor, reason="mine")) for actor in ("Grace", "Ada")), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in both) in (
        ["NoneType", "WorkflowUpdateFailedError"],
        ["NoneType", "RPCError"],
    )
    await undone(handle)
    assert [action for action, *_ in await rows(trips.url, REPAIRS, handle.id)] == ["park", "skip"]


async def test_given_a_parked_saga_when_cancelled_by_temporal_then_it_goes_on_waiting(trips: Trips) -> None:
    handle = await trips.start(book("hotel"), book("stuck car"), book("full cruise"))
    await parked(handle)
    await trips.cancel(handle)
    assert len((await view(handle)).parked) == 1
    await repair(handle, Skip(**WHO))
    await undone(handle)
    assert (await trips.events(handle))[-1] == "unbooked hotel"
