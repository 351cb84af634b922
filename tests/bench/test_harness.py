"""Benchmarks compare like with like: whoever does other work is found out, and who is missing is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest
from rich.console import Console
from rich.progress import Progress

from bench.harness import Absent, Benchmark, Case, Contender, Result, Sample, WorkDiffers, run
from bench.servers import Servers
from bench.statistics import Spread

turns: list[tuple[str, str]] = []


@dataclass(frozen=True)
class Count:
    run: str
    rows: tuple[int, ...] = (1, 2, 3)


class Honest(Contender[Count]):
    name = "honest"
    note = "does all of it"

    async def work(self, work: Count) -> Sample:
        turns.append((work.run, self.name))
        return Sample(3, 1.5)

    async def left(self, work: Count) -> Sequence[int]:
        return [3, 1, 2]


class Slow(Honest):
    name = "slow"

    async def work(self, work: Count) -> Sample:
        await super().work(work)
        return Sample(3, 3.0)


class Skips(Honest):
    name = "skips"

    async def left(self, work: Count) -> Sequence[int]:
        return [1, 3]


class Doubles(Honest):
    name = "doubles"

    async def left(self, work: Count) -> Sequence[int]:
        return [1, 2, 3, 3]


class Away(Honest):
    name = "away"

    async def open(self, servers: Servers) -> None:
        raise Absent("its library is not installed")


async def _run(*contenders: type[Contender[Any]], rounds: int = 2) -> Result:
    turns.clear()
    cases = [Case("all", Count, lambda work: work.rows)]
    benchmark = Benchmark("test", "Test", "rows/s", contenders, lambda scale: cases)
    with Progress(console=Console(quiet=True)) as progress:
        servers = cast(Servers, None)  # these contenders need none
        return await run(benchmark, servers, rounds=rounds, scale=1, progress=progress)


async def test_rounds_alternate_and_the_first_one_only_warms_up() -> None:
    result = await _run(Honest, Slow)

    assert turns == [
        ("r0", "honest"), ("r0", "slow"), ("r1", "slow"), ("r1", "honest"), ("r2", "honest"), ("r2", "slow"),
    ]  # fmt: skip
    figures = result.cases["all"]
    assert figures["honest"].rate == Spread(2.0, 2.0, 2.0, (2.0, 2.0))
    assert figures["honest"].rate.ratio(figures["slow"].rate) == 2.0


@pytest.mark.parametrize("cheat", [Skips, Doubles])
async def test_whoever_leaves_other_rows_behind_ends_the_benchmark(cheat: type[Contender[Any]]) -> None:
    with pytest.raises(WorkDiffers, match=cheat.name):
        await _run(Honest, cheat)


async def test_who_is_absent_is_named_with_the_reason_and_the_others_go_on() -> None:
    result = await _run(Honest, Away)

    assert result.absent == {"away": "its library is not installed"}
    assert list(result.cases["all"]) == ["honest"]
