"""Whether read models show what a caller has written, and if not, why: a value, never an error."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from amends.records import Position

__all__ = ["Freshness", "Lag", "Reason", "Standing", "judge", "served"]

Reason = Literal["behind", "rebuilding", "parked", "paused", "stopped", "timed_out"]
"""Why read models are stale."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """Whether projections have come to a position, and if not, why.

    Args:
        fresh: all of them have.
        position: where the slowest of them stands.
        projection: which one that is.
        reason: why not, when they have not. behind: it only has more to read (nobody waited); timed_out: the same,
            after waiting; rebuilding: it is being built; parked: events of the key that was asked for could not be
            applied; paused: by somebody; stopped: by an error, or nobody runs it.
        events: how many events it has still to read, up to the end of the log; None when it is fresh.
        problem: what keeps it, in words, where something does.
    """

    fresh: bool
    position: Position
    projection: str
    reason: Reason | None = None
    events: int | None = None
    problem: str | None = None

    def __str__(self) -> str:
        if self.fresh:
            return f"{self.projection} is fresh, at {self.position}"
        why = {
            "behind": "is behind",
            "timed_out": "has not caught up in time",
            "rebuilding": "is being rebuilt",
            "parked": "has parked this key's events",
            "paused": "is paused",
            "stopped": "is stopped",
        }[self.reason or "behind"]
        left = "" if self.events is None else f", with {self.events} events to read"
        return f"{self.projection} {why}: at {self.position}{left}{f'; {self.problem}' if self.problem else ''}"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a projection stands, by what its views show; a row of `views.projection_status`.

    Args:
        projection: its name.
        version: of what the views show.
        generation: which build of it.
        served: the views show it.
        state: live, rebuilding, paused or stopped.
        failed: an error has stopped it.
        position: up to where it has read the feed.
        dead_letters: events that are parked.
    """

    projection: str
    version: int
    generation: int
    served: bool
    state: str
    failed: bool
    position: Position
    dead_letters: int = 0


@dataclass(frozen=True, slots=True)
class Lag:
    """How much a projection has still to read, and what keeps it from doing so."""

    events: int | None
    problem: str | None


def served(rows: Iterable[Standing]) -> dict[str, Standing]:
    """Each projection as its readers meet it: one that is built beside does not count until it takes its place.

    Args:
        rows: every version and generation there is.
    """
    found: dict[str, list[Standing]] = {}
    for row in rows:
        found.setdefault(row.projection, []).append(row)
    return {name: _met(versions) for name, versions in found.items()}


def judge(
    position: Position, standings: Mapping[str, Standing], parked: Collection[str], *, waited: bool
) -> tuple[Freshness, bool]:
    """Whether projections have come to a position.

    Args:
        position: from a receipt.
        standings: of the projections that are asked for, at least one.
        parked: those of them in which events of the caller's key, or the very event at the position, are parked.
        waited: the caller's time has run out.

    Returns:
        the answer, and whether waiting could still change it. Nobody waits for what is parked or paused, or was
        stopped by an error: that takes a person. What merely nobody runs may be a worker that is just starting.
    """
    slowest = min(standings.values(), key=lambda each: each.position)
    if parked:
        stuck = standings[min(parked)]
        return Freshness(False, stuck.position, stuck.projection, "parked"), False
    if slowest.position >= position:
        return Freshness(True, slowest.position, slowest.projection), False
    behind = [each for each in standings.values() if each.position < position]
    for each in behind:
        if each.state == "paused":
            return Freshness(False, each.position, each.projection, "paused"), False
        if each.state == "stopped" and each.failed:
            return Freshness(False, each.position, each.projection, "stopped"), False
    reason: Reason
    match slowest.state:
        case "rebuilding":
            reason = "rebuilding"
        case "stopped":
            reason = "stopped"
        case _:
            reason = "timed_out" if waited else "behind"
    return Freshness(False, slowest.position, slowest.projection, reason), True


def _met(versions: list[Standing]) -> Standing:
    """The version that readers meet: the one shown; where none is said to be, the one that has come furthest."""
    met = max((each for each in versions if each.served), default=None, key=lambda each: each.position)
    met = met or max(versions, key=lambda each: each.position)
    successor = any(each.state == "rebuilding" for each in versions if each is not met)
    # code that is deployed no longer moves what it built; it goes on when what is built beside takes its place
    return replace(met, state="rebuilding", failed=False) if successor and met.state == "stopped" else met
