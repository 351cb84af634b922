"""What the shop earned on each day, by currency."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from pydantic import BaseModel
from sqlalchemy import Date, Text, select

from amends.asking import PAGE, Limit, checked
from amends.derived_views import DerivedView
from amends.paging import Page, between, paged
from amends.query import Query

__all__ = ["RevenueRow", "daily_revenue", "revenue_by_day"]

daily_revenue = DerivedView(
    "daily_revenue",
    """
    select day, currency, sum(orders)::bigint as orders, sum(revenue)::bigint as revenue,
           sum(refunds)::bigint as refunds, (sum(revenue) - sum(refunds))::bigint as net,
           round(sum(revenue) / nullif(sum(orders), 0), 2) as average_order_value
    from (
        select sold_on as day, currency, 1 as orders, total as revenue, 0 as refunds
        from views.sales where sold_on is not null
        union all
        select refund.refunded_on, refund.currency, 0, 0, refund.amount
        from views.sales_refunds as refund
        join views.sales as sale on sale.order_id = refund.order_id and sale.sold_on is not null
    ) as counted
    group by day, currency
    """,
    comment="One row a day and currency in which something was sold or given back. Amounts of different currencies "
    "are never added up.",
    columns={
        "day": "The day, in the shop's time zone.",
        "currency": "ISO 4217 currency of the amounts.",
        "orders": "Orders completed on it, whenever they were placed; cancelled ones never count.",
        "revenue": "Prices of these orders, in minor units.",
        "refunds": "Money that went back on it for completed orders, whenever those were, in minor units. What was "
        "taken for an order that was cancelled, and given back, was no revenue and is no refund here.",
        "net": "Revenue less refunds, in minor units; below zero on a day on which more went back than came.",
        "average_order_value": "Revenue by order, in minor units; null on a day without orders.",
    },
    types={"day": Date(), "currency": Text()},
)


class RevenueRow(BaseModel):
    """A day and currency as `views.daily_revenue` shows it; amounts in minor units."""

    day: date
    currency: str
    orders: int
    revenue: int
    refunds: int
    net: int
    average_order_value: Decimal | None


_view = daily_revenue.table


@checked
def revenue_by_day(
    *,
    currency: str | None = None,
    first: date | None = None,
    last: date | None = None,
    limit: Limit = PAGE,
    after: str | None = None,
) -> Query[Page[RevenueRow]]:
    """Revenue day by day and by currency, page by page; days on which nothing was sold or given back have no row.

    Args:
        currency: only this one.
        first: from this day on.
        last: up to this day.
        limit: most rows.
        after: a page's `next`.

    Raises:
        InvalidInput: a limit, cursor or day that can't be one; names it.
    """
    found = select(_view).where(*between(_view.c.day, first, last, names=("first", "last")))
    if currency is not None:
        found = found.where(_view.c.currency == currency)
    return paged(found, RevenueRow, by=[_view.c.day, _view.c.currency], limit=limit, after=after)
