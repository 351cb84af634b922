"""Stock: never more promised than there is, a reservation id works once, and running low is told once."""

from time import perf_counter
from typing import Any

import pytest
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st

from amends import Claim, Event, InvalidInput
from amends.testing import given
from domain.stock import (
    LAPSED_REMEMBERED,
    MAX_ON_HAND,
    CommitStock,
    ConfirmStock,
    LapseStock,
    OutOfStock,
    ReceiveStock,
    ReleaseStock,
    ReorderPointSet,
    ReservationDiffers,
    ReservationEnded,
    ReservationLapsed,
    ReservationNotOpen,
    ReserveStock,
    SetReorderPoint,
    ShelfFull,
    StockCommand,
    StockCommitted,
    StockConfirmed,
    StockEvent,
    StockItem,
    StockLapsed,
    StockRanLow,
    StockReceived,
    StockReleased,
    StockReserved,
)

ended = ReservationEnded(sku="tea", reservation_id="r1")
claimed = Claim("stock.reservation", "tea/r1", ended)
tombstone = Claim("stock.reservation", "tea/r1", None)

received = StockReceived(sku="tea", quantity=10)
reserve = ReserveStock(sku="tea", reservation_id="r1", quantity=4)
reserved = StockReserved(sku="tea", reservation_id="r1", quantity=4)
release = ReleaseStock(sku="tea", reservation_id="r1")
released = StockReleased(sku="tea", reservation_id="r1", quantity=4)
commit = CommitStock(sku="tea", reservation_id="r1")
committed = StockCommitted(sku="tea", reservation_id="r1", quantity=4)

lease = ReserveStock(sku="tea", reservation_id="r1", quantity=4, hold=60)
leased = StockReserved(sku="tea", reservation_id="r1", quantity=4, hold=60)
confirm = ConfirmStock(sku="tea", reservation_id="r1")
confirmed = StockConfirmed(sku="tea", reservation_id="r1", quantity=4)
lapse = LapseStock(sku="tea", reservation_id="r1")
lapsed = StockLapsed(sku="tea", reservation_id="r1", quantity=4)

point = ReorderPointSet(sku="tea", at=5, quantity=50)


def test_goods_come_in() -> None:
    case = given(StockItem).when(ReceiveStock(sku="tea", quantity=10)).then(received).then_claims()
    assert case.state.available == 10


def test_the_shelf_has_an_end() -> None:
    nearly = StockReceived(sku="tea", quantity=MAX_ON_HAND - 1)
    case = given(StockItem, nearly).when(ReceiveStock(sku="tea", quantity=1))
    case.then(StockReceived(sku="tea", quantity=1))
    facts = {"sku": "tea", "on_hand": MAX_ON_HAND, "quantity": 1, "limit": MAX_ON_HAND}
    case.when(ReceiveStock(sku="tea", quantity=1)).then_refused(ShelfFull, **facts)


def test_a_reservation_holds_goods_back_and_claims_its_id() -> None:
    case = given(StockItem, received).when(reserve).then(reserved).then_claims(claimed)
    assert (case.state.on_hand, case.state.reserved, case.state.available) == (10, 4, 6)


def test_everything_available_can_be_reserved_but_not_a_piece_more() -> None:
    rest = ReserveStock(sku="tea", reservation_id="r2", quantity=6)
    more = ReserveStock(sku="tea", reservation_id="r2", quantity=7)
    given(StockItem, received, reserved).when(rest).then(StockReserved(sku="tea", reservation_id="r2", quantity=6))
    given(StockItem, received, reserved).when(more).then_refused(OutOfStock, sku="tea", wanted=7, available=6)


def test_what_never_came_in_is_out_of_stock() -> None:
    given(StockItem).when(reserve).then_refused(OutOfStock, sku="tea", wanted=4, available=0)


def test_the_same_reservation_again_is_no_second_one() -> None:
    given(StockItem, received, reserved).when(reserve).then_nothing()


def test_the_same_reservation_with_another_quantity_is_refused() -> None:
    other = ReserveStock(sku="tea", reservation_id="r1", quantity=5)
    facts = {"sku": "tea", "reservation_id": "r1", "wanted": 5, "reserved": 4}
    given(StockItem, received, reserved).when(other).then_refused(ReservationDiffers, **facts)


def test_released_goods_are_available_again() -> None:
    case = given(StockItem, received, reserved).when(release).then(released).then_claims()
    assert (case.state.on_hand, case.state.available, case.state.open) == (10, 10, {})


def test_committed_goods_leave_the_shelf() -> None:
    case = given(StockItem, received, reserved).when(commit).then(committed).then_claims()
    assert (case.state.on_hand, case.state.available, case.state.open) == (6, 6, {})


@pytest.mark.parametrize("end", [release, commit])
def test_an_ended_reservation_does_not_come_back(end: ReleaseStock | CommitStock) -> None:
    case = given(StockItem, received).when_each(reserve, end, reserve)
    case.then_refused(ReservationEnded, sku="tea", reservation_id="r1")


def test_a_release_that_comes_first_leaves_a_tombstone() -> None:
    given(StockItem).when(release).then().then_claims(tombstone)
    case = given(StockItem, received).when(release).then().then_claims(tombstone)
    case.when(reserve).then_refused(ReservationEnded, sku="tea", reservation_id="r1")


@pytest.mark.parametrize("end", [release, commit])
def test_a_release_of_what_has_ended_changes_nothing(end: ReleaseStock | CommitStock) -> None:
    before = given(StockItem, received).when_each(reserve, end)
    after = before.when(release).then().then_claims(tombstone)
    assert after.state == before.state


@pytest.mark.parametrize("events", [[], [received], [received, reserved, released], [received, reserved, committed]])
def test_only_an_open_reservation_is_committed(events: list[StockEvent]) -> None:
    given(StockItem, *events).when(commit).then_refused(ReservationNotOpen, sku="tea", reservation_id="r1")


def test_reservations_end_one_by_one() -> None:
    other = StockReserved(sku="tea", reservation_id="r2", quantity=3)
    case = given(StockItem, received, reserved, other).when(release).then(released)
    assert case.state.open == {"r2": 3}
    assert case.state.available == 7


# Leases


def test_a_reservation_with_a_hold_tells_for_how_long_it_is() -> None:
    case = given(StockItem, received).when(lease).then(leased).then_claims(claimed)
    assert (case.state.available, case.state.leased) == (6, frozenset({"r1"}))


def test_goods_that_nobody_confirms_are_available_again() -> None:
    case = given(StockItem, received, leased).when(lapse).then(lapsed).then_claims()
    assert (case.state.on_hand, case.state.available, case.state.open, case.state.leased) == (10, 10, {}, frozenset())


def test_a_confirmed_reservation_no_longer_lapses() -> None:
    case = given(StockItem, received, leased).when(confirm).then(confirmed).then_claims()
    assert (case.state.available, case.state.leased) == (6, frozenset())
    case.when(lapse).then_nothing()
    case.when(commit).then(committed)


@pytest.mark.parametrize("events", [[leased, confirmed], [reserved]])
def test_what_is_held_for_good_can_be_confirmed_again_and_again(events: list[StockEvent]) -> None:
    given(StockItem, received, *events).when_each(confirm, confirm).then_nothing()


@pytest.mark.parametrize("late", [confirm, commit])
def test_a_lapsed_reservation_is_neither_confirmed_nor_handed_out(late: ConfirmStock | CommitStock) -> None:
    case = given(StockItem, received, leased, lapsed).when(late)
    case.then_refused(ReservationLapsed, sku="tea", reservation_id="r1")


@pytest.mark.parametrize("events", [[], [reserved, released], [leased, committed]])
def test_what_is_not_there_is_not_confirmed(events: list[StockEvent]) -> None:
    case = given(StockItem, received, *events).when(confirm)
    case.then_refused(ReservationNotOpen, sku="tea", reservation_id="r1")


@pytest.mark.parametrize(
    "events", [[], [reserved], [leased, confirmed], [leased, released], [leased, committed], [leased, lapsed]]
)
def test_only_an_open_lease_lapses(events: list[StockEvent]) -> None:
    given(StockItem, received, *events).when(lapse).then_nothing()


def test_goods_held_for_a_time_can_be_handed_out_before_it_is_over() -> None:
    case = given(StockItem, received, leased).when(commit).then(committed)
    assert (case.state.on_hand, case.state.available, case.state.leased) == (6, 6, frozenset())


def test_a_release_of_what_has_lapsed_changes_nothing_and_it_does_not_come_back() -> None:
    case = given(StockItem, received).when_each(lease, lapse)
    after = case.when(release).then().then_claims(tombstone)
    assert after.state == case.state
    after.when(lease).then_refused(ReservationEnded, sku="tea", reservation_id="r1")


def test_only_so_many_lapsed_reservations_are_remembered_the_newest() -> None:
    events: list[StockEvent] = []
    for number in range(LAPSED_REMEMBERED + 1):
        events.append(StockReserved(sku="tea", reservation_id=f"r{number}", quantity=1, hold=1))
        events.append(StockLapsed(sku="tea", reservation_id=f"r{number}", quantity=1))
    case = given(StockItem, received, *events)
    oldest, next_oldest = (ConfirmStock(sku="tea", reservation_id=id) for id in ("r0", "r1"))
    case.when(oldest).then_refused(ReservationNotOpen, sku="tea", reservation_id="r0")
    case.when(next_oldest).then_refused(ReservationLapsed, sku="tea", reservation_id="r1")


@pytest.mark.parametrize("hold", [0, -1, 1.5, True, "60", 10**9])
def test_a_hold_is_a_number_of_seconds_up_to_a_year(hold: Any) -> None:
    with pytest.raises(InvalidInput) as problem:
        ReserveStock(sku="tea", reservation_id="r1", quantity=4, hold=hold)
    assert set(problem.value.problems) == {"hold"}


def test_a_reservation_from_before_there_were_leases_is_held_for_good() -> None:
    stored = {"sku": "tea", "reservation_id": "r1", "quantity": 4}
    assert Event.read("stock.reserved", 1, stored) == reserved
    assert (reserved.hold, StockReserved.schema_version) == (None, 2)


# Running low


def order(pieces: int, id: str = "r1") -> ReserveStock:
    return ReserveStock(sku="tea", reservation_id=id, quantity=pieces)


def ordered(pieces: int, id: str = "r1") -> StockReserved:
    return StockReserved(sku="tea", reservation_id=id, quantity=pieces)


def low(available: int) -> StockRanLow:
    return StockRanLow(sku="tea", available=available, quantity=50)


def test_it_is_said_when_a_product_is_low() -> None:
    case = given(StockItem, received).when(SetReorderPoint(sku="tea", at=5, quantity=50)).then(point)
    assert (case.state.reorder_at, case.state.reorder_quantity, case.state.low) == (5, 50, False)


def test_a_reservation_that_leaves_as_much_as_the_point_is_not_low_and_one_more_piece_is() -> None:
    given(StockItem, received, point).when(order(5)).then(ordered(5))
    given(StockItem, received, point).when(order(6)).then(ordered(6), low(4)).then_claims(claimed)


def test_low_is_told_once() -> None:
    case = given(StockItem, received, point).when_each(order(6), order(1, "r2"))
    case.then(ordered(1, "r2"))
    more = case.when_each(ReleaseStock(sku="tea", reservation_id="r1"), order(9, "r3"))
    more.then(ordered(9, "r3"))


def test_low_is_told_again_when_goods_have_come_in_and_are_gone_again() -> None:
    case = given(StockItem, received, point, ordered(6), low(4))
    case = case.when(ReceiveStock(sku="tea", quantity=10)).then(received)
    case.when(order(10, "r2")).then(ordered(10, "r2"), low(4))


def test_a_delivery_that_is_not_enough_leaves_the_product_low() -> None:
    few = StockReceived(sku="tea", quantity=1)
    case = given(StockItem, point, received, ordered(10), low(0)).when(ReceiveStock(sku="tea", quantity=1))
    case.then(few, low(1))


def test_a_point_above_what_is_there_is_low_at_once() -> None:
    case = given(StockItem).when(SetReorderPoint(sku="tea", at=5, quantity=50)).then(point, low(0))
    assert case.state.low


def test_saying_it_again_tells_again_that_the_product_is_low() -> None:
    case = given(StockItem, received, point, ordered(6), low(4))
    case.when(SetReorderPoint(sku="tea", at=5, quantity=50)).then(point, low(4))
    case.when(SetReorderPoint(sku="tea", at=4, quantity=50)).then(ReorderPointSet(sku="tea", at=4, quantity=50))


@pytest.mark.parametrize("events", [[], [ReorderPointSet(sku="tea", at=0, quantity=50)]])
def test_without_a_point_a_product_never_runs_low(events: list[StockEvent]) -> None:
    given(StockItem, received, *events).when(order(10)).then(ordered(10))


def test_handing_out_and_leases_leave_what_is_available_to_reservations() -> None:
    case = given(StockItem, received, point, ordered(5))
    case.when(commit).then(StockCommitted(sku="tea", reservation_id="r1", quantity=5))
    held = ReserveStock(sku="tea", reservation_id="r2", quantity=1, hold=60)
    leased_one = StockReserved(sku="tea", reservation_id="r2", quantity=1, hold=60)
    case.when(held).then(leased_one, low(4))


@pytest.mark.parametrize(("field", "value"), [("at", -1), ("at", 1.5), ("at", MAX_ON_HAND + 1), ("quantity", 0)])
def test_a_reorder_point_is_a_whole_number_of_pieces(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as problem:
        SetReorderPoint(**{"sku": "tea", "at": 5, "quantity": 50, field: value})
    assert set(problem.value.problems) == {field}


# Whatever comes


ids = st.sampled_from(["r1", "r2", "r3"])
pieces = st.integers(1, 6)
commands: st.SearchStrategy[StockCommand] = st.one_of(
    st.builds(ReceiveStock, sku=st.just("tea"), quantity=pieces),
    st.builds(
        ReserveStock,
        sku=st.just("tea"),
        reservation_id=ids,
        quantity=pieces,
        hold=st.sampled_from([None, 60]),
    ),
    st.builds(ConfirmStock, sku=st.just("tea"), reservation_id=ids),
    st.builds(LapseStock, sku=st.just("tea"), reservation_id=ids),
    st.builds(SetReorderPoint, sku=st.just("tea"), at=st.integers(0, 6), quantity=pieces),
    st.builds(ReleaseStock, sku=st.just("tea"), reservation_id=ids),
    st.builds(CommitStock, sku=st.just("tea"), reservation_id=ids),
)


@forall(st.lists(commands, max_size=40))
@settings(deadline=None)
def test_whatever_is_asked_for_no_piece_is_promised_twice_or_lost(asked: list[StockCommand]) -> None:
    case, received, committed = given(StockItem), 0, 0
    began: set[str] = set()
    for_good: set[str] = set()
    for command in asked:
        case = case.when(command)
        for event in case.events:
            match event:
                case StockReceived(quantity=quantity):
                    received += quantity
                case StockCommitted(quantity=quantity):
                    committed += quantity
                case StockReserved(reservation_id=id, hold=hold):
                    assert id not in began, "a reservation id worked twice"
                    began.add(id)
                    for_good |= {id} if hold is None else set()
                case StockConfirmed(reservation_id=id):
                    for_good.add(id)
                case StockLapsed(reservation_id=id):
                    assert id not in for_good, "what was held for good has lapsed"
                case StockRanLow(available=available):
                    assert available == case.state.available < case.state.reorder_at
        state = case.state
        assert state.leased == state.open.keys() - for_good
        assert state.low or state.available >= state.reorder_at, "low, and nobody was told"
        assert state.on_hand == received - committed
        assert state.reserved == sum(state.open.values())
        assert state.available >= 0


@pytest.mark.parametrize("hold", [None, 60])
def test_a_hundred_thousand_ended_reservations_cost_the_next_one_nothing(hold: int | None) -> None:
    item, started = StockItem().evolve(StockReceived(sku="tea", quantity=1_000_000)), perf_counter()
    item = item.evolve(point)
    for number in range(100_000):
        about: dict[str, Any] = {"sku": "tea", "reservation_id": f"r{number}", "quantity": 1}
        item = item.evolve(StockReserved.model_construct(**about, hold=hold))
        if hold is not None and number % 2:
            item = item.evolve(StockLapsed.model_construct(**about))
        else:
            item = item.evolve(StockCommitted.model_construct(**about))
    assert item.open == {}
    assert item.on_hand == item.available == (900_000 if hold is None else 950_000)
    assert len(item.model_dump_json()) < 200 + 10 * LAPSED_REMEMBERED
    assert perf_counter() - started < 30
