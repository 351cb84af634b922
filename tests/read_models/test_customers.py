"""Customers: who they are, what they have ordered and spent, finding them, and that nobody else tells of them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from amends import InvalidInput
from amends.testing import given
from domain.customer import EmailChanged, LoginRecorded
from domain.product import ProductDiscontinued
from read_models.customer_orders import orders_of_customer
from read_models.customer_profile import ProfileRow, profile, profile_page, search_customers, search_page
from read_models.customers import customer, customers, members
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
)

HOUR = timedelta(hours=1)
MARKED = "Personal data."

tea, book = line("TEA", 2, eur(450)), line("BOOK", 1, usd(1695))


async def profiled(past: Past, customer_id: str = "ada") -> ProfileRow:
    row = await past.ask(profile(customer_id))
    assert row is not None
    return row


def test_given_nobody_when_somebody_registers_then_they_are_told_by_name_address_and_time() -> None:
    case = given(customers).when(registered("ada", "Ada Lövelace", "ada.l@example.org"), recorded_at=NOON)
    case.then_row(members, "ada", name="Ada Lövelace", email="ada.l@example.org", registered_at=NOON, last_login=None)
    case.then_row(members, "ada", name_words="ada lovelace", email_words="ada l example org")


def test_given_a_customer_when_mail_goes_elsewhere_then_nothing_of_the_old_address_is_left() -> None:
    case = given(customers, registered("ada")).when(EmailChanged(customer_id="ada", email="byron@example.com"))
    case.then_row(members, "ada", name="Ada Lovelace", email="byron@example.com", email_words="byron example com")
    assert "ada@example" not in str(case.rows)


def test_given_logins_when_told_out_of_order_then_the_latest_counts() -> None:
    at = [LoginRecorded(customer_id="ada", at=NOON + hours * HOUR) for hours in (1, 3, 2)]
    given(customers, registered("ada")).when(*at).then_row(members, "ada", last_login=NOON + 3 * HOUR)


# Profiles


async def test_given_a_customer_without_orders_when_looked_at_then_nothing_was_spent(past: Past) -> None:
    past.happened(NOON, registered("ada"))
    row = await profiled(past)
    assert (row.name, row.email, row.member_since) == ("Ada Lovelace", "ada@example.org", NOON)
    assert (row.total_orders, row.total_spent, row.last_login, row.last_order_at) == (0, {}, None, None)
    assert await past.ask(profile("bob")) is None
    known = await past.ask(customer("ada"))
    assert known is not None
    assert known.registered_at == NOON


async def test_given_orders_in_several_currencies_when_looked_at_then_each_is_added_up_by_itself(past: Past) -> None:
    past.happened(NOON, registered("ada"), LoginRecorded(customer_id="ada", at=NOON + HOUR), registered("bob"))
    past.happened(NOON, sold("o1", tea), sold("o2", tea), sold("o3", book), sold("o4", tea, customer="bob"))
    row = await profiled(past)
    assert (row.total_orders, row.total_spent, row.last_login) == (3, {"EUR": 1800, "USD": 1695}, NOON + HOUR)
    assert row.last_order_at == NOON + timedelta(seconds=8)
    assert (await profiled(past, "bob")).total_spent == {"EUR": 900}


async def test_given_cancelled_orders_and_orders_under_way_when_looked_at_then_they_are_not_counted(past: Past) -> None:
    past.happened(NOON, registered("ada"), placed("o1", tea), asked("o1", eur(900)), paid("o1", eur(900)))
    assert (await profiled(past)).total_orders == 0
    past.happened(NOON, placed("o2", tea), paid("o2", eur(900)), given_back("o2", eur(900)), cancelled("o2"))
    row = await profiled(past)
    assert (row.total_orders, row.total_spent) == (0, {})
    past.happened(NOON, completed("o1"))
    row = await profiled(past)
    assert (row.total_orders, row.total_spent) == (1, {"EUR": 900})


async def test_given_an_order_when_some_and_then_all_of_it_comes_back_then_less_and_nothing_was_spent(
    past: Past,
) -> None:
    past.happened(NOON, registered("ada"), sold("o1", tea))
    one = line("TEA", 1, eur(450))
    for id, everything, left in (("r1", False, 450), ("r2", True, 0)):
        back = [given_back("o1", eur(450)), return_completed("o1", id, eur(450), everything=everything)]
        past.happened(NOON, returned("o1", id, one), back)
        row = await profiled(past)
        assert (row.total_orders, row.total_spent) == (1, {"EUR": left})


async def test_given_customers_when_walked_by_pages_then_the_newest_come_first(past: Past) -> None:
    for number in range(5):
        past.happened(NOON + number * HOUR, registered(f"c{number}", email=f"c{number}@example.org"))
    page = await past.ask(profile_page(limit=3))
    rest = await past.ask(profile_page(limit=3, after=page.next))
    assert [row.customer_id for row in (*page.items, *rest.items)] == ["c4", "c3", "c2", "c1", "c0"]
    some = await past.ask(profile_page(since=NOON + HOUR, until=NOON + 3 * HOUR))
    assert [row.customer_id for row in some.items] == ["c2", "c1"]


# Orders of a customer


async def test_given_a_customers_orders_when_asked_for_then_newest_first_with_what_was_spent_on_each(
    past: Past,
) -> None:
    past.happened(NOON, sold("o1", tea, line("CUP", 3, eur(100))), sold("x", tea, customer="bob"))
    past.happened(NOON + HOUR, placed("o2", tea), paid("o2", eur(900)), given_back("o2", eur(900)), cancelled("o2"))
    past.happened(NOON + 2 * HOUR, placed("o3", book), paid("o3", usd(1695)))
    page = await past.ask(orders_of_customer("ada", limit=2))
    rest = await past.ask(orders_of_customer("ada", limit=2, after=page.next))
    told = [(row.order_id, row.status, row.currency, row.spent, row.pieces) for row in (*page.items, *rest.items)]
    assert told == [
        ("o3", "placed", "USD", 0, 1),
        ("o2", "cancelled", "EUR", 0, 2),
        ("o1", "completed", "EUR", 1200, 5),
    ]
    assert [row.order_id for row in (await past.ask(orders_of_customer("ada", status="placed"))).items] == ["o3"]
    early = await past.ask(orders_of_customer("ada", since=NOON, until=NOON + HOUR))
    assert [row.order_id for row in early.items] == ["o1"]
    with pytest.raises(InvalidInput, match="after: "):
        orders_of_customer("bob", limit=2, after=page.next)


# Finding


async def found(past: Past, words: str) -> list[str]:
    return [row.customer_id for row in (await past.ask(search_page(words))).items]


async def test_given_customers_when_searched_by_words_of_name_or_address_then_found_by_their_beginnings(
    past: Past,
) -> None:
    past.happened(NOON, registered("ada", "Ada Lovelace", "countess@analytical.example"))
    past.happened(NOON, registered("grace", "Grace Hopper", "grace.hopper@navy.example"))
    past.happened(NOON, registered("rene", "René Müller-Strauß", "rm@example.org"))
    assert (
        await found(past, "lov") == await found(past, "LOVELACE ada") == await found(past, "countess@analyt") == ["ada"]
    )
    assert (
        await found(past, "rene muller") == await found(past, "René Müller") == await found(past, "strauss") == ["rene"]
    )
    assert await found(past, "grace.hopper@navy.example") == ["grace"]
    assert set(await found(past, "example")) == {"ada", "grace", "rene"}
    assert await found(past, "ada hopper") == await found(past, "ovelace") == []
    past.happened(NOON, EmailChanged(customer_id="ada", email="ada@new.example"))
    assert await found(past, "countess") == []
    assert [row.name for row in (await search_customers(past.ask, "hopp")).items] == ["Grace Hopper"]
    page = await past.ask(search_page("example", limit=2))
    assert page.next is not None
    rest = await past.ask(search_page("example", limit=2, after=page.next))
    assert {row.customer_id for row in (*page.items, *rest.items)} == {"ada", "grace", "rene"}


# Personal data


async def test_given_everything_that_happens_to_a_customer_then_no_other_view_holds_their_name_or_address(
    past: Past,
) -> None:
    past.happened(NOON, registered("c1", "Zebedee Quux", "zebedee@quux.example"), sold("o1", tea, customer="c1"))
    past.happened(NOON, LoginRecorded(customer_id="c1", at=NOON), ProductDiscontinued(sku="TEA"))
    holders = set()
    for (view,) in await past.sql("select viewname from pg_views where schemaname = 'views'"):
        rows = str(await past.sql(f'select * from views."{view}"')).casefold()
        if "zebedee" in rows or "quux" in rows:
            holders.add(view)
    assert holders == {"customers", "customer_profile", "customer_search"}
    comments = await past.sql(
        """
        select c.relname, a.attname, col_description(c.oid, a.attnum), obj_description(c.oid)
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
        where c.relnamespace = 'views'::regnamespace
        """
    )
    marked = {(view, column) for view, column, comment, _ in comments if MARKED in comment}
    assert {view for view, _ in marked} == holders
    assert {column for view, column in marked if view == "customer_profile"} == {"name", "email"}
    assert {view for view, _, _, comment in comments if comment and "personal data" in comment} == holders
    assert "Zebedee" not in repr(await profiled(past, "c1"))
