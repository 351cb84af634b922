"""Each oracle bites: books that keep every promise pass, and each way of breaking one is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from activities.sandbox_gateway import TestCard
from amends import Money, Position
from chaos.client_book import ClientBook, OrderEntry, PriceEntry, RefundEntry, RestockEntry
from chaos.meddling import Meddling
from chaos.oracles import check_leases, check_money, check_orders, check_runs, check_sagas, check_stock, check_views
from chaos.orders import HABITS, PRODUCTS, Habit, OrderPlan, Return
from chaos.quiesce import OpenSaga, ParkedSaga
from chaos.reading import Charge, HistoryRow, LevelRow
from domain.values import Line
from workflows.payment import PaymentMethod
from workflows.place_order import OrderOutcome
from workflows.refund_order import RefundOutcome

AT = Position(10, 5)
DECLINES = Habit(1, PaymentMethod(token=TestCard.DECLINED), completes=False)
PLAN = OrderPlan("o1", "c1", 0.0, (Line(sku="HOT-0", quantity=2),), HABITS[0], 2, None, None, ())


def completed(plan: OrderPlan = PLAN) -> OrderEntry:
    """An order that its client was told is completed; 2 × HOT-0 for 1000."""
    outcome = OrderOutcome(order_id=plan.order_id, status="completed", reason=None, position=AT)
    return OrderEntry(plan, asked_at=1.0, accepted=[AT, AT], accepted_at=2.0, outcome=outcome)


def cancelled(reason: str, **plan: Any) -> OrderEntry:
    entry = completed(replace(PLAN, **plan))
    entry.outcome = OrderOutcome(order_id="o1", status="cancelled", reason=reason, position=AT)
    return entry


def terminated() -> OrderEntry:
    entry = completed(replace(PLAN, meddling=(1.0, Meddling.TERMINATE)))
    entry.outcome, entry.meddled = None, True
    return entry


def with_return(pieces: int | None = 1, restock: bool = True) -> OrderEntry:
    """A completed order of which something came back for 500."""
    entry = completed()
    outcome = RefundOutcome(
        refund_id="r",
        order_id="o1",
        status="refunded",
        reason=None,
        amount=Money(amount=500, currency="EUR"),
        position=AT,
    )
    entry.refunds.append(RefundEntry("r", Return(pieces, restock, 1), [500], outcome))
    return entry


def book(*entries: OrderEntry) -> ClientBook:
    return ClientBook(orders={entry.order_id: entry for entry in entries})


def charged(amount: int = 1000, refunded: int = 0, status: str = "charged", id: str = "o1") -> Charge:
    return Charge(id, "EUR", amount, refunded, status)


def shelves(**on_hand: int) -> list[LevelRow]:
    """Stock as it was at first, but for these products, of which 2 pieces have gone out."""
    there = {sku: product.pieces for sku, product in PRODUCTS.items()}
    changed = {name.replace("_", "-"): pieces for name, pieces in on_hand.items()}
    return [
        LevelRow(sku=sku, on_hand=changed.get(sku, pieces), reserved=0, committed=2 if sku in changed else 0)
        for sku, pieces in there.items()
    ]


def row(status: str = "completed", endings: int = 1, **more: Any) -> HistoryRow:
    facts = {"reason": None, "open_returns": 0, "paid": 1000, "refunded": 0, "total": 1000, **more}
    return HistoryRow.model_validate({"order_id": "o1", "status": status, "endings": endings, **facts})


PIECES = PRODUCTS["HOT-0"].pieces


def test_books_that_keep_every_promise_pass() -> None:
    # given
    mine, ledger = book(completed()), [charged()]

    # then
    assert check_money(mine, ledger) == []
    assert check_stock(mine, ledger, shelves(HOT_0=PIECES - 2)) == []
    assert check_orders(mine, ledger, [row()]) == []
    assert check_sagas([], []) == []
    assert check_views({"t": [{"a": 1}, {"a": 2}]}, {"t": [{"a": 2}, {"a": 1}]}) == []


@pytest.mark.parametrize(
    ("entry", "ledger", "said"),
    [
        (completed(), [charged(), charged()], "asked for money 2 times"),
        (completed(), [], "nothing was taken"),
        (completed(), [charged(999)], "only [1000] can have been agreed"),
        (completed(), [charged(refunded=10)], "10 were given back, 0 were promised"),
        (completed(), [charged(), charged(id="o9")], "o9: the provider knows a payment that no client"),
        (with_return(), [charged()], "0 were given back, 500 were promised"),
        (cancelled("OutOfStock"), [charged()], "1000 were kept of an order that ended otherwise"),
        (cancelled("OutOfStock"), [charged(refunded=400)], "600 were kept"),
        (cancelled("OutOfStock"), [charged(status="authorised")], "still authorised"),
        (cancelled("OutOfStock"), [charged(status="pending")], "still pending"),
        (terminated(), [charged(refunded=1)], "1 were given back, 0 were promised"),
        (OrderEntry(PLAN), [charged()], "never told"),
    ],
)
def test_money_that_moved_wrongly_is_told(entry: OrderEntry, ledger: list[Charge], said: str) -> None:
    # when
    broken = check_money(book(entry), ledger)

    # then
    assert any(said in promise for promise in broken), broken


def test_an_order_may_have_got_any_price_that_was_valid_while_it_was_placed_and_no_other() -> None:
    # given
    mine = book(completed())
    mine.prices["HOT-0"] += [PriceEntry(600, sent=0.2, told=0.8), PriceEntry(700, sent=1.5, told=1.8)]
    mine.prices["HOT-0"] += [PriceEntry(800, sent=2.5, told=2.8)]

    # then
    assert check_money(mine, [charged(1200)]) == []
    assert check_money(mine, [charged(1400)]) == []
    assert check_money(mine, [charged(1000)]) != []
    assert check_money(mine, [charged(1600)]) != []


@pytest.mark.parametrize(
    ("entry", "ledger", "levels", "said"),
    [
        (completed(), [charged()], shelves(HOT_0=PIECES - 1), "pieces on hand"),
        (completed(), [charged()], shelves(HOT_0=PIECES - 4), "pieces on hand"),
        (completed(), [charged()], shelves(), "0 pieces have gone out, 2 were sold"),
        (completed(), [charged()], [], "HOT-0: not on the shelves"),
        (cancelled("OutOfStock"), [], shelves(HOT_0=PIECES - 2), "2 pieces have gone out, 0 were sold"),
        (with_return(), [charged(refunded=500)], shelves(HOT_0=PIECES - 2), f"{PIECES - 1} by count"),
        (with_return(restock=False), [charged()], shelves(HOT_0=PIECES - 1), f"{PIECES - 2} by count"),
        (with_return(pieces=None), [charged()], shelves(HOT_0=PIECES - 1), f"{PIECES} by count"),
        (terminated(), [charged()], shelves(HOT_0=PIECES), f"{PIECES - 2} by count"),
        (terminated(), [charged(refunded=1000)], shelves(HOT_0=PIECES - 2), f"{PIECES} by count"),
    ],
)
def test_goods_that_went_wrongly_are_told(
    entry: OrderEntry, ledger: list[Charge], levels: list[LevelRow], said: str
) -> None:
    # when
    broken = check_stock(book(entry), ledger, levels)

    # then
    assert any(said in promise for promise in broken), broken


def test_goods_that_are_reserved_for_nobody_are_told() -> None:
    # given
    levels = [level.model_copy(update={"reserved": 3}) for level in shelves() if level.sku == "HOT-0"]

    # then
    assert "HOT-0: 3 pieces reserved, though no order is under way" in check_stock(book(), [], levels)


def test_goods_that_came_in_are_counted_and_are_to_be_confirmed() -> None:
    # given
    mine = book()
    mine.restocks = [RestockEntry("HOT-0", 5, told=True), RestockEntry("HOT-1", 1, told=False)]

    # when
    broken = check_stock(mine, [], shelves())

    # then
    assert f"HOT-0: {PIECES} pieces on hand, {PIECES + 5} by count" in broken
    assert "HOT-1: 1 pieces came in, which nobody confirmed" in broken


def _differently() -> OrderEntry:
    entry = completed()
    entry.accepted = [AT, Position(11, 6)]
    return entry


def _told_cancelled() -> OrderEntry:
    entry = completed(replace(PLAN, cancel_after=1.0))
    entry.cancelled = True
    return entry


def _no_end() -> OrderEntry:
    entry = completed()
    entry.outcome = None
    return entry


def _troubled() -> OrderEntry:
    entry = completed()
    entry.trouble.append("KeyError: 'x'")
    return entry


def _return_without_end() -> OrderEntry:
    entry = completed()
    entry.refunds.append(RefundEntry("r", Return(1, True, 1), [500]))
    return entry


@pytest.mark.parametrize(
    ("entry", "history", "said"),
    [
        (completed(), [], "nobody can see it"),
        (completed(), [row("placed", 0)], "it has ended 0 times"),
        (completed(), [row(endings=2)], "it has ended 2 times"),
        (completed(), [row("cancelled")], "people see it cancelled"),
        (completed(), [row(open_returns=1)], "1 returns are under way"),
        (completed(), [row(), row().model_copy(update={"order_id": "o9"})], "o9: the shop shows an order"),
        (completed(replace(PLAN, habit=DECLINES)), [row()], "can't have been paid"),
        (cancelled("OutOfStock"), [row("cancelled")], "cancelled for OutOfStock, which nobody has caused"),
        (cancelled("outcome_unknown"), [row("cancelled")], "which nobody has caused"),
        (_differently(), [row()], "answered differently"),
        (_told_cancelled(), [row()], "told that it is cancelled"),
        (_no_end(), [row()], "never told its end"),
        (_troubled(), [row()], "KeyError"),
        (_return_without_end(), [row()], "the return r has no end"),
        (OrderEntry(PLAN), [], "never got an answer"),
    ],
)
def test_orders_that_ended_wrongly_are_told(entry: OrderEntry, history: list[HistoryRow], said: str) -> None:
    # when
    broken = check_orders(book(entry), [charged()], history)

    # then
    assert any(said in promise for promise in broken), broken


@pytest.mark.parametrize(
    ("entry", "status"),
    [
        (cancelled("PaymentDeclined", habit=DECLINES), "cancelled"),
        (cancelled("OutOfStock", lines=(Line(sku="SCARCE-0", quantity=1),)), "cancelled"),
        (cancelled("cancelled_by_customer", cancel_after=1.0), "cancelled"),
        (with_return(), "completed"),
        (with_return(pieces=None), "refunded"),
        (terminated(), "completed"),
    ],
)
def test_orders_that_ended_for_a_reason_pass(entry: OrderEntry, status: str) -> None:
    assert check_orders(book(entry), [charged()], [row(status)]) == []


def test_a_saga_without_an_end_is_told_unless_it_waits_for_a_person_and_says_why() -> None:
    # given
    sagas = [OpenSaga("order-1", "PlaceOrder", "Running"), OpenSaga("order-2", "PlaceOrder", "NeedsAttention")]
    sagas.append(OpenSaga("order-3", "PlaceOrder", "NeedsAttention"))

    # when
    broken = check_sagas(sagas, [ParkedSaga("order-2", ("the provider refuses",)), ParkedSaga("order-3", ())])

    # then
    assert broken == [
        "order-1: a PlaceOrder without an end, Running",
        "order-3: a PlaceOrder without an end, NeedsAttention",
    ]


@pytest.mark.parametrize(
    ("served", "said"),
    [
        ([{"a": 1}], "0 rows are wrong, 1 are missing"),
        ([{"a": 1}, {"a": 2}, {"a": 2}], "1 rows are wrong, 0 are missing"),
        ([{"a": 1}, {"a": 3}], "1 rows are wrong, 1 are missing"),
    ],
)
def test_a_view_that_differs_from_its_replay_is_told(served: list[dict[str, int]], said: str) -> None:
    assert f"t: {said}" in check_views({"t": served}, {"t": [{"a": 1}, {"a": 2}]})


def test_goods_low_that_nobody_has_ordered_are_told() -> None:
    # given
    levels = [level.model_copy(update={"on_hand": 19}) for level in shelves() if level.sku == "LOW-0"]

    # then
    assert "LOW-0: 19 pieces are too few, and nobody has ordered more" in check_stock(book(), [], levels)


@pytest.mark.parametrize(
    ("entry", "status", "holds"),
    [
        (completed(), "Completed", True),
        (completed(), "Running", False),
        (completed(), "Compensated", False),
        (cancelled("OutOfStock"), "Compensated", True),
        (cancelled("OutOfStock"), "Completed", False),
        (terminated(), "Completed", True),
    ],
)
def test_a_saga_that_people_see_otherwise_is_told(entry: OrderEntry, status: str, holds: bool) -> None:
    assert (check_runs(book(entry), [charged()], {"order-o1": status}) == []) is holds


def test_a_saga_that_nobody_sees_is_told() -> None:
    assert check_runs(book(completed()), [charged()], {}) != []


TRANSFERS = Habit(1, PaymentMethod(kind="transfer", token=TestCard.TRANSFER), completes=True)


@pytest.mark.parametrize(
    ("entry", "leases", "holds"),
    [
        (completed(replace(PLAN, habit=TRANSFERS)), {"o1": 1}, True),
        (completed(replace(PLAN, habit=TRANSFERS)), {"o1": 2}, False),
        (completed(replace(PLAN, habit=TRANSFERS)), {}, False),
        (completed(), {}, True),
        (completed(), {"o1": 1}, False),
        (cancelled("OutOfStock", habit=TRANSFERS), {}, True),
        (completed(), {"o9": 1}, False),
    ],
)
def test_leases_that_are_too_many_or_too_few_are_told(entry: OrderEntry, leases: dict[str, int], holds: bool) -> None:
    assert (check_leases(book(entry), leases) == []) is holds


def test_a_table_that_is_not_served_at_all_is_told() -> None:
    assert check_views({}, {"t": [{"a": 1}]}) != []
