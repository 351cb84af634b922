"""The table of a scenario: its steps, as a dry run saw them, kept in a text file; the fault cases follow from it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from amends.records import Context
from amends.testing.faults.fault import Fault, Phase

__all__ = ["Case", "FaultTable", "Mount", "Point", "Step"]

Mount = Literal["as_written", "inline", "child"]
"""How sub-processes are mounted, as in the settings."""

_HEAD = """\
# The steps of {name}, in order, with what undoes them. A dry run has written this, and the fault cases follow from it.
# To have it written anew: delete the file, run the tests, and look at what has changed.
"""

_LINE = re.compile(r"(?P<kind>command|call) +(?P<where>\S+)(?P<pivot> +pivot)?( +undone by (?P<undo>\S+))?")


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
        """Where the step is that an activity runs; None when it is none.

        Args:
            context: of the activity.
            key: what this saga's ids are made of; a star stands for it, so that all sagas have the same points.
        """
        id = context.undoes if context.kind == "undo" else context.command_id
        if context.kind is None or id is None:
            return None
        where = id.removeprefix(f"{context.correlation_id}/").partition("/again")[0].replace(key, "*")
        return cls(where, context.kind == "undo")


@dataclass(frozen=True)
class Step:
    """A step as it was seen.

    Args:
        where: as in `Point`.
        kind: a command, or a call that leaves the house.
        pivot: the saga only goes forward from here.
        undo: name of the command or activity that took it back; None where nothing did.
    """

    where: str
    kind: Literal["command", "call"]
    pivot: bool = False
    undo: str | None = None

    def __str__(self) -> str:
        pivot, undo = " pivot" if self.pivot else "", f" undone by {self.undo}" if self.undo else ""
        return f"{self.kind:<8} {self.where}{pivot}{undo}"


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
    """

    scenario: str
    mount: Mount
    point: Point
    phase: Phase
    fault: Fault
    preludes: tuple[tuple[Point, Fault], ...] = ()

    def __str__(self) -> str:
        return f"{self.scenario}/{self.mount}/{self.point} {self.fault}"


@dataclass(frozen=True)
class FaultTable:
    """The steps of a scenario.

    Args:
        name: of the scenario.
        steps: in order; parallel ones in any.
    """

    name: str
    steps: tuple[Step, ...] = ()

    @classmethod
    def read(cls, path: Path) -> FaultTable:
        """Read a table; a file that is missing is a table without steps.

        Raises:
            ValueError: a line is none of a table.
        """
        if not path.exists():
            return cls(path.stem)
        steps = []
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                found = _LINE.fullmatch(line.strip())
                if found is None:
                    raise ValueError(f"{path}:{number} is no step of a fault table: {line}")
                kind: Literal["command", "call"] = "call" if found["kind"] == "call" else "command"
                steps.append(Step(found["where"], kind, bool(found["pivot"]), found["undo"]))
        return cls(path.stem, tuple(steps))

    def write(self, path: Path) -> None:
        """Write the table, for `read`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_HEAD.format(name=self.name) + "".join(f"{step}\n" for step in self.steps))

    def difference(self, other: FaultTable) -> list[str]:
        """What this table has (+) that another has not, and the other way round (-); empty when they agree."""
        more = [f"+ {step}" for step in self.steps if step not in other.steps]
        return more + [f"- {step}" for step in other.steps if step not in self.steps]

    @property
    def turning(self) -> tuple[Point, Fault] | None:
        """How the saga is made to undo all that it can: its pivot is refused, or it is cancelled at its end."""
        if not self.steps:
            return None
        pivot = next((step for step in self.steps if step.pivot), None)
        if pivot is not None:
            return Point(pivot.where), Fault.REFUSED
        return Point(self.steps[-1].where), Fault.CANCELLED_AFTER

    def cases(self, mounts: Sequence[Mount], faults: Iterable[Fault] = tuple(Fault)) -> list[Case]:
        """Every fault at every step and at every undo.

        Args:
            mounts: the ways in which sub-processes are mounted.
            faults: those that are wanted.
        """
        wanted, turning = list(faults), self.turning
        preludes = () if turning is None else (turning,)
        cases = []
        for mount in mounts:
            for step, phase in self._phases():
                cases += [Case(self.name, mount, Point(step.where), phase, fault) for fault in wanted]
            for step in self.steps:
                if step.undo is not None:
                    point = Point(step.where, undo=True)
                    cases += [Case(self.name, mount, point, Phase.UNDO, fault, preludes) for fault in wanted]
        return cases

    def _phases(self) -> list[tuple[Step, Phase]]:
        phases, passed = [], False
        for step in self.steps:
            phase = Phase.FORWARD if passed else Phase.PIVOT if step.pivot else Phase(step.kind)
            phases.append((step, phase))
            passed = passed or step.pivot
        return phases
