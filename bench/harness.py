"""What a benchmark consists of, and how it is run: every contender does the same work, in turn, and is checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from rich.progress import Progress, TaskID

from bench.servers import Servers
from bench.statistics import Figures

__all__ = ["Absent", "Benchmark", "Case", "Contender", "Result", "Sample", "WorkDiffers", "run"]

W = TypeVar("W")

Rows = Sequence[Hashable]
"""What a piece of work leaves behind, in a form that all contenders share."""


class Absent(Exception):
    """A contender can't take part on this machine; says what is missing."""


class WorkDiffers(Exception):
    """A contender has done other work than was asked for, so that its figures say nothing."""


@dataclass(frozen=True)
class Sample:
    """One timed round.

    Args:
        units: how many commands, events, sagas …
        seconds: how long they took.
        figures: what was measured besides, by name.
    """

    units: int
    seconds: float
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / self.seconds


class Contender(ABC, Generic[W]):
    """Somebody who can do the work.

    Args:
        name: as tables and plots show it.
        note: in which way it does it, for those who read the results.
        limit: it does less than the work (and so is not checked): what no contender can beat.
    """

    name: ClassVar[str]
    note: ClassVar[str]
    limit: ClassVar[bool] = False

    async def open(self, servers: Servers) -> None:
        """Connect and prepare; not timed.

        Raises:
            Absent: it can't take part here.
        """

    @abstractmethod
    async def work(self, work: W) -> Sample:
        """Do the work, and time it."""

    async def left(self, work: W) -> Rows | None:
        """What the work has left behind, read back; None where there is nothing to compare. Not timed."""
        return None

    async def close(self) -> None:
        """Give everything back."""


@dataclass(frozen=True)
class Case(Generic[W]):
    """A size or kind of work.

    Args:
        name: as tables show it.
        make: makes the work of a round, from a name that no other round has.
        expected: what it must leave behind, in any order.
        without: names of contenders for whom it is not.
        unit: of what is counted, where it is another than the benchmark's.
    """

    name: str
    make: Callable[[str], W]
    expected: Callable[[W], Rows] | None = None
    without: frozenset[str] = frozenset()
    unit: str | None = None


@dataclass(frozen=True)
class Benchmark(Generic[W]):
    """A comparison.

    Args:
        name: as in `make bench ONLY=name`.
        title: for people.
        unit: of what is counted.
        contenders: who takes part, ours first.
        cases: the work, for a scale from 0 (tiny) on; 1 is the real thing.
        figures: unit of each further figure, by name.
    """

    name: str
    title: str
    unit: str
    contenders: Sequence[type[Contender[W]]]
    cases: Callable[[float], Sequence[Case[W]]]
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Result:
    """What came out: case → contender → figures; and who was absent, and why."""

    cases: dict[str, dict[str, Figures]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


async def run(benchmark: Benchmark[Any], servers: Servers, *, rounds: int, scale: float, progress: Progress) -> Result:
    """Run a benchmark: for each case a warm-up, then the rounds, in each of which the contenders take turns.

    Args:
        benchmark: which.
        servers: that all contenders share.
        rounds: timed rounds of each case.
        scale: as for `Benchmark.cases`.
        progress: shows how far it is.

    Raises:
        WorkDiffers: somebody has left other rows behind than the work asks for.
    """
    result = Result()
    cases = benchmark.cases(scale)
    steps = progress.add_task(benchmark.name, total=len(cases) * len(benchmark.contenders) * (rounds + 1))
    there = []
    try:
        for kind in benchmark.contenders:
            contender = kind()
            try:
                await contender.open(servers)
            except Absent as absence:
                result.absent[contender.name] = str(absence)
            else:
                there.append(contender)
        for case in cases:
            able = [contender for contender in there if contender.name not in case.without]
            result.cases[case.name] = await _case(benchmark.name, case, able, rounds, progress, steps)
    finally:
        for contender in reversed(there):
            await contender.close()
        progress.update(steps, completed=progress.tasks[steps].total)
    return result


async def _case(
    name: str, case: Case[Any], able: Sequence[Contender[Any]], rounds: int, progress: Progress, steps: TaskID
) -> dict[str, Figures]:
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in able}
    for number in range(rounds + 1):
        shift = number % len(able)
        for contender in [*able[shift:], *able[:shift]]:  # nobody is always first
            progress.update(steps, description=f"{name} · {case.name} · {contender.name}")
            work = case.make(f"r{number}")
            sample = await contender.work(work)
            if case.expected is not None and not contender.limit:
                _compare(contender, case, case.expected(work), await contender.left(work))
            if number > 0:  # the first one warms up
                samples[contender.name].append(sample)
            progress.advance(steps)
    return {
        name: Figures.of(
            [sample.rate for sample in taken],
            {figure: [sample.figures[figure] for sample in taken] for figure in taken[0].figures},
        )
        for name, taken in samples.items()
    }


def _compare(contender: Contender[Any], case: Case[Any], expected: Rows, left: Rows | None) -> None:
    if left is None:
        return
    wanted, found = Counter(expected), Counter(left)
    if wanted != found:
        missing, extra = wanted - found, found - wanted
        raise WorkDiffers(
            f"{contender.name}, {case.name}: {missing.total()} of {wanted.total()} rows missing, {extra.total()} "
            f"others instead; first missing {next(iter(missing), None)!r}, first other {next(iter(extra), None)!r}"
        )
