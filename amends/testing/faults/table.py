"""The table of a scenario: its steps, as a dry run saw them, kept in a text file; the fault cases follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from amends.testing.faults.fault import Fault, Phase
from amends.testing.faults.points import ASK, END, Case, Mount, Point, Step

__all__ = ["FaultTable"]

_HEAD = """\
# The steps of {name}, in order, with what undoes them. A dry run has written this, and the fault cases follow from it.
# To have it written anew: delete the file, run the tests, and look at what has changed.
"""


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
        lines = path.read_text().splitlines() if path.exists() else []
        return cls(path.stem, tuple(Step.parse(line) for line in lines if line.strip() and not line.startswith("#")))

    def write(self, path: Path) -> None:
        """Write the table, for `read`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_HEAD.format(name=self.name) + "".join(f"{step}\n" for step in self.steps))

    def verify(self, path: Path) -> None:
        """Assert that this is the table in a file; one that is missing is written, to be looked at.

        Raises:
            AssertionError: the steps have changed, or the file was missing.
        """
        if not path.exists():
            self.write(path)
            raise AssertionError(f"{path} was missing and is written now: look at it, and run the tests again")
        difference = "\n".join(self.difference(FaultTable.read(path)))
        assert not difference, f"{path} is not what the saga does; delete it to have it written anew:\n{difference}"

    def difference(self, other: FaultTable) -> list[str]:
        """What this table has (+) that another has not, and the other way round (-); empty when they agree."""
        more = [f"+ {step}" for step in self.steps if step not in other.steps]
        return more + [f"- {step}" for step in other.steps if step not in self.steps]

    @property
    def pivot(self) -> Step | None:
        """The step from which the saga only goes forward, if it has one."""
        return next((step for step in self.steps if step.pivot), None)

    @property
    def turning(self) -> tuple[Point, Fault]:
        """How the saga is made to undo all that it can: its pivot is refused, or it is cancelled at its end."""
        if self.pivot is not None:
            return Point(self.pivot.where), Fault.REFUSED
        return Point(self.steps[-1].where), Fault.CANCELLED_AFTER

    def failing(self, process: str) -> tuple[Point, Fault]:
        """How a sub-process is made to undo its own: its last step is refused.

        Args:
            process: where it is mounted.
        """
        last = [step for step in self.steps if step.where.startswith(f"{process}/")][-1]
        return Point(last.where), Fault.REFUSED

    def cases(self, mounts: Sequence[Mount], faults: Iterable[Fault] = tuple(Fault)) -> list[Case]:
        """Every fault at every step, at every undo, at every question, and at the end.

        Args:
            mounts: the ways in which sub-processes are mounted.
            faults: those that are wanted, as `Scenario.faults` gives them.
        """
        if not self.steps:
            return []
        wanted, places = list(faults), [*self._steps(), *self._undos(), self._end()]
        return [
            Case(self.name, mount, point, phase, fault, preludes, within)
            for mount in mounts
            for point, phase, preludes, within in places
            for fault in wanted
            if fault is not Fault.REFUSED or point.where != END  # nobody refuses to write an end down
        ]

    def _steps(self) -> Iterator[_Place]:
        passed = False
        for step in self.steps:
            phase = Phase.FORWARD if passed else Phase.PIVOT if step.pivot else Phase(step.kind)
            passed = passed or step.pivot
            yield Point(step.where), phase, (), ""
            if step.asked:
                yield Point(f"{step.where}{ASK}"), Phase.CALL, (step.unknown,), ""

    def _undos(self) -> Iterator[_Place]:
        for step in self.steps:
            undo = Point(step.where, undo=True)
            if step.undo is not None:
                yield undo, Phase.UNDO, (self.turning,), ""
            if step.inside:
                yield undo, Phase.UNDO, (self.failing(step.process),), step.process

    def _end(self) -> _Place:
        return Point(END), Phase.END if self.pivot is None else Phase.FORWARD, (), ""


_Place = tuple[Point, Phase, tuple[tuple[Point, Fault], ...], str]
"""Where something goes wrong: the point, its phase, what is done on the way there, the process that undoes it."""
