"""Movements of stock: what each changed, how much moves in a day, and for how long the rest will do."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from amends import Event, InvalidInput
from amends.testing import given
from domain.product import ProductDiscontinued
from domain.replenishment import ReplenishmentOpened
from domain.stock import (
    ReorderPointSet,
    StockCommitted,
    StockConfirmed,
    StockLapsed,
    StockReceived,
    StockReleased,
    StockReserved,
)
from read_models.inventory_levels import level_page, replenishment_page
from read_models.inventory_movements import days, inventory_days, inventory_movements, movements, moves
from read_models.inventory_report import DAYS, ReportRow, report
from tests.read_models.past import NOON, Past, added, eur

DAY = timedelta(days=1)
MAY_1 = date(2026, 5, 1)


def came(sku: str = "TEA", quantity: int = 10) -> StockReceived:
    return StockReceived(sku=sku, quantity=quantity)


def promised(id: str = "o1", sku: str = "TEA", quantity: int = 4) -> StockReserved:
    return StockReserved(sku=sku, reservation_id=id, quantity=quantity)


def left(id: str = "o1", sku: str = "TEA", quantity: int = 4) -> StockCommitted:
    return StockCommitted(sku=sku, reservation_id=id, quantity=quantity)


@pytest.mark.parametrize(
    ("event", "kind", "on_hand", "reserved"),
    [
        (promised(), "reserved", 0, 4),
        (StockConfirmed(sku="TEA", reservation_id="o1", quantity=4), "confirmed", 0, 0),
        (StockReleased(sku="TEA", reservation_id="o1", quantity=4), "released", 0, -4),
        (StockLapsed(sku="TEA", reservation_id="o1", quantity=4), "lapsed", 0, -4),
        (left(), "committed", -4, -4),
    ],
)
def test_given_goods_when_something_happens_to_a_reservation_then_it_is_a_row_that_tells_what_changed(
    event: Event, kind: str, on_hand: int, reserved: int
) -> None:
    case = given(movements, came()).when(event, recorded_at=NOON, actor="ada")
    case.then_row(
        *(moves, 2),
        sku="TEA",
        at=NOON,
        kind=kind,
        quantity=4,
        on_hand=on_hand,
        reserved=reserved,
        reservation_id="o1",
        actor="ada",
    )


def test_given_nothing_when_goods_come_in_then_they_are_on_hand_for_nobody_yet() -> None:
    case = given(movements).when(came(), recorded_at=NOON)
    case.then_row(moves, 1, kind="received", quantity=10, on_hand=10, reserved=0, reservation_id=None)
    case.then_row(days, ("TEA", MAY_1), received=10, committed=0)


def test_given_movements_when_it_is_another_day_in_the_shop_then_that_day_counts_them(in_berlin: None) -> None:
    evening = datetime(2026, 10, 25, 22, 30, tzinfo=UTC)  # a day of 25 hours is not over yet
    case = given(movements, came()).when(promised(), left(), recorded_at=evening)
    case.then_row(days, ("TEA", date(2026, 10, 25)), reserved=4, committed=4, received=0)
    case = case.when(promised("o2"), promised("o3"), recorded_at=evening + timedelta(minutes=30))
    for end in (StockReleased, StockLapsed):
        case = case.when(end(sku="TEA", reservation_id="o2", quantity=4), recorded_at=evening + timedelta(minutes=30))
    case.then_row(days, ("TEA", date(2026, 10, 26)), reserved=8, released=4, lapsed=4, committed=0)


async def test_given_movements_when_added_up_to_a_moment_then_they_are_the_level_at_that_moment(past: Past) -> None:
    past.happened(NOON, came(), promised(), promised("o2", quantity=3))
    past.happened(NOON + DAY, left(), StockLapsed(sku="TEA", reservation_id="o2", quantity=3))
    sums = "select sum(on_hand), sum(reserved), sum(available) from views.inventory_movements"
    assert await past.sql(f"{sums} where at < '2026-05-02'") == [(10, 7, 3)]
    levels = await past.sql("select on_hand, reserved, available from views.inventory_levels")
    assert await past.sql(sums) == levels == [(6, 0, 6)]


async def test_given_movements_when_asked_for_then_filters_hold_and_pages_follow_the_log(past: Past) -> None:
    past.happened(NOON, came(), came("CUP"), promised(), promised("o2", "CUP"))
    past.happened(NOON + DAY, left(), left("o2", "CUP"))

    async def told(**filters: object) -> list[int]:
        page = await past.ask(inventory_movements(**filters))  # type: ignore[arg-type]
        assert page.next is None
        return [row.position for row in page.items]

    assert await told() == [1, 2, 3, 4, 5, 6]
    assert await told(sku="TEA") == [1, 3, 5]
    assert await told(reservation_id="o2") == [4, 6]
    assert await told(kind="committed") == await told(since=NOON + DAY) == [5, 6]
    assert await told(sku="CUP", until=NOON + DAY) == [2, 4]
    page = await past.ask(inventory_movements(limit=4))
    page = await past.ask(inventory_movements(limit=4, after=page.next))
    assert [(row.kind, row.available) for row in page.items] == [("committed", 0)] * 2
    daily = await past.ask(inventory_days("TEA", first=MAY_1, last=MAY_1))
    assert [(row.day, row.received, row.reserved) for row in daily.items] == [(MAY_1, 10, 4)]
    with pytest.raises(InvalidInput, match="first: Input should be a valid date"):
        inventory_days("TEA", first=NOON)


async def test_given_levels_and_replenishments_when_asked_for_then_filters_hold(past: Past) -> None:
    past.happened(NOON, came(), came("CUP", 2), ReorderPointSet(sku="CUP", at=5, quantity=9))
    opened = [
        ReplenishmentOpened(replenishment_id=f"p{n}", sku=sku, quantity=9) for n, sku in enumerate(["CUP", "TEA"])
    ]
    past.happened(NOON + DAY, opened)
    assert [row.sku for row in (await past.ask(level_page(low=True))).items] == ["CUP"]
    assert [row.sku for row in (await past.ask(level_page(low=False))).items] == ["TEA"]
    page = await past.ask(level_page(limit=1))
    assert [row.sku for row in (await past.ask(level_page(limit=1, after=page.next))).items] == ["TEA"]
    assert [row.replenishment_id for row in (await past.ask(replenishment_page(status="open", limit=1))).items] == [
        "p0"
    ]
    assert [row.sku for row in (await past.ask(replenishment_page(sku="TEA"))).items] == ["TEA"]
    assert (await past.ask(replenishment_page(until=NOON + DAY))).items == []


# The report


async def reported(past: Past, **filters: object) -> dict[str, ReportRow]:
    return {row.sku: row for row in (await past.ask(report(**filters))).items}  # type: ignore[arg-type]


async def test_given_what_left_in_four_weeks_when_reported_then_cover_is_what_is_available_by_what_leaves_in_a_day(
    past: Past,
) -> None:
    today = datetime.now(UTC)
    past.happened(today, added("TEA", "Tea", eur(450)), came(quantity=100))
    for ago, quantity in ((DAYS, 50), (DAYS - 1, 7), (1, 14), (0, 7)):  # the first is out of the window
        id = f"o{ago}"
        past.happened(today - ago * DAY, promised(id, quantity=quantity), left(id, quantity=quantity))
    past.happened(today, promised("open", quantity=2))
    row = (await reported(past))["TEA"]
    assert (row.name, row.on_hand, row.reserved, row.available) == ("Tea", 22, 2, 20)
    assert (row.daily, row.days_of_cover) == (Decimal("1.00"), Decimal("20.0"))
    assert (row.low, row.missing, row.reorder_at) == (False, 0, 0)


async def test_given_products_when_reported_then_low_ones_tell_what_lacks_and_what_never_left_has_no_cover(
    past: Past,
) -> None:
    today = datetime.now(UTC)
    past.happened(today, added("TEA", "Tea", eur(450)), came(quantity=5), ReorderPointSet(sku="TEA", at=20, quantity=9))
    past.happened(today, ReplenishmentOpened(replenishment_id="p1", sku="TEA", quantity=9))
    past.happened(today, came("CUP"), promised("o1", "CUP"), left("o1", "CUP"), ProductDiscontinued(sku="CUP"))
    rows = await reported(past)
    tea, cup = rows["TEA"], rows["CUP"]
    assert (tea.low, tea.on_order, tea.missing, tea.daily, tea.days_of_cover) == (True, 9, 6, Decimal("0.00"), None)
    assert (cup.name, cup.discontinued, cup.low, cup.days_of_cover) == (None, True, False, Decimal("42.0"))
    assert list(await reported(past, low=True)) == list(await reported(past, discontinued=False)) == ["TEA"]
    assert list(await reported(past, low=False)) == list(await reported(past, cover_below=43)) == ["CUP"]
    assert list(await reported(past, cover_below=42)) == []
    page = await past.ask(report(limit=1))
    assert [row.sku for row in (await past.ask(report(limit=1, after=page.next))).items] == ["TEA"]
