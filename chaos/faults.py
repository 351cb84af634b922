"""The fault plan: what goes wrong, to whom, when and for how long; the same seed gives the same plan."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["CLIENTS", "POSTGRES", "TEMPORAL", "TRANSACTIONS", "WORKERS", "Fault", "Kind", "make_faults"]

WORKERS = ("worker-1", "worker-2")
POSTGRES = "postgres"
TEMPORAL = "temporal"
CLIENTS = "clients"
TRANSACTIONS = "other transactions"

FIRST = 2.0
"""Seconds before the first fault: some orders are on their way by then."""

SPACING = 3.0
"""Seconds from one fault to the next, on average."""


class Kind(StrEnum):
    """What goes wrong; the value is told to people."""

    KILL_WORKER = "killed"
    FREEZE_WORKER = "frozen"
    DRAIN_WORKER = "drained and replaced"
    CLOCK_JUMP = "clock jumps"
    KILL_TEMPORAL = "killed, then started"
    RESTART_TEMPORAL = "restarted in order"
    FREEZE_TEMPORAL = "server frozen"
    KILL_POSTGRES = "killed, then recovers"
    RESTART_POSTGRES = "shut down and started"
    CRASH_BACKEND = "a backend is killed, so all restart"
    FREEZE_BACKEND = "a writing backend is frozen"
    CUT_DATABASE = "connections to PostgreSQL cut"
    LOSE_ANSWERS = "commits' answers lost"
    LOSE_COMMITS = "connections cut before their commit"
    STALL_DATABASE = "connections to PostgreSQL stall"
    PARTITION_DATABASE = "PostgreSQL out of reach"
    CUT_TEMPORAL = "connections to Temporal cut"
    PARTITION_TEMPORAL = "Temporal out of reach"
    HOLD_HORIZON = "a transaction holds the feed's horizon"
    HOLD_ROWS = "a transaction holds the rows of hot products"
    TAKE_CONNECTIONS = "all connections taken"
    DISK_FULL = "disk full"


_WORKER = (Kind.KILL_WORKER, Kind.FREEZE_WORKER, Kind.DRAIN_WORKER, Kind.CLOCK_JUMP)
_TEMPORAL = (Kind.KILL_TEMPORAL, Kind.RESTART_TEMPORAL, Kind.FREEZE_TEMPORAL)
_OTHERS = (Kind.HOLD_HORIZON, Kind.HOLD_ROWS, Kind.TAKE_CONNECTIONS)
_LINKS = (
    Kind.CUT_DATABASE,
    Kind.LOSE_ANSWERS,
    Kind.LOSE_COMMITS,
    Kind.STALL_DATABASE,
    Kind.PARTITION_DATABASE,
    Kind.CUT_TEMPORAL,
    Kind.PARTITION_TEMPORAL,
)

LASTS: dict[Kind, tuple[float, float]] = {
    Kind.FREEZE_WORKER: (1, 15),
    Kind.CLOCK_JUMP: (5, 20),
    Kind.KILL_TEMPORAL: (0, 5),
    Kind.RESTART_TEMPORAL: (0, 2),
    Kind.FREEZE_TEMPORAL: (1, 8),
    Kind.KILL_POSTGRES: (0, 5),
    Kind.RESTART_POSTGRES: (0, 3),
    Kind.FREEZE_BACKEND: (1, 10),
    Kind.STALL_DATABASE: (1, 10),
    Kind.PARTITION_DATABASE: (1, 12),
    Kind.PARTITION_TEMPORAL: (1, 12),
    Kind.HOLD_HORIZON: (2, 20),
    Kind.HOLD_ROWS: (2, 25),
    Kind.TAKE_CONNECTIONS: (2, 8),
    Kind.DISK_FULL: (2, 10),
}
"""Seconds that a fault lasts, from and to; others are over in an instant."""

_OFTEN = {Kind.KILL_WORKER: 3, Kind.FREEZE_WORKER: 2, Kind.LOSE_ANSWERS: 2, Kind.LOSE_COMMITS: 2}
"""How often a kind is in the deck; once, where nothing is said."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Args:
        at: seconds after the storm's beginning.
        kind: what.
        target: to whom: a worker, a server, or whose connections.
        seconds: how long.
        dice: a number of its own, for whatever else is to be drawn.
    """

    at: float
    kind: Kind
    target: str
    seconds: float
    dice: int

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.kind.value}{lasts}"


def make_faults(seed: int, storm: float) -> tuple[Fault, ...]:
    """The plan of a storm: a deck with every kind of fault in it, shuffled and dealt until the time is over.

    Args:
        seed: the same one gives the same plan.
        storm: seconds that it lasts; the last faults begin before its end and end a little after it.
    """
    dice = random.Random(f"faults {seed}")
    faults: list[Fault] = []
    deck: list[Kind] = []
    at = FIRST
    while at < storm:
        if not deck:
            deck = [kind for kind in Kind for _ in range(_OFTEN.get(kind, 1))]
            dice.shuffle(deck)
        kind = deck.pop()
        lasts = round(dice.uniform(*LASTS[kind]), 1) if kind in LASTS else 0.0
        faults.append(Fault(round(at, 2), kind, _target(kind, dice), lasts, dice.randrange(2**32)))
        at += dice.uniform(0, 2 * SPACING)
    return tuple(faults)


def _target(kind: Kind, dice: random.Random) -> str:
    if kind in _WORKER:
        return dice.choice(WORKERS)
    if kind in _LINKS:
        return dice.choice((*WORKERS, *WORKERS, CLIENTS))
    if kind in _OTHERS:
        return TRANSACTIONS
    return TEMPORAL if kind in _TEMPORAL else POSTGRES
