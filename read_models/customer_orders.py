"""What each customer has ordered, without the details of the order's own page."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel
from sqlalchemy import DateTime, Text, select

from amends.asking import PAGE, Limit, checked
from amends.derived_views import DerivedView
from amends.paging import Page, between, paged
from amends.query import Query
from read_models.order_history import OrderStatus

__all__ = ["CustomerOrderRow", "customer_orders", "orders_of_customer"]

customer_orders = DerivedView(
    "customer_orders",
    """
    select customer_id, order_id, status, reason, placed_at, ended_at, currency, total, paid, refunded,
           case when status in ('completed', 'refunded') then paid - refunded else 0 end as spent,
           (select coalesce(sum((line ->> 'quantity')::bigint), 0)::bigint from jsonb_array_elements(lines) as line)
               as pieces
    from views.order_history
    where placed_at is not null
    """,
    comment="One row an order, by the customer who placed it.",
    columns={
        "customer_id": "Who ordered.",
        "order_id": "The order.",
        "status": "placed, then completed or cancelled; refunded once all has come back.",
        "reason": "Why it was cancelled: a refusal's name, or who cancelled it.",
        "placed_at": "When it was placed.",
        "ended_at": "When it was completed or cancelled.",
        "currency": "ISO 4217 currency of all amounts.",
        "total": "Price of all lines, in minor units.",
        "paid": "Taken from the customer, in minor units.",
        "refunded": "Given back, in minor units.",
        "spent": "What the customer has spent on it, in minor units: paid less refunded once it is completed, else 0.",
        "pieces": "How many pieces were ordered.",
    },
    types={"customer_id": Text(), "order_id": Text(), "status": Text(), "placed_at": DateTime(timezone=True)},
)


class CustomerOrderRow(BaseModel):
    """An order as `views.customer_orders` shows it; amounts in minor units."""

    customer_id: str
    order_id: str
    status: OrderStatus
    reason: str | None
    placed_at: datetime
    ended_at: datetime | None
    currency: str
    total: int
    paid: int
    refunded: int
    spent: int
    pieces: int


_view = customer_orders.table


@checked
def orders_of_customer(
    customer_id: str,
    *,
    status: OrderStatus | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: Limit = PAGE,
    after: str | None = None,
) -> Query[Page[CustomerOrderRow]]:
    """A customer's orders, newest first, page by page.

    Args:
        customer_id: whose.
        status: in which state.
        since: placed then or later.
        until: placed before.
        limit: most orders.
        after: a page's `next`.

    Raises:
        InvalidInput: a limit, cursor or time that can't be one; names it.
    """
    found = select(_view).where(_view.c.customer_id == customer_id, *between(_view.c.placed_at, since, until))
    if status is not None:
        found = found.where(_view.c.status == status)
    by = (_view.c.placed_at, _view.c.order_id)
    return paged(found, CustomerOrderRow, by=by, descending=True, limit=limit, after=after)
