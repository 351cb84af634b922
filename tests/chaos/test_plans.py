"""The same seed gives the same storm; every kind of fault and order is in it."""

from __future__ import annotations

from chaos.faults import Kind, make_faults
from chaos.meddling import Meddling
from chaos.orders import HABITS, make_errands, make_orders
from chaos.storm import INJECTORS


def test_the_same_seed_gives_the_same_run_and_another_one_does_not() -> None:
    assert make_faults(7, 180) == make_faults(7, 180) != make_faults(8, 180)
    assert make_orders(7, 50, 180) == make_orders(7, 50, 180) != make_orders(8, 50, 180)
    assert make_errands(7, 180) == make_errands(7, 180) != make_errands(8, 180)


def test_every_kind_of_fault_happens_in_three_minutes_and_somebody_does_it() -> None:
    assert {fault.kind for fault in make_faults(7, 180)} == set(Kind) == set(INJECTORS)


def test_every_way_to_pay_and_whatever_else_customers_do_is_among_three_hundred_orders() -> None:
    # when
    orders = make_orders(7, 300, 180)

    # then
    assert {HABITS.index(order.habit) for order in orders} == set(range(len(HABITS)))
    assert any(order.cancel_after is not None for order in orders)
    assert {order.meddling[1] for order in orders if order.meddling is not None} == set(Meddling)
    assert any(order.copies > 1 for order in orders)
    assert any(order.may_run_out for order in orders)
    assert any(order.never_there for order in orders)
    assert any(len(order.returns) > 1 for order in orders)
