"""What happens to an order, for those who watch it."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel
from sqlalchemy import func, select, true

from amends.asking import checked
from amends.query import Query, first
from amends.records import Position
from amends.watching import Change, Changes
from domain.stock import StockCommitted
from read_models.order_history import history

__all__ = ["OrderChange", "OrderEnd", "changes", "end_of"]

_orders = history.view("order_history")
_timeline = history.view("order_timeline")


class OrderChange(Change):
    """Something that happened to an order, as `views.order_timeline` shows it; goes on from its position.

    Args:
        order_id: the order.
        at: when it was recorded.
        event: what: the event's name.
        detail: the fact that matters, in words.
        actor: on whose behalf.
    """

    order_id: str
    at: datetime
    event: str
    detail: str | None
    actor: str


class OrderEnd(BaseModel):
    """How near its end an order is.

    Args:
        final: completed, refunded or cancelled, and nothing is being returned.
        sent: all its goods have left the shelf, or never will.
        xid, number: of the last thing that happened to it.
    """

    final: bool
    sent: bool
    xid: int
    number: int

    @property
    def last(self) -> Position:
        """Where the last thing that happened to it stands in the feed."""
        return Position(self.xid, self.number)


changes = Changes(_timeline, "order_id", OrderChange)
"""What happens to orders."""


@checked
def end_of(order_id: str) -> Query[OrderEnd | None]:
    """How near its end an order is; None when there is none."""
    mine = _timeline.c.order_id == order_id
    last = select(_timeline.c.xid, _timeline.c.position).where(mine)
    latest = last.order_by(_timeline.c.xid.desc(), _timeline.c.position.desc()).limit(1).subquery()
    sent = select(func.count()).where(mine, _timeline.c.event == StockCommitted.message_name).scalar_subquery()
    cancelled = _orders.c.status == "cancelled"
    final = _orders.c.status.in_(["completed", "refunded", "cancelled"])
    statement = select(
        (final & (_orders.c.open_returns == 0)).label("final"),
        (cancelled | (sent >= func.jsonb_array_length(_orders.c.lines))).label("sent"),
        latest.c.xid,
        latest.c.position.label("number"),
    )
    there = _orders.c.order_id == order_id, _orders.c.placed_at.is_not(None)
    return first(statement.select_from(_orders.join(latest, true())).where(*there), OrderEnd)
