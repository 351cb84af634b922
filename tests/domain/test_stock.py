"""Stock: never more promised than there is, and a reservation id works once."""

from time import perf_counter

import pytest
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st

from amends import Claim
from amends.testing import given
from domain.stock import (
    MAX_ON_HAND,
    CommitStock,
    OutOfStock,
    ReceiveStock,
    ReleaseStock,
    ReservationDiffers,
    ReservationEnded,
    ReservationNotOpen,
    ReserveStock,
    ShelfFull,
    StockCommand,
    StockCommitted,
    StockEvent,
    StockItem,
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


ids = st.sampled_from(["r1", "r2", "r3"])
pieces = st.integers(1, 6)
commands: st.SearchStrategy[StockCommand] = st.one_of(
    st.builds(ReceiveStock, sku=st.just("tea"), quantity=pieces),
    st.builds(ReserveStock, sku=st.just("tea"), reservation_id=ids, quantity=pieces),
    st.builds(ReleaseStock, sku=st.just("tea"), reservation_id=ids),
    st.builds(CommitStock, sku=st.just("tea"), reservation_id=ids),
)


@forall(st.lists(commands, max_size=40))
@settings(deadline=None)
def test_whatever_is_asked_for_no_piece_is_promised_twice_or_lost(asked: list[StockCommand]) -> None:
    case, received, committed = given(StockItem), 0, 0
    began: set[str] = set()
    for command in asked:
        case = case.when(command)
        for event in case.events:
            match event:
                case StockReceived(quantity=quantity):
                    received += quantity
                case StockCommitted(quantity=quantity):
                    committed += quantity
                case StockReserved(reservation_id=id):
                    assert id not in began, "a reservation id worked twice"
                    began.add(id)
        state = case.state
        assert state.on_hand == received - committed
        assert state.reserved == sum(state.open.values())
        assert state.available >= 0


def test_a_hundred_thousand_ended_reservations_cost_the_next_one_nothing() -> None:
    item, started = StockItem().evolve(StockReceived(sku="tea", quantity=1_000_000)), perf_counter()
    for number in range(100_000):
        id = f"r{number}"
        item = item.evolve(StockReserved.model_construct(sku="tea", reservation_id=id, quantity=1))
        item = item.evolve(StockCommitted.model_construct(sku="tea", reservation_id=id, quantity=1))
    assert (item.on_hand, item.open) == (900_000, {})
    assert len(item.model_dump_json()) < 100
    assert perf_counter() - started < 30
