"""What was sold of each product on each day, and what of it came back."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel
from sqlalchemy import Date, Text, func, select

from amends.asking import PAGE, Limit, checked
from amends.derived_views import DerivedView
from amends.paging import Page, between, paged
from amends.query import Query, many

__all__ = ["ProductSalesRow", "SalesRow", "best_sellers", "sales_by_product", "sales_of_products"]

sales_by_product = DerivedView(
    "sales_by_product",
    """
    select day, sku, currency, sum(orders)::bigint as orders, sum(units)::bigint as units,
           sum(revenue)::bigint as revenue, sum(returned_units)::bigint as returned_units,
           sum(returned_amount)::bigint as returned_amount
    from (
        select sale.sold_on as day, line.sku, sale.currency, 1 as orders, line.units, line.amount as revenue,
               0 as returned_units, 0 as returned_amount
        from views.sales as sale
        cross join lateral jsonb_to_recordset(sale.lines) as line (sku text, units bigint, amount bigint)
        where sale.sold_on is not null
        union all
        select back.returned_on, line.sku, back.currency, 0, 0, 0, line.units, line.amount
        from views.sales_returns as back
        cross join lateral jsonb_to_recordset(back.lines) as line (sku text, units bigint, amount bigint)
        where back.returned_on is not null
    ) as counted
    group by day, sku, currency
    """,
    comment="One row a day, product and currency in which it was sold or came back.",
    columns={
        "day": "The day, in the shop's time zone.",
        "sku": "The product.",
        "currency": "ISO 4217 currency of the amounts.",
        "orders": "Orders with it that were completed on the day; cancelled ones never count.",
        "units": "Pieces of it in these orders.",
        "revenue": "Their price, in minor units.",
        "returned_units": "Pieces of it whose return was completed on the day, whenever they were sold.",
        "returned_amount": "Their price, in minor units: what was given back for them.",
    },
    types={"day": Date(), "sku": Text(), "currency": Text()},
)


class SalesRow(BaseModel):
    """A day, product and currency as `views.sales_by_product` shows it; amounts in minor units."""

    day: date
    sku: str
    currency: str
    orders: int
    units: int
    revenue: int
    returned_units: int
    returned_amount: int


class ProductSalesRow(BaseModel):
    """What was sold of a product in some days, by currency; amounts in minor units."""

    sku: str
    currency: str
    orders: int
    units: int
    revenue: int
    returned_units: int
    returned_amount: int


_view = sales_by_product.table
_sums = [func.sum(_view.c[name]).label(name) for name in list(ProductSalesRow.model_fields)[2:]]


@checked
def sales_of_products(
    *,
    sku: str | None = None,
    currency: str | None = None,
    first: date | None = None,
    last: date | None = None,
    limit: Limit = PAGE,
    after: str | None = None,
) -> Query[Page[SalesRow]]:
    """Sales by day, product and currency, page by page.

    Args:
        sku: only this product.
        currency: only this one.
        first: from this day on.
        last: up to this day.
        limit: most rows.
        after: a page's `next`.

    Raises:
        InvalidInput: a limit, cursor or day that can't be one; names it.
    """
    found = select(_view).where(*between(_view.c.day, first, last, names=("first", "last")))
    wanted = {"sku": sku, "currency": currency}
    found = found.where(*(_view.c[name] == value for name, value in wanted.items() if value is not None))
    return paged(found, SalesRow, by=[_view.c.day, _view.c.sku, _view.c.currency], limit=limit, after=after)


@checked
def best_sellers(
    currency: str, *, first: date | None = None, last: date | None = None, limit: Limit = PAGE
) -> Query[list[ProductSalesRow]]:
    """The products that brought most revenue in some days.

    Args:
        currency: in this one.
        first: from this day on.
        last: up to this day.
        limit: so many.

    Raises:
        InvalidInput: a bound is no day; names it.
    """
    found = select(_view.c.sku, _view.c.currency, *_sums).where(_view.c.currency == currency)
    found = found.where(*between(_view.c.day, first, last, names=("first", "last")))
    found = found.group_by(_view.c.sku, _view.c.currency)
    return many(found.order_by(func.sum(_view.c.revenue).desc(), _view.c.sku).limit(limit), ProductSalesRow)
