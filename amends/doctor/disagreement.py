"""What a reconciliation finds: one thing that the log and Temporal tell differently, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

__all__ = ["Disagreement", "Turn"]


class Turn(IntEnum):
    """In which order disagreements are to be seen to: what comes later builds upon what comes first."""

    POSITIONS = 0
    WORK = 1
    REACTIONS = 4
    NOTHING = 9


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Something that the log and Temporal tell differently.

    Args:
        subject: the workflow that it is about, or the log.
        turn: when to see to it.
        known: what is known for sure.
        missing: what one of them does not know.
        advice: the command to run; empty where nothing is to be done.
        begun: when it, or the saga that it is a part of, began; what began earlier is to be seen to first.
        part: of a saga, which goes by what has become of it.
    """

    subject: str
    turn: Turn
    known: str
    missing: str
    advice: str = ""
    begun: datetime | None = None
    part: bool = False

    @property
    def place(self) -> tuple[Turn, datetime, bool]:
        """Where it stands in the order in which to do things: as they were begun, for prices and stock change."""
        return self.turn, self.begun or datetime.min.replace(tzinfo=UTC), not self.part
