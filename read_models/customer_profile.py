"""Customers with what they have ordered, and finding them by name or e-mail address."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy import DateTime, Text, select

from amends.asking import PAGE, AnyText, Limit, checked
from amends.derived_views import DerivedView
from amends.paging import Page, between, paged
from amends.query import Query, first
from read_models.searching import NO_TYPOS, matching, typos_forgiven

__all__ = [
    "FoundCustomer",
    "ProfileRow",
    "customer_profile",
    "customer_search",
    "profile",
    "profile_page",
    "search_customers",
    "search_page",
]

customer_profile = DerivedView(
    "customer_profile",
    """
    select known.customer_id, known.name, known.email, known.registered_at as member_since, known.last_login,
           sold.orders as total_orders, sold.spent as total_spent, sold.latest as last_order_at
    from views.customers as known
    cross join lateral (
        select coalesce(sum(orders), 0)::bigint as orders, max(latest) as latest,
               coalesce(jsonb_object_agg(currency, spent), '{}') as spent
        from (
            select currency, count(*) as orders, sum(spent)::bigint as spent, max(placed_at) as latest
            from views.customer_orders as ordered
            where ordered.customer_id = known.customer_id and status in ('completed', 'refunded')
            group by currency
        ) as by_currency
    ) as sold
    """,
    comment="One row a registered customer: who, since when, how much was ordered and spent. Holds personal data.",
    columns={
        "customer_id": "The customer.",
        "name": "What the customer is called. Personal data.",
        "email": "Where mail goes. Personal data.",
        "member_since": "When the customer registered.",
        "last_login": "When the customer last logged in; null if never.",
        "total_orders": "Orders that were completed, those that came back among them; none cancelled or under way.",
        "total_spent": "Spent on these orders by currency, as JSON, in minor units, less what was given back: "
        '{"EUR": 1250}. Currencies are never added up.',
        "last_order_at": "When the latest of these orders was placed; null if there is none.",
    },
    types={"customer_id": Text(), "member_since": DateTime(timezone=True)},
)

customer_search = DerivedView(
    "customer_search",
    """
    select customer_id, name, email, registered_at as member_since, last_login, words, document
    from views.customers
    """,
    comment="One row a registered customer, to be found by name or e-mail address. Holds personal data.",
    columns={
        "customer_id": "The customer.",
        "name": "What the customer is called. Personal data.",
        "email": "Where mail goes. Personal data.",
        "member_since": "When the customer registered.",
        "last_login": "When the customer last logged in; null if never.",
        "words": "Name and e-mail address as searches see them: small letters and digits, no accents. Personal data.",
        "document": "What full-text searches find the customer by: document @@ to_tsquery('simple', 'ada:*'). "
        "Personal data.",
    },
    types={"customer_id": Text(), "words": Text()},
)


class ProfileRow(BaseModel):
    """A customer as `views.customer_profile` shows them, personal data among it; money in minor units by currency."""

    customer_id: str
    name: str = Field(repr=False)
    email: str = Field(repr=False)
    member_since: datetime
    last_login: datetime | None
    total_orders: int
    total_spent: dict[str, int]
    last_order_at: datetime | None


class FoundCustomer(BaseModel):
    """A customer as `views.customer_search` shows them, and how well they fit: more is better. Personal data."""

    customer_id: str
    name: str = Field(repr=False)
    email: str = Field(repr=False)
    member_since: datetime
    last_login: datetime | None
    rank: float


_profile = customer_profile.table
_search = customer_search.table
_shown = [_search.c[name] for name in FoundCustomer.model_fields if name != "rank"]


@checked
def profile(customer_id: str) -> Query[ProfileRow | None]:
    """One customer's profile."""
    return first(select(_profile).where(_profile.c.customer_id == customer_id), ProfileRow)


@checked
def profile_page(
    *, since: datetime | None = None, until: datetime | None = None, limit: Limit = PAGE, after: str | None = None
) -> Query[Page[ProfileRow]]:
    """Profiles by when the customers registered, newest first, page by page.

    Args:
        since: registered then or later.
        until: registered before.
        limit: most customers.
        after: a page's `next`.

    Raises:
        InvalidInput: a limit, cursor or time that can't be one; names it.
    """
    found = select(_profile).where(*between(_profile.c.member_since, since, until))
    by = (_profile.c.member_since, _profile.c.customer_id)
    return paged(found, ProfileRow, by=by, descending=True, limit=limit, after=after)


@checked
def search_page(
    words: AnyText, *, typos: bool = False, limit: Limit = PAGE, after: str | None = None
) -> Query[Page[FoundCustomer]]:
    """Customers by words of name and e-mail address, those that fit best first, page by page.

    Args:
        words: what somebody has typed, beginnings of words will do; any text can be asked for, though not found.
        typos: forgive them, in a database that can; `search_customers` finds that out.
        limit: most customers.
        after: a page's `next`.

    Raises:
        InvalidInput: a limit or cursor that can't be one; names it.
    """
    fits, rank = matching(words, _search.c.document, _search.c.words, typos=typos)
    rank = rank.label("rank")
    by = (rank, _search.c.customer_id)
    page = paged(select(*_shown, rank).where(fits), FoundCustomer, by=by, descending=True, limit=limit, after=after)
    return replace(page, refused=NO_TYPOS)


async def search_customers(
    ask: Callable[[Query[Any]], Awaitable[Any]], words: AnyText, *, limit: Limit = PAGE, after: str | None = None
) -> Page[FoundCustomer]:
    """Customers by words, typos forgiven where the database can; see `search_page`.

    Args:
        ask: answers queries.
        words: what somebody has typed.
        limit: most customers.
        after: a page's `next`.

    Raises:
        InvalidInput: a limit or cursor that can't be one; names it.
    """
    typos = await ask(typos_forgiven())
    found: Page[FoundCustomer] = await ask(search_page(words, typos=typos, limit=limit, after=after))
    return found
