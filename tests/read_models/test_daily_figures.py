"""Figures by day: registrations, revenue, sales by product, with what was cancelled, came late or came back."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from amends import InvalidInput
from amends.testing import given
from read_models.daily_registrations import RegistrationsRow, daily_registrations, days, registrations
from read_models.daily_revenue import RevenueRow, revenue_by_day
from read_models.sales import orders, refunds, returns, sales
from read_models.sales_by_product import best_sellers, sales_of_products
from tests.read_models.past import (
    NOON,
    Past,
    asked,
    cancelled,
    completed,
    eur,
    given_back,
    line,
    paid,
    placed,
    registered,
    return_completed,
    returned,
    sold,
    usd,
    withdrawn,
)

MAY_1, MAY_2, MAY_3 = date(2026, 5, 1), date(2026, 5, 2), date(2026, 5, 3)
DAY = timedelta(days=1)

tea = line("TEA", 2, eur(450))
cup = line("CUP", 1, eur(1250))
book = line("BOOK", 1, usd(1695))


def revenue(day: date, currency: str, orders: int, revenue: int, refunds: int, average: str | None) -> RevenueRow:
    return RevenueRow(
        day=day,
        currency=currency,
        orders=orders,
        revenue=revenue,
        refunds=refunds,
        net=revenue - refunds,
        average_order_value=None if average is None else Decimal(average),
    )


async def revenues(past: Past) -> list[RevenueRow]:
    return (await past.ask(revenue_by_day())).items


async def sales_told(past: Past) -> list[tuple[object, ...]]:
    """Day, SKU, currency, orders, units, revenue, returned units, returned amount."""
    return [tuple(row.model_dump().values()) for row in (await past.ask(sales_of_products())).items]


# Registrations


def test_given_customers_when_more_register_then_their_day_counts_them() -> None:
    case = given(registrations).when(registered("ada"), registered("bob"), recorded_at=NOON)
    case.then_row(days, MAY_1, registrations=2).then_no_row(days, MAY_2)
    case.when(registered("eve"), recorded_at=NOON + DAY).then_row(days, MAY_2, registrations=1)


def test_given_a_zone_ahead_of_utc_when_somebody_registers_after_its_midnight_then_it_is_the_next_day(
    in_berlin: None,
) -> None:
    late = datetime(2026, 3, 28, 23, 30, tzinfo=UTC)  # half past midnight, on the day that summer time begins
    case = given(registrations).when(registered("ada"), recorded_at=late)
    case.then_row(days, date(2026, 3, 29), registrations=1)
    last = datetime(2026, 3, 29, 21, 59, 59, tzinfo=UTC)
    case.when(registered("bob"), recorded_at=last).then_row(days, date(2026, 3, 29), registrations=2)
    case.when(registered("eve"), recorded_at=last + timedelta(seconds=1)).then_row(
        days, date(2026, 3, 30), registrations=1
    )


async def test_given_days_when_some_are_asked_for_then_both_ends_are_among_them(past: Past) -> None:
    for number in range(5):
        past.happened(NOON + number * DAY, registered(f"c{number}"))
    page = await past.ask(daily_registrations(first=MAY_2, last=MAY_3, limit=1))
    assert page.items == [RegistrationsRow(day=MAY_2, registrations=1)]
    page = await past.ask(daily_registrations(first=MAY_2, last=MAY_3, limit=1, after=page.next))
    assert (page.items, page.next) == ([RegistrationsRow(day=MAY_3, registrations=1)], None)
    with pytest.raises(InvalidInput, match="last: Input should be a valid date"):
        daily_registrations(last=NOON)


# What sums are made of


def test_given_an_order_when_it_is_completed_then_it_is_sold_on_that_day_and_not_when_it_was_placed() -> None:
    case = given(sales).when(placed("o1", tea, cup), recorded_at=NOON)
    case.then_row(orders, "o1", currency="EUR", total=2150, sold_on=None)
    lines = [{"sku": "TEA", "units": 2, "amount": 900}, {"sku": "CUP", "units": 1, "amount": 1250}]
    case.then_row(orders, "o1", lines=lines)
    case.when(completed("o1"), recorded_at=NOON + DAY).then_row(orders, "o1", total=2150, sold_on=MAY_2)
    case.when(cancelled("o1"), recorded_at=NOON + DAY).then_row(orders, "o1", sold_on=None)


def test_given_a_sold_order_when_goods_and_money_come_back_then_each_has_its_day() -> None:
    case = given(sales, *sold("o1", tea)).when(returned("o1", "r1", tea), recorded_at=NOON)
    case.then_row(returns, ("o1", "r1"), currency="EUR", returned_on=None)
    case.then_row(returns, ("o1", "r1"), lines=[{"sku": "TEA", "units": 2, "amount": 900}])
    case = case.when(given_back("o1", eur(900)), recorded_at=NOON + DAY)
    case.then_row(refunds, 6, order_id="o1", currency="EUR", amount=900, refunded_on=MAY_2)
    case.when(return_completed("o1", "r1", eur(900)), recorded_at=NOON + DAY).then_row(
        returns, ("o1", "r1"), returned_on=MAY_2
    )
    case.when(withdrawn("o1", "r1"), recorded_at=NOON + DAY).then_row(returns, ("o1", "r1"), returned_on=None)


# Revenue and sales


async def test_given_orders_of_one_day_when_completed_then_revenue_is_their_prices_by_currency(past: Past) -> None:
    past.happened(NOON, sold("o1", tea), sold("o2", tea, cup), sold("o3", book))
    assert await revenues(past) == [
        revenue(MAY_1, "EUR", 2, 3050, 0, "1525.00"),
        revenue(MAY_1, "USD", 1, 1695, 0, "1695.00"),
    ]
    assert await sales_told(past) == [
        (MAY_1, "BOOK", "USD", 1, 1, 1695, 0, 0),
        (MAY_1, "CUP", "EUR", 1, 1, 1250, 0, 0),
        (MAY_1, "TEA", "EUR", 2, 4, 1800, 0, 0),
    ]


async def test_given_a_cancelled_order_whose_money_was_taken_and_given_back_then_there_is_no_revenue_and_no_refund(
    past: Past,
) -> None:
    past.happened(NOON, placed("o1", tea), asked("o1", eur(900)), paid("o1", eur(900)))
    past.happened(NOON + DAY, given_back("o1", eur(900)), cancelled("o1"))
    assert await revenues(past) == []
    assert await sales_told(past) == []


async def test_given_an_order_under_way_then_it_is_no_revenue_yet_and_counts_on_the_day_it_is_confirmed_late(
    past: Past,
) -> None:
    past.happened(NOON, placed("o1", tea), asked("o1", eur(900), "transfer"))
    assert await revenues(past) == []
    past.happened(NOON + 2 * DAY, paid("o1", eur(900)), completed("o1"))
    assert await revenues(past) == [revenue(MAY_3, "EUR", 1, 900, 0, "900.00")]


async def test_given_a_sold_order_when_some_of_it_comes_back_and_then_the_rest_then_each_day_is_less_by_its_part(
    past: Past,
) -> None:
    past.happened(NOON, sold("o1", tea, cup))
    one = line("TEA", 1, eur(450))
    part = [given_back("o1", eur(450)), return_completed("o1", "r1", eur(450))]
    past.happened(NOON + DAY, returned("o1", "r1", one), part)
    rest = [given_back("o1", eur(1700)), return_completed("o1", "r2", eur(1700), everything=True)]
    past.happened(NOON + 2 * DAY, returned("o1", "r2", one, cup), rest)
    assert await revenues(past) == [
        revenue(MAY_1, "EUR", 1, 2150, 0, "2150.00"),
        revenue(MAY_2, "EUR", 0, 0, 450, None),
        revenue(MAY_3, "EUR", 0, 0, 1700, None),
    ]
    assert await sales_told(past) == [
        (MAY_1, "CUP", "EUR", 1, 1, 1250, 0, 0),
        (MAY_1, "TEA", "EUR", 1, 2, 900, 0, 0),
        (MAY_2, "TEA", "EUR", 0, 0, 0, 1, 450),
        (MAY_3, "CUP", "EUR", 0, 0, 0, 1, 1250),
        (MAY_3, "TEA", "EUR", 0, 0, 0, 1, 450),
    ]


async def test_given_a_return_when_it_is_open_or_withdrawn_then_no_piece_counts_as_returned(past: Past) -> None:
    past.happened(NOON, sold("o1", tea), returned("o1", "r1", tea))
    before = await sales_told(past)
    past.happened(NOON, withdrawn("o1", "r1"))
    assert before == await sales_told(past) == [(MAY_1, "TEA", "EUR", 1, 2, 900, 0, 0)]
    assert await revenues(past) == [revenue(MAY_1, "EUR", 1, 900, 0, "900.00")]


async def test_given_a_zone_with_summer_time_when_orders_are_near_midnight_then_they_count_on_the_day_of_the_zone(
    past: Past, in_berlin: None
) -> None:
    past.happened(datetime(2026, 10, 25, 22, 59, 56, tzinfo=UTC), sold("o1", tea))  # ends a day of 25 hours
    past.happened(datetime(2026, 10, 25, 23, 0, tzinfo=UTC), sold("o2", cup))
    sunday, monday = date(2026, 10, 25), date(2026, 10, 26)
    assert await revenues(past) == [
        revenue(sunday, "EUR", 1, 900, 0, "900.00"),
        revenue(monday, "EUR", 1, 1250, 0, "1250.00"),
    ]
    assert [row[:2] for row in await sales_told(past)] == [(sunday, "TEA"), (monday, "CUP")]


async def test_given_sales_of_days_when_asked_by_day_product_or_currency_page_by_page_then_only_these(
    past: Past,
) -> None:
    for number in range(4):
        past.happened(NOON + number * DAY, sold(f"e{number}", tea, cup), sold(f"u{number}", book))
    in_euros = await past.ask(revenue_by_day(currency="EUR", first=MAY_2, last=MAY_3))
    assert [(row.day, row.currency) for row in in_euros.items] == [(MAY_2, "EUR"), (MAY_3, "EUR")]
    pages: list[list[tuple[int, str]]] = []
    after = None
    while not pages or after:
        page = await past.ask(revenue_by_day(limit=3, after=after))
        pages.append([(row.day.day, row.currency) for row in page.items])
        after = page.next
    assert pages == [
        [(1, "EUR"), (1, "USD"), (2, "EUR")],
        [(2, "USD"), (3, "EUR"), (3, "USD")],
        [(4, "EUR"), (4, "USD")],
    ]
    teas = await past.ask(sales_of_products(sku="TEA", last=MAY_2, limit=1))
    assert [(row.day, row.units) for row in teas.items] == [(MAY_1, 2)]
    teas = await past.ask(sales_of_products(sku="TEA", last=MAY_2, limit=1, after=teas.next))
    assert ([(row.day, row.units) for row in teas.items], teas.next) == ([(MAY_2, 2)], None)
    best = await past.ask(best_sellers("EUR", first=MAY_2, last=MAY_3))
    assert [(row.sku, row.orders, row.units, row.revenue) for row in best] == [("CUP", 2, 2, 2500), ("TEA", 2, 4, 1800)]
    assert [row.sku for row in await past.ask(best_sellers("USD", limit=1))] == ["BOOK"]
    dollars = (await past.ask(sales_of_products(currency="USD"))).items
    assert {row.sku for row in dollars} == {"BOOK"}
