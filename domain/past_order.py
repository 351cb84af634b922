"""Orders that another system has brought to its end: taken over as history, with sums that fit."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from amends import Command, Event, Key, Money, Refused
from domain.values import NotNegativeMoney, PastMoment, PricedLine, PricedLines, ShortText, total_of

__all__ = [
    "DoesNotAddUp",
    "EndedBeforePlaced",
    "ImportOrder",
    "ImportedEnding",
    "OrderImported",
    "OrderIsImported",
    "as_it_was",
]

ImportedEnding = Literal["completed", "cancelled", "refunded"]
"""How an order has ended; refunded when everything came back."""


class OrderIsImported(Refused):
    """The order was taken over from another system, which took the money; it can only be changed there"""


class DoesNotAddUp(Refused):
    """The sums of the order don't fit each other, or how it ended"""


class EndedBeforePlaced(Refused):
    """The order ended before it was placed"""


class ImportOrder(Command, name="order.import"):
    """Take over an order that another system has brought to its end: nothing is charged, no goods move.

    Args:
        order_id: names the order, for ever.
        customer_id: who ordered.
        lines: what, how much of it, at which price (minor units).
        total: what the lines cost together, as the other system says, in minor units; None leaves it to the lines.
        status: how it ended.
        reason: why it was cancelled, for people, where that is known.
        paid: taken from the customer, in minor units: the total, or for a cancelled order what was given back.
        refunded: given back, in minor units: for a completed order the price of the goods that came back.
        placed_at: when it was placed, with its time zone.
        ended_at: when it ended.
    """

    order_id: Key
    customer_id: Key
    lines: PricedLines
    total: NotNegativeMoney | None = None
    status: ImportedEnding
    reason: ShortText | None = None
    paid: NotNegativeMoney
    refunded: NotNegativeMoney
    placed_at: PastMoment
    ended_at: PastMoment


class OrderImported(Event, name="order.imported"):
    """An order of another system has become part of our history.

    Args:
        order_id: which order.
        customer_id: who ordered.
        lines: what, how much of it, at which price (minor units).
        total: of all lines, in minor units.
        status: how it ended: completed, cancelled or refunded.
        reason: why it was cancelled, where that is known.
        paid: taken from the customer, in minor units.
        refunded: given back, in minor units; for goods that came back, unless it was cancelled.
        placed_at: when it was placed.
        ended_at: when it ended.
    """

    order_id: Key
    customer_id: Key
    lines: tuple[PricedLine, ...]
    total: Money
    status: str
    reason: str | None
    paid: Money
    refunded: Money
    placed_at: datetime
    ended_at: datetime


def as_it_was(order: ImportOrder) -> OrderImported:
    """The order as history.

    Args:
        order: what the other system says of it.

    Raises:
        DoesNotAddUp: what was taken is neither what was sold nor what was given back; names the field.
        EndedBeforePlaced: its times are the wrong way round.
    """
    total, cancelled = total_of(order.lines), order.status == "cancelled"

    def check(field: str, told: Money, fits: bool, wanted: str) -> None:
        if not fits or told.currency != total.currency:
            raise DoesNotAddUp(
                order_id=order.order_id, field=field, status=order.status, told=str(told), wanted=f"{wanted} {total}"
            )

    if order.total is not None:
        check("total", order.total, order.total == total, "the sum of the lines,")
    paid, refunded = order.paid.amount, order.refunded.amount
    if cancelled:
        check("paid", order.paid, paid <= total.amount, "at most")
        check("refunded", order.refunded, refunded == paid, f"all of {order.paid} of")
    else:
        check("paid", order.paid, paid == total.amount, "exactly")
        everything = order.status == "refunded"
        fits = refunded == total.amount if everything else refunded < total.amount
        check("refunded", order.refunded, fits, "exactly" if everything else "less than")
    if order.ended_at < order.placed_at:
        times = {"placed_at": order.placed_at.isoformat(), "ended_at": order.ended_at.isoformat()}
        raise EndedBeforePlaced(order_id=order.order_id, **times)
    return OrderImported(**dict(order) | {"total": total})
