"""What is to be reordered: products below their reorder level, and how long what is there will last."""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel
from sqlalchemy import Boolean, Numeric, Text, select

from amends.asking import PAGE, Limit, checked
from amends.derived_views import DerivedView
from amends.paging import Page, paged
from amends.query import Query
from read_models.days import TIME_ZONE

__all__ = ["DAYS", "ReportRow", "inventory_report", "report"]

DAYS = 28
"""Over so many days, today among them, what has left is averaged: four weeks, so that each weekday counts alike."""

inventory_report = DerivedView(
    "inventory_report",
    f"""
    select levels.sku, product.name, coalesce(product.discontinued, false) as discontinued,
           levels.on_hand, levels.reserved, levels.available, levels.on_order, levels.reorder_at, levels.low,
           greatest(levels.reorder_at - levels.available - levels.on_order, 0) as missing,
           round(sold.pieces / {DAYS}.0, 2) as daily,
           round(levels.available * {DAYS}.0 / nullif(sold.pieces, 0), 1) as days_of_cover
    from views.inventory_levels as levels
    left join views.product_catalog as product on product.sku = levels.sku
    cross join lateral (
        select coalesce(sum(committed), 0) as pieces from views.inventory_days as moved
        where moved.sku = levels.sku and moved.day > (now() at time zone '{TIME_ZONE.key}')::date - {DAYS}
    ) as sold
    """,
    comment="One row a product with stock: whether it is below its reorder level, and for how long it will do.",
    columns={
        "sku": "The product.",
        "name": "What customers read; null when the product is not in the catalogue.",
        "discontinued": "No longer sold, so that nobody needs to reorder it.",
        "on_hand": "Pieces on the shelf, reserved ones included.",
        "reserved": "Pieces promised to open reservations.",
        "available": "Pieces that can still be reserved.",
        "on_order": "Pieces that a supplier is to deliver.",
        "reorder_at": "Fewest available pieces that are enough; 0 where nobody has said.",
        "low": "Whether fewer pieces are available than that.",
        "missing": "Pieces that lack up to the reorder level, those on order counted as if they were there.",
        "daily": f"Pieces that have left for completed orders in the last {DAYS} days, today among them, by day.",
        "days_of_cover": "For how many days the available pieces will do at that rate; null when none have left.",
    },
    types={"sku": Text(), "low": Boolean(), "discontinued": Boolean(), "days_of_cover": Numeric()},
)


class ReportRow(BaseModel):
    """A product's stock as `views.inventory_report` shows it, in pieces and days."""

    sku: str
    name: str | None
    discontinued: bool
    on_hand: int
    reserved: int
    available: int
    on_order: int
    reorder_at: int
    low: bool
    missing: int
    daily: Decimal
    days_of_cover: Decimal | None


_view = inventory_report.table


@checked
def report(
    *,
    low: bool | None = None,
    discontinued: bool | None = None,
    cover_below: int | None = None,
    limit: Limit = PAGE,
    after: str | None = None,
) -> Query[Page[ReportRow]]:
    """The report by product, page by page.

    Args:
        low: only products below their reorder level, or only the others.
        discontinued: only products that are no longer sold, or only the others.
        cover_below: only products that will do for fewer days than this.
        limit: most products.
        after: a page's `next`.

    Raises:
        InvalidInput: a limit or cursor that can't be one; names it.
    """
    found = select(_view)
    if low is not None:
        found = found.where(_view.c.low.is_(low))
    if discontinued is not None:
        found = found.where(_view.c.discontinued.is_(discontinued))
    if cover_below is not None:
        found = found.where(_view.c.days_of_cover < cover_below)
    return paged(found, ReportRow, by=[_view.c.sku], limit=limit, after=after)
