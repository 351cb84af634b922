"""How a machine, which is synchronous, runs on the servers and the event loop of a test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

__all__ = ["SHRINKING", "LoopedMachine", "run_machine"]

T = TypeVar("T")

USUAL = 100
"""Examples of Hypothesis' own profile, which is the suite's: the numbers below are meant for that."""

SHRINKING = 900
"""Seconds that a test may take whose program fails: Hypothesis looks for a shorter one for at most five minutes."""

PATIENCE = 60
"""Seconds in which a step has ended, or hangs."""


class LoopedMachine(RuleBasedStateMachine):
    """A machine whose rules await what runs on the test's event loop.

    Args:
        loop: that of the test; the machine is in another thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What it comes to."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)


async def run_machine(
    machine: Callable[[asyncio.AbstractEventLoop], LoopedMachine], *, programs: int, steps: int
) -> None:
    """Run programs of a machine: in the suite always the same ones; by a larger profile more of them, and new ones.

    Args:
        machine: makes one for a program.
        programs: so many of them with the usual profile.
        steps: most steps of each.
    """
    more = settings().max_examples / USUAL
    loop = asyncio.get_running_loop()
    chosen = settings(
        max_examples=max(1, round(programs * more)),
        stateful_step_count=steps,
        derandomize=more <= 1,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),  # what is not shrunk is not explained either
        suppress_health_check=list(HealthCheck),
    )
    run: Callable[..., None] = run_state_machine_as_test  # takes whatever makes a machine, which its type leaves out
    await asyncio.to_thread(run, lambda: machine(loop), settings=chosen)
