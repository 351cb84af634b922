"""What is aimed at, and how far a result has come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["TARGETS", "Target"]

Found = Mapping[str, Any]
"""A document of `bench.results`."""


@dataclass(frozen=True)
class Target:
    """A number that a result is held against.

    Args:
        what: for people.
        bound: the number.
        reach: the result's own.
        most: whether it must not be more than the bound; otherwise not less.
    """

    what: str
    bound: float
    reach: Callable[[Found], float]
    most: bool = False

    def met(self, found: Found) -> bool:
        """Whether a result has reached it."""
        reached = self.reach(found)
        return reached <= self.bound if self.most else reached >= self.bound


def _ahead(case: int, of: str, least: float, what: str) -> Target:
    """So many times the rate of somebody else."""
    return _all_ahead(of, least, what, (case,))


def _all_ahead(of: str, least: float, what: str, cases: Sequence[int]) -> Target:
    """So many times the rate of somebody else, in each of these cases."""

    def reach(found: Found) -> float:
        return min(float(found["cases"][case]["contenders"][of]["ours_is"]) for case in cases)

    return Target(what, least, reach)


def _figure(case: int, name: str, most: float, what: str) -> Target:
    """No more of a figure than this."""
    return Target(what, most, lambda found: _ours(found, case, name), most=True)


def _no_more(case: int, name: str, than: str, what: str) -> Target:
    """No more of a figure than somebody else."""

    def reach(found: Found) -> float:
        theirs = found["cases"][case]["contenders"][than]["figures"][name]["median"]
        return _ours(found, case, name) / float(theirs)

    return Target(what, 1.0, reach, most=True)


def _level(name: str | None, what: str, cases: Sequence[int] | None = None, *, rate: bool = False) -> Target:
    """The same cost over all sizes: at the worst of them, through that at the smallest.

    Args:
        name: of the figure; None for what the benchmark counts.
        what: for people.
        cases: the sizes, the smallest first; all when not given.
        rate: the figure is one, so that less of it costs more; what the benchmark counts always is.
    """

    def reach(found: Found) -> float:
        sizes = range(len(found["cases"])) if cases is None else cases
        first, *more = [_ours(found, case, name) for case in sizes]
        return max(first / each if rate or name is None else each / first for each in more)

    return Target(what, 1.3, reach, most=True)


def _ours(found: Found, case: int, name: str | None) -> float:
    mine = found["cases"][case]["contenders"][found["ours"]]
    return float((mine["rate"] if name is None else mine["figures"][name])["median"])


_HAND, _TUTORIAL = "Temporal by hand", "Temporal tutorial"

TARGETS: Mapping[str, Sequence[Target]] = {
    "append": (
        _ahead(2, "eventsourcing (locked)", 3.0, "32 writers, against eventsourcing (locked)"),
        _all_ahead("eventsourcing (db functions)", 1.0, "against eventsourcing (db functions), the worst", range(4)),
        _all_ahead("pgbench, same function", 0.65, "against pgbench with the same function, the worst", range(3)),
    ),
    "commands": (
        _all_ahead("eventsourcing", 3.0, "against eventsourcing, the worst", range(5)),
        _level(None, "a command on a stream of 100,000 events through one of 100, warm", (5, 6)),
        _level(None, "the same, cold", (7, 8)),
    ),
    "projection": (
        _ahead(0, "eventsourcing", 50.0, "against eventsourcing's ProjectionRunner"),
        _ahead(0, "INSERT … SELECT", 0.35, "a short log, against INSERT … SELECT"),
        _ahead(1, "INSERT … SELECT", 0.7, "a long log, against INSERT … SELECT"),
    ),
    "freshness": (
        _figure(0, "p50", 3.0, "p50 at 100 events/s, ms"),
        _figure(0, "p99", 15.0, "p99 at 100 events/s, ms"),
    ),
    "sagas": (
        *(_ahead(case, _HAND, 0.8, f"{many}, against {_HAND}") for case, many in ((0, "1"), (1, "64"))),
        *(_ahead(case, "DBOS", 1.2, f"{many}, against DBOS") for case, many in ((0, "1"), (1, "64"))),
        *(_ahead(case, _TUTORIAL, 2.0, f"{many}, against {_TUTORIAL}") for case, many in ((0, "1"), (1, "64"))),
        _no_more(0, "actions", _HAND, "billed actions through those by hand"),
    ),
    "growth": (
        _level(None, "append"),
        _level("tail", "a look at the end of the log"),
        _level("rebuild", "rebuild", rate=True),
        _level("search", "search"),
        _level("order page", "page of all orders"),
        _level("customer page", "page of a customer's orders"),
        _level("saga", "an order, start to end"),
        _level("worker memory", "memory of a worker"),
    ),
    "startup": (
        _figure(0, "each", 500.0, "import of the client, ms"),
        _figure(1, "each", 5_000.0, "from nothing to the first completed order, ms"),
    ),
}
"""By benchmark; cases are meant by their place."""
