"""Killing a worker: many sagas are brought to their points in one process, that is killed, and another goes on."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from pydantic import SecretStr

from amends.settings import Settings
from amends.testing.faults.bench import Bench, working
from amends.testing.faults.fault import Fault
from amends.testing.faults.plan import DIES
from amends.testing.faults.points import Case
from amends.testing.faults.scenario import Scenario
from amends.testing.faults.trial import Trial
from amends.testing.faults.waiting import until

__all__ = ["kill_worker"]

READY_SECONDS = 150.0
"""How long it may take to bring every saga to its point, dozens at a time on a busy machine."""


async def kill_worker(bench: Bench, scenarios: Mapping[str, Scenario[Any]], cases: Sequence[Case]) -> list[Any]:
    """Try cases in which a worker is killed; all of them have the same one.

    Args:
        bench: where they are judged.
        scenarios: by name.
        cases: what goes wrong.

    Returns:
        for each case what is not true, an exception; None where all is well.
    """
    settings = bench.settings.model_copy(update={"task_queue": f"{bench.settings.task_queue}-{uuid4().hex[:8]}"})
    trials = [Trial(scenarios[case.scenario], bench.world, settings.task_queue) for case in cases]
    plans = [trial.plan(bench.injector, case.preludes, DIES) for trial, case in zip(trials, cases, strict=True)]
    try:
        async with _victim(settings, cases, trials) as victim:
            await asyncio.gather(*(t.start(c.mount, DIES.task) for t, c in zip(trials, cases, strict=True)))
            held = await _all_held(victim, trials)
            victim.kill()
            await victim.wait()
        for plan, case in zip(plans, cases, strict=True):
            plan.reached.update({case.point} if plan.saga_id in held else ())
        async with working(bench.app, settings, bench.world.client.temporal, bench.injector):
            judging = map(bench.judge, cases, trials, plans)
            return await asyncio.gather(*judging, return_exceptions=True)
    finally:
        for plan in plans:
            bench.injector.drop(plan)


@asynccontextmanager
async def _victim(settings: Settings, cases: Sequence[Case], trials: Sequence[Trial]) -> AsyncIterator[Process]:
    """A worker process that holds every saga at its point."""
    orders = [_order(case, trial) for case, trial in zip(cases, trials, strict=True)]
    command = [sys.executable, "-m", "amends.testing.faults.victim"]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=_environment(settings))
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(orders).encode() + b"\n")
        await process.stdin.drain()
        async with asyncio.timeout(READY_SECONDS):
            assert await process.stdout.readline() == b"ready\n", "the worker that is to be killed did not start"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _all_held(victim: Process, trials: Sequence[Trial]) -> set[str]:
    """Wait until every saga is at its point, and say which are: one may end before it comes there."""
    missing, held = {trial.saga_id for trial in trials}, set[str]()

    async def said() -> None:
        assert victim.stdout is not None
        while line := await victim.stdout.readline():
            held.add(line.decode().split()[1])
            missing.difference_update(held)

    async def over(trial: Trial) -> None:
        await trial.over()
        missing.discard(trial.saga_id)

    async def none_missing() -> bool:
        return not missing

    watching = [asyncio.create_task(each) for each in (said(), *map(over, trials))]
    try:
        await until("every saga comes to its point", none_missing, READY_SECONDS)
    except AssertionError as error:
        for trial in trials:
            if trial.saga_id in missing:
                error.add_note(await trial.story())
        raise
    finally:
        for each in watching:
            each.cancel()
    return held


def _order(case: Case, trial: Trial) -> dict[str, Any]:
    preludes = [[point.where, point.undo, fault.name] for point, fault in case.preludes]
    point, after = [case.point.where, case.point.undo], case.fault is Fault.KILLED_AFTER
    return {"saga_id": trial.saga_id, "key": trial.key, "preludes": preludes, "point": point, "after": after}


def _environment(settings: Settings) -> dict[str, str]:
    """Ours, with these settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AMENDS_")}
    for name, value in settings:
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        if plain is not None:
            environment[f"AMENDS_{name.upper()}"] = str(plain)
    return environment
