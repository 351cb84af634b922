"""The faults themselves: what happens at a point instead of just the step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from amends.errors import Refused
from amends.records import Refusal
from amends.steps import refused
from amends.testing.faults.fault import Fault
from amends.testing.faults.plan import TIMES_OUT, Meeting, Plan
from amends.testing.faults.points import Point

__all__ = ["RefusedByTest", "arm"]

OUTAGE = 3
"""Attempts that fail before one gets through."""

DOWN_FOR = timedelta(days=1)
"""Pause after each failed attempt of what is retried without end; skipped."""

SOON = timedelta(milliseconds=10)


class RefusedByTest(Refused):
    """The test wants this refused"""


def arm(plan: Plan, point: Point, fault: Fault) -> None:
    """Let something go wrong at a point.

    Args:
        plan: of the saga.
        point: where.
        fault: what; not the killing of a worker, for that needs a process to kill.
    """
    plan.faults[point] = _INJECTIONS[fault]
    if fault.times_out:
        plan.limits[point] = TIMES_OUT


async def _refuse(met: Meeting) -> Any:
    if met.again:
        return await met.act()
    raise refused(Refusal.of(RefusedByTest(step=str(met.point))))


async def _be_down(met: Meeting) -> Any:
    """An outage that is long, but ends before the step's deadline; the waiting is skipped."""
    if met.nth <= OUTAGE:
        deadline = activity.info().schedule_to_close_timeout
        raise _flaky(DOWN_FOR if deadline is None else deadline / (OUTAGE + 2))
    return await met.act()


async def _lose_answer(met: Meeting) -> Any:
    result = await met.act()
    if met.nth <= OUTAGE:
        raise _flaky(SOON)
    return result


async def _hang(met: Meeting) -> Any:
    if met.hangs():
        await met.plan.let_go.wait()
        raise _flaky(SOON)
    return await met.act()


async def _act_and_hang(met: Meeting) -> Any:
    hangs = met.hangs()
    result = await met.act()
    if hangs:
        await met.plan.let_go.wait()
    return result


async def _act_late(met: Meeting) -> Any:
    return await asyncio.shield(_late(met)) if met.hangs() else await met.act()


async def _act_twice(met: Meeting) -> Any:
    """Twice at once, as when the server gives up a worker that still lives, and then once more."""
    first, _ = await asyncio.gather(met.act(), met.act())
    await met.act()
    return first


def _late(met: Meeting) -> asyncio.Future[Any]:
    """The step, once whatever hangs may end, although nobody waits for it any more."""

    async def act() -> Any:
        await met.plan.let_go.wait()
        return await met.act()

    late = asyncio.ensure_future(act())
    met.plan.late.append(late)
    return late


def _around(hand: str, *, after: bool) -> Callable[[Meeting], Awaitable[Any]]:
    """Have something done to the saga, before its step acts or when it has acted, the first time."""

    async def interfere(met: Meeting) -> Any:
        result = await met.act() if after else None
        if met.nth == 1:
            await getattr(met.plan, hand)()
        return result if after else await met.act()

    return interfere


async def _terminate(met: Meeting) -> Any:
    """The saga is gone, and put right, when the step acts."""
    if met.nth > 1:
        return await met.act()
    late = _late(met)
    assert met.plan.terminate is not None
    await met.plan.terminate()
    return await asyncio.shield(late)


def _flaky(pause: timedelta) -> ApplicationError:
    """A failure that the next attempt may mend; benign, so that the worker's log stays quiet."""
    return ApplicationError("flaky, for the test", next_retry_delay=pause, category=ApplicationErrorCategory.BENIGN)


_INJECTIONS: dict[Fault, Callable[[Meeting], Awaitable[Any]]] = {
    Fault.REFUSED: _refuse,
    Fault.DOWN: _be_down,
    Fault.ANSWER_LOST: _lose_answer,
    Fault.HANGS: _hang,
    Fault.ACTS_AND_HANGS: _act_and_hang,
    Fault.ACTS_LATE: _act_late,
    Fault.TWICE: _act_twice,
    Fault.CANCELLED: _around("cancel", after=False),
    Fault.CANCELLED_AFTER: _around("cancel", after=True),
    Fault.WITHDRAWN: _around("withdraw", after=False),
    Fault.WITHDRAWN_AFTER: _around("withdraw", after=True),
    Fault.TERMINATED: _terminate,
    Fault.TERMINATED_AFTER: _around("terminate", after=True),
}
