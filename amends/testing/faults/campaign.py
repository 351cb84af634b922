"""A campaign: many cases at a time, each judged by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from amends.testing.faults.bench import Bench
from amends.testing.faults.killing import kill_worker
from amends.testing.faults.points import Case
from amends.testing.faults.scenario import Scenario

__all__ = ["Campaign"]

AT_ONCE = 8
"""Sagas that run side by side."""

VICTIMS = 80
"""Sagas that lose the same worker."""


class Campaign:
    """Tries cases, many at a time: `async with Campaign(bench, scenarios, cases) as campaign`.

    Args:
        bench: where.
        scenarios: those that the cases belong to.
        cases: what goes wrong; all of those that somebody will ask for.
        at_once: how many run side by side.
    """

    def __init__(
        self, bench: Bench, scenarios: Iterable[Scenario[Any]], cases: Sequence[Case], at_once: int = AT_ONCE
    ) -> None:
        self._bench = bench
        self._scenarios = {scenario.name: scenario for scenario in scenarios}
        self._cases = list(dict.fromkeys(cases))
        self._places = asyncio.Semaphore(at_once)
        self._running: dict[Case, asyncio.Future[None]] = {}

    async def __aenter__(self) -> Self:
        kills = [case for case in self._cases if case.fault.kills]
        batches = [kills[first : first + VICTIMS] for first in range(0, len(kills), VICTIMS)]
        previous: asyncio.Task[list[Any]] | None = None
        for batch in batches:
            previous = asyncio.create_task(self._kill(batch, previous))
            for number, case in enumerate(batch):
                self._running[case] = asyncio.create_task(self._outcome(previous, number))
        for case in self._cases:
            if not case.fault.kills:
                self._running[case] = asyncio.create_task(self._run(case))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for running in self._running.values():
            running.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def verdict(self, case: Case) -> None:
        """Wait for a case to be tried.

        Args:
            case: one of the campaign's.

        Raises:
            AssertionError: what is not true.
        """
        await self._running[case]

    async def _run(self, case: Case) -> None:
        async with self._places:
            await self._bench.run(self._scenarios[case.scenario], case)

    async def _kill(self, batch: Sequence[Case], previous: asyncio.Task[list[Any]] | None) -> list[Any]:
        """One worker after the other, for a process is a load."""
        if previous is not None:
            await asyncio.wait({previous})
        return await kill_worker(self._bench, self._scenarios, batch)

    @staticmethod
    async def _outcome(batch: asyncio.Task[list[Any]], number: int) -> None:
        outcome = (await asyncio.shield(batch))[number]
        if outcome is not None:
            raise outcome
