"""How many customers have registered on each day."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel
from sqlalchemy import BigInteger, Column, Date, select

from amends import Recorded
from amends.asking import PAGE, Limit, checked
from amends.changes import Rows
from amends.paging import Page, between, paged
from amends.projection import Projection
from amends.query import Query
from domain.customer import CustomerRegistered
from read_models.days import MADE_WITH, day_of

__all__ = ["RegistrationsRow", "daily_registrations", "registrations"]

registrations = Projection("daily_registrations", version=1, made_with=MADE_WITH)

days = registrations.table(
    "daily_registrations",
    Column("day", Date, primary_key=True, comment="The day, in the shop's time zone."),
    Column("registrations", BigInteger, nullable=False, default=0, comment="Customers who have registered on it."),
    comment="One row a day on which somebody has become a customer.",
)


@registrations.on(CustomerRegistered)
def registered(event: CustomerRegistered, fact: Recorded, rows: Rows) -> None:
    """Somebody has become a customer, here or in a system before this one."""
    rows(days, day_of(event.member_since or fact.recorded_at)).add(registrations=1)


class RegistrationsRow(BaseModel):
    """A day as `views.daily_registrations` shows it."""

    day: date
    registrations: int


_days = registrations.view("daily_registrations")


@checked
def daily_registrations(
    *, first: date | None = None, last: date | None = None, limit: Limit = PAGE, after: str | None = None
) -> Query[Page[RegistrationsRow]]:
    """Registrations day by day, page by page; days without any have no row.

    Args:
        first: from this day on.
        last: up to this day.
        limit: most days.
        after: a page's `next`.

    Raises:
        InvalidInput: a limit, cursor or day that can't be one; names it.
    """
    found = select(_days).where(*between(_days.c.day, first, last, names=("first", "last")))
    return paged(found, RegistrationsRow, by=[_days.c.day], limit=limit, after=after)
