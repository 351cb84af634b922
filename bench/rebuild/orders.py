"""What becomes of orders: bought by card or transfer, paid late or not at all, called off, brought back, taken over.

A tale yields the commands it sends, and seconds that pass; it is answered with the events, or with the refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from amends import Command, Event, Money, Refused
from domain.order import Cancel, Complete, CompleteReturn, ImportOrder, Place, ReturnGoods, WithdrawReturn
from domain.past_order import ImportedEnding
from domain.payment import RecordAuthorisation, RecordFailure, RecordPayment, RecordRefund, RequestPayment
from domain.stock import CommitStock, ConfirmStock, LapseStock, ReleaseStock, ReserveStock
from domain.values import PricedLine, total_of

__all__ = ["DAY", "KINDS", "MINUTE", "Basket", "Tale"]

MINUTE, DAY = 60.0, 86400.0
"""In seconds."""

HOLD = 3
"""Days for which goods are held until a transfer must have come."""

Tale = Generator[Command | float, Sequence[Event] | Refused, None]


@dataclass(frozen=True)
class Basket:
    """An order to be.

    Args:
        number: of the order; its id is made of it.
        customer_id: whose.
        lines: what, at which price.
        at: when it is placed.
    """

    number: int
    customer_id: str
    lines: tuple[PricedLine, ...]
    at: datetime

    @property
    def id(self) -> str:
        """The order's; its payment and its reservations bear it too."""
        return f"o-{self.number}"

    @property
    def total(self) -> Money:
        """Of all lines."""
        return total_of(self.lines)


def _reserved(basket: Basket, hold: int | None = None) -> Generator[Command | float, Sequence[Event] | Refused, bool]:
    """Place the order and hold its goods; whether that went well: else it is called off."""
    yield Place(order_id=basket.id, customer_id=basket.customer_id, lines=basket.lines)
    for number, line in enumerate(basket.lines):
        said = yield ReserveStock(sku=line.sku, reservation_id=basket.id, quantity=line.quantity, hold=hold)
        if isinstance(said, Refused):
            for held in basket.lines[:number]:
                yield ReleaseStock(sku=held.sku, reservation_id=basket.id)
            yield Cancel(order_id=basket.id, reason=type(said).__name__)
            return False
    return True


def _asked(basket: Basket, method: str) -> Command:
    about = {"payment_id": basket.id, "order_id": basket.id, "customer_id": basket.customer_id}
    return RequestPayment(**about, amount=basket.total, method=method)


def _told(basket: Basket) -> dict[str, object]:
    return {"payment_id": basket.id, "amount": basket.total, "provider_ref": f"ref-{basket.number}"}


def _given_back(basket: Basket, amount: Money) -> Command:
    return RecordRefund(payment_id=basket.id, taken=basket.total, refunded=amount)


def by_card(basket: Basket) -> Tale:
    """It goes well, as most do."""
    yield from _sold_by_card(basket)


def _sold_by_card(basket: Basket) -> Generator[Command | float, Sequence[Event] | Refused, bool]:
    if not (yield from _reserved(basket)):
        return False
    yield _asked(basket, "card")
    yield 2.0
    yield RecordAuthorisation(**_told(basket))
    yield RecordPayment(**_told(basket))
    yield 20 * MINUTE
    for line in basket.lines:
        yield CommitStock(sku=line.sku, reservation_id=basket.id)
    yield Complete(order_id=basket.id)
    return True


def by_transfer(basket: Basket) -> Tale:
    """The money comes after a day or two, in time."""
    if not (yield from _reserved(basket, int(HOLD * DAY))):
        return
    yield _asked(basket, "transfer")
    yield (0.5 + basket.number % 5 * 0.4) * DAY
    yield RecordPayment(**_told(basket))
    for line in basket.lines:
        yield ConfirmStock(sku=line.sku, reservation_id=basket.id)
    yield 30 * MINUTE
    for line in basket.lines:
        yield CommitStock(sku=line.sku, reservation_id=basket.id)
    yield Complete(order_id=basket.id)


def paid_late(basket: Basket) -> Tale:
    """The goods are given up before the money comes, and the money goes back."""
    if not (yield from _reserved(basket, int(HOLD * DAY))):
        return
    yield _asked(basket, "transfer")
    yield HOLD * DAY
    for line in basket.lines:
        yield LapseStock(sku=line.sku, reservation_id=basket.id)
    yield Cancel(order_id=basket.id, reason="ReservationLapsed")
    yield 1.5 * DAY
    yield RecordPayment(**_told(basket))
    yield 5 * MINUTE
    yield _given_back(basket, basket.total)


def declined(basket: Basket) -> Tale:
    """The provider takes nothing."""
    if not (yield from _reserved(basket)):
        return
    yield _asked(basket, "card")
    yield 3.0
    yield RecordFailure(payment_id=basket.id, reason="card_declined")
    for line in reversed(basket.lines):
        yield ReleaseStock(sku=line.sku, reservation_id=basket.id)
    yield Cancel(order_id=basket.id, reason="PaymentDeclined")


def called_off(basket: Basket) -> Tale:
    """The customer thinks better of it while the money is only held."""
    if not (yield from _reserved(basket)):
        return
    yield _asked(basket, "card")
    yield RecordAuthorisation(**_told(basket))
    yield 10 * MINUTE
    nothing = Money(amount=0, currency=basket.total.currency)
    yield RecordRefund(payment_id=basket.id, taken=nothing, refunded=nothing)
    for line in reversed(basket.lines):
        yield ReleaseStock(sku=line.sku, reservation_id=basket.id)
    yield Cancel(order_id=basket.id, reason="by the customer")


def brought_back(basket: Basket) -> Tale:
    """All of it comes back at once."""
    if not (yield from _sold_by_card(basket)):
        return
    yield 9 * DAY
    yield ReturnGoods(order_id=basket.id, return_id="r-1", lines=basket.lines)
    yield 2 * MINUTE
    yield _given_back(basket, basket.total)
    yield CompleteReturn(order_id=basket.id, return_id="r-1")


def brought_back_bit_by_bit(basket: Basket) -> Tale:
    """The first line comes back, in most cases the others later."""
    if not (yield from _sold_by_card(basket)):
        return
    yield 5 * DAY
    first, others = basket.lines[:1], basket.lines[1:]
    yield ReturnGoods(order_id=basket.id, return_id="r-1", lines=first)
    yield _given_back(basket, total_of(first))
    yield CompleteReturn(order_id=basket.id, return_id="r-1")
    if others and basket.number % 3:
        yield 4 * DAY
        yield ReturnGoods(order_id=basket.id, return_id="r-2", lines=others)
        yield _given_back(basket, basket.total)
        yield CompleteReturn(order_id=basket.id, return_id="r-2")


def kept_after_all(basket: Basket) -> Tale:
    """A return is announced and withdrawn."""
    if not (yield from _sold_by_card(basket)):
        return
    yield 6 * DAY
    yield ReturnGoods(order_id=basket.id, return_id="r-1", lines=basket.lines[-1:])
    yield DAY
    yield WithdrawReturn(order_id=basket.id, return_id="r-1", reason="kept after all")


def taken_over(basket: Basket) -> Tale:
    """Another system had sold it, years before."""
    endings: tuple[ImportedEnding, ...] = ("completed", "cancelled", "refunded", "completed")
    status, nothing = endings[basket.number // 2 % len(endings)], Money(amount=0, currency=basket.total.currency)
    placed = basket.at - timedelta(days=1500 + basket.number % 365)
    yield ImportOrder(
        order_id=basket.id,
        customer_id=basket.customer_id,
        lines=basket.lines,
        total=basket.total,
        status=status,
        reason="by the customer" if status == "cancelled" else None,
        paid=nothing if status == "cancelled" else basket.total,
        refunded=basket.total if status == "refunded" else nothing,
        placed_at=placed,
        ended_at=placed + timedelta(days=2),
    )


KINDS: tuple[Callable[[Basket], Tale], ...] = (
    by_card, by_card, by_transfer, by_card, brought_back, by_card, by_card, paid_late, by_card, by_card,
    taken_over, by_card, by_card, declined, by_card, by_transfer, by_card, brought_back_bit_by_bit, by_card, by_card,
    by_card, by_transfer, by_card, called_off, by_card, by_card, kept_after_all, by_card, by_card, by_transfer,
    taken_over, by_card, paid_late, by_card, by_card, brought_back, declined, by_card, by_transfer, by_card,
)  # fmt: skip
"""What becomes of one order after the other, again and again."""
