"""Leases: goods that nobody confirms in time go back by themselves, and who comes too late is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from temporalio import workflow
from temporalio.client import RPCError, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCStatusCode

from amends import Process
from amends.embedded import EmbeddedTemporal
from app import app as shop_app
from domain.stock import CommitStock, ConfirmStock, ReleaseStock, ReservationLapsed
from domain.values import Line
from tests.sagas.given import Handle, replays, rows, saga_status, until
from tests.sagas.shopping import name
from tests.sagas.stockroom import Stockroom, open_stockroom
from workflows.inventory_reservation import InventoryReservation, Reservation, confirm_reservation
from workflows.lease import Lease, ReservationLease

HOUR = 3600
UNDONE_BY = "select name from amends.events where correlation_id = %s order by xid, position"


@workflow.defn(name="lease_test.checkout")
class Checkout(Process[Reservation, None]):
    """An order as far as leases go: reserve, wait for the money, confirm, hand out."""

    def __init__(self) -> None:
        super().__init__()
        self._paid = False

    @workflow.run
    async def run(self, request: Reservation) -> None:
        async with self.saga as saga:
            await saga.sub("reservation", InventoryReservation, request)
            await saga.wait("wait for the money", lambda: self._paid, timeout=timedelta(days=30))
            await confirm_reservation(saga, request)
            commits = [CommitStock(sku=line.sku, reservation_id=request.reservation_id) for line in request.lines]
            await saga.all(*(saga.do("hand out", commit) for commit in commits))

    @workflow.signal
    def paid(self) -> None:
        self._paid = True


app = replace(shop_app, workflows=[*shop_app.workflows, Checkout])


@pytest.fixture(scope="module")
async def room(
    postgres_url: str, template: str, temporal: EmbeddedTemporal, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stockroom]:
    """A shop of this module."""
    async with open_stockroom(app, postgres_url, template, temporal, tmp_path_factory.mktemp("amends")) as room:
        yield room


async def over(room: Stockroom, lease: Handle) -> None:
    """Let the time of a lease pass, and wait for its end."""
    await room.skip(lease)
    await lease.result()


async def test_given_a_reservation_with_a_hold_when_nobody_confirms_it_then_it_lapses_by_itself(
    room: Stockroom,
) -> None:
    sku = await room.product()
    await room.reserve(sku, 4, hold=HOUR)
    assert (await room.level(sku)).available == 6
    [lease] = await room.leases(sku)
    assert await saga_status(lease) == "Running"
    await over(room, lease)
    assert await room.happened(sku) == ["stock.reserved", "stock.lapsed"]

    async def back() -> bool:
        level = await room.level(sku)
        return (level.reserved, level.available) == (0, 10)

    await until("the goods", back)
    started = (await lease.describe()).start_time
    assert await room.clock(lease) - started >= timedelta(seconds=HOUR - 30)
    assert await saga_status(lease) == "Completed"
    await replays([lease], app.workflows)


async def test_given_a_hold_that_was_over_before_anybody_could_react_then_the_reservation_lapses_at_once(
    room: Stockroom,
) -> None:
    sku = await room.product()
    id = await room.reserve(sku, 4, hold=HOUR)
    lease = Lease(sku=sku, reservation_id=id, until=datetime.now(UTC) - timedelta(minutes=1))
    temporal = room.shop.client.temporal
    await temporal.execute_workflow(
        ReservationLease.run, lease, id=name("lease"), task_queue=room.shop.client.settings.task_queue
    )
    assert await room.happened(sku) == ["stock.reserved", "stock.lapsed"]
    [other] = await room.leases(sku)
    await over(room, other)


async def test_given_a_reservation_without_a_hold_then_it_has_no_lease(room: Stockroom) -> None:
    sku = await room.product()
    await room.reserve(sku, 4)
    [lease] = await room.leases(sku)
    with pytest.raises(RPCError) as missing:
        await lease.describe()
    assert missing.value.status == RPCStatusCode.NOT_FOUND


async def test_given_a_hold_that_is_not_over_then_the_goods_stay_reserved(room: Stockroom) -> None:
    sku = await room.product()
    id = await room.reserve(sku, 4, hold=HOUR)
    [lease] = await room.leases(sku)
    await room.skip(lease, timedelta(minutes=55))
    assert await room.happened(sku) == ["stock.reserved"]
    await room.shop.execute(ConfirmStock(sku=sku, reservation_id=id))
    await over(room, lease)


@pytest.mark.parametrize(
    ("end", "left"), [(ConfirmStock, (10, 4, 6)), (ReleaseStock, (10, 0, 10)), (CommitStock, (6, 0, 6))]
)
async def test_given_a_lease_that_was_confirmed_or_has_ended_when_its_time_is_over_then_nothing_happens(
    room: Stockroom, end: type[ConfirmStock | ReleaseStock | CommitStock], left: tuple[int, int, int]
) -> None:
    sku = await room.product()
    id = await room.reserve(sku, 4, hold=HOUR)
    await room.shop.execute(end(sku=sku, reservation_id=id))
    before = await room.happened(sku)
    [lease] = await room.leases(sku)
    await over(room, lease)
    assert await room.happened(sku) == before
    level = await room.level(sku)
    assert (level.on_hand, level.reserved, level.available) == left
    assert await saga_status(lease) == "Completed"


@pytest.mark.parametrize("late", [ConfirmStock, CommitStock])
async def test_given_a_lapsed_reservation_when_confirmed_or_handed_out_then_refused_as_lapsed(
    room: Stockroom, late: type[ConfirmStock | CommitStock]
) -> None:
    sku = await room.product()
    id = await room.reserve(sku, 4, hold=HOUR)
    [lease] = await room.leases(sku)
    await over(room, lease)
    with pytest.raises(ReservationLapsed) as refusal:
        await room.shop.execute(late(sku=sku, reservation_id=id))
    assert refusal.value.facts == {"sku": sku, "reservation_id": id}
    assert (await room.level(sku)).available == 10


async def checkout(room: Stockroom, lines: list[Line]) -> Handle:
    """An order that has its goods for an hour and waits for the money."""
    id = name("order")
    reservation = Reservation(reservation_id=id, lines=tuple(lines), hold=HOUR)
    temporal = room.shop.client.temporal
    handle = await temporal.start_workflow(
        Checkout.run, reservation, id=f"checkout-{id}", task_queue=room.shop.client.settings.task_queue
    )

    async def reserved() -> bool:
        return all([(await room.happened(line.sku))[:1] == ["stock.reserved"] for line in lines])

    await until("the goods", reserved)
    for line in lines:
        [lease] = await room.leases(line.sku)
        await until("the lease", lambda lease=lease: exists(lease))  # type: ignore[misc]
    return handle


async def exists(handle: Handle) -> bool:
    try:
        await handle.describe()
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
        return False
    return True


async def test_given_an_order_that_is_paid_in_time_when_the_leases_end_later_then_its_goods_went_out(
    room: Stockroom,
) -> None:
    lines = await room.lines(2, 3)
    order = await checkout(room, lines)
    await order.signal(Checkout.paid)
    await order.result()
    for line in lines:
        [lease] = await room.leases(line.sku)
        await over(room, lease)
        assert await room.happened(line.sku) == ["stock.reserved", "stock.confirmed", "stock.committed"]
    await room.nothing_reserved(lines)
    await replays([order], app.workflows)


async def test_given_an_order_of_which_a_line_has_lapsed_when_paid_too_late_then_refused_and_undone(
    room: Stockroom,
) -> None:
    lines = await room.lines(2, 3)
    order = await checkout(room, lines)
    [lease] = await room.leases(lines[0].sku)
    await over(room, lease)
    await order.signal(Checkout.paid)
    with pytest.raises(WorkflowFailureError) as failure:
        await order.result()
    cause = failure.value.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.details[0]) == ("SagaUndone", "ReservationLapsed")
    assert await saga_status(order) == "Compensated"
    assert await room.happened(lines[0].sku) == ["stock.reserved", "stock.lapsed"]
    assert await room.happened(lines[1].sku) == ["stock.reserved", "stock.confirmed", "stock.released"]
    [other] = await room.leases(lines[1].sku)
    await over(room, other)
    for line in lines:
        assert (await room.level(line.sku)).available == 10
    await room.nothing_reserved(lines)
    await replays([order, lease, other], app.workflows)


async def test_given_a_lease_then_its_lapse_names_the_reservation_as_its_cause(room: Stockroom) -> None:
    sku = await room.product()
    await room.reserve(sku, 4, hold=1)
    [lease] = await room.leases(sku)
    await over(room, lease)
    [cause] = await rows(room.url, "select causation_id, actor from amends.events where correlation_id = %s", lease.id)
    assert cause == (lease.id.removeprefix("leasing-"), "process-manager:leasing")
