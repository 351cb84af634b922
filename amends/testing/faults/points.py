"""Places in a saga where something can go wrong, the steps that were seen there, and the cases that follow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from amends.records import Context
from amends.testing.faults.fault import Fault, Phase

__all__ = ["ASK", "END", "Case", "Mount", "Point", "Step"]

Mount = Literal["as_written", "inline", "child"]
"""How sub-processes are mounted, as in the settings."""

END = "saga.close"
"""Where a saga writes its end down, which is no step."""

ASK = "/ask"
"""Ends the place where it is asked what became of a call."""

_LINE = re.compile(r"(?P<kind>command|call) +(?P<where>\S+)( +\((?P<notes>.+)\))?")
_PIVOT, _UNDONE, _INSIDE, _ASKED = "pivot", "undone by ", "inside too", "asked about"


@dataclass(frozen=True)
class Point:
    """A place in a saga where something can go wrong.

    Args:
        where: the step's id below the saga's, e.g. `payment/payment.charge`; however the process is mounted, and
            with a star for the key that its ids are made of.
        undo: the undo of that step instead of the step.
    """

    where: str
    undo: bool = False

    def __str__(self) -> str:
        return f"undo of {self.where}" if self.undo else self.where

    @classmethod
    def of(cls, context: Context, key: str) -> Point | None:
        """Where an activity is in its saga; None when it is neither a step nor an undo nor the end.

        Args:
            context: of the activity.
            key: what this saga's ids are made of; a star stands for it, so that all sagas have the same points.
        """
        id = context.undoes if context.kind == "undo" else context.command_id
        if context.kind is None or id is None:
            return cls(END) if context.command_id.startswith(f"{context.correlation_id}/close/") else None
        where = id.removeprefix(f"{context.correlation_id}/").partition("/again")[0].replace(key, "*")
        return cls(where, context.kind == "undo")


@dataclass(frozen=True)
class Step:
    """A step as it was seen; a line of a table.

    Args:
        where: as in `Point`.
        kind: a command, or a call that leaves the house.
        pivot: the saga only goes forward from here.
        undo: name of the command or activity that took it back; None where nothing did.
        inside: it is taken back as well when the sub-process that it belongs to fails at its last step.
        asked: when nobody knows what became of it, somebody is asked.
    """

    where: str
    kind: Literal["command", "call"]
    pivot: bool = False
    undo: str | None = None
    inside: bool = False
    asked: bool = False

    def __str__(self) -> str:
        undone = f"{_UNDONE}{self.undo}" if self.undo else ""
        notes = [
            _PIVOT if self.pivot else "",
            undone,
            _INSIDE if self.inside else "",
            _ASKED if self.asked else "",
        ]
        told = ", ".join(filter(None, notes))
        return f"{self.kind:<8} {self.where}" + (f" ({told})" if told else "")

    @classmethod
    def parse(cls, line: str) -> Step:
        """Read what `str(step)` wrote.

        Raises:
            ValueError: the line is none.
        """
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise ValueError(f"this is no step of a fault table: {line}")
        notes = (found["notes"] or "").split(", ")
        undo = next((note.removeprefix(_UNDONE) for note in notes if note.startswith(_UNDONE)), None)
        kind: Literal["command", "call"] = "call" if found["kind"] == "call" else "command"
        return cls(found["where"], kind, _PIVOT in notes, undo, _INSIDE in notes, _ASKED in notes)

    @property
    def process(self) -> str:
        """Where the sub-process is mounted that it belongs to; nothing for the saga itself."""
        return self.where.rpartition("/")[0]

    @property
    def unknown(self) -> tuple[Point, Fault]:
        """How somebody has to be asked what became of it: it acts, and nobody hears of it."""
        return Point(self.where), Fault.ACTS_AND_HANGS


@dataclass(frozen=True)
class Case:
    """One fault at one point, with sub-processes mounted in one way.

    Args:
        scenario: its name.
        mount: how sub-processes are mounted.
        point: where.
        phase: of the step there.
        fault: what goes wrong.
        preludes: what else is done on the way, so that the saga comes to this point.
        within: the sub-process that undoes it by itself.
    """

    scenario: str
    mount: Mount
    point: Point
    phase: Phase
    fault: Fault
    preludes: tuple[tuple[Point, Fault], ...] = ()
    within: str = ""

    def __str__(self) -> str:
        within = f" within {self.within}" if self.within else ""
        return f"{self.scenario}/{self.mount}/{self.point}{within} {self.fault}"
