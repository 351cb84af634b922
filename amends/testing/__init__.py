"""Given what has happened, when this comes, then that follows: tests as sentences, without a server.

    given(Order, placed).when(Cancel(order_id="o1", reason="changed my mind")).then(cancelled)
    given(replenishing).when(ran_low).then_starts(Replenish, ReplenishRequest(sku="TEA"))
    given(history, placed).when(cancelled).then_row(orders, "o1", status="cancelled")

Nothing runs but the rules: `decide` and `evolve` of an aggregate, the functions of a process manager or projection.
On the way each event is written as JSON and read back, because that is what the store does to it.
"""

from __future__ import annotations

from typing import Any, TypeVar, overload

from amends.aggregate import Aggregate
from amends.messages import Event
from amends.process_manager import ProcessManager
from amends.projection import Projection
from amends.testing.aggregates import AggregateCase
from amends.testing.managers import ManagerCase
from amends.testing.projections import ProjectionCase

__all__ = ["AggregateCase", "ManagerCase", "ProjectionCase", "given"]

A = TypeVar("A", bound=Aggregate[Any, Any])


@overload
def given(subject: type[A], /, *events: Event) -> AggregateCase[A]: ...
@overload
def given(subject: Projection, /, *events: Event) -> ProjectionCase: ...
@overload
def given(subject: ProcessManager, /) -> ManagerCase: ...
def given(subject: Any, /, *events: Event) -> Any:
    """Start a test from something to which this has happened.

    Args:
        subject: an aggregate's class, a projection, or a process manager, which knows no past.
        events: what has happened to it, oldest first.
    """
    match subject:
        case ProcessManager():
            return ManagerCase(subject)
        case Projection():
            return ProjectionCase(subject).when(*events)
        case _:
            return AggregateCase.of(subject, events)
