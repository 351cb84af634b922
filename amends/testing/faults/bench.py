"""The bench on which sagas are tried: a worker that faults get into, a client that skips time, and the verdicts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from temporalio.client import Client as TemporalClient
from temporalio.testing import TimeSkipper
from temporalio.worker import Replayer

from amends.app import App, load_app
from amends.client import Client
from amends.client_keys import ClientKeys
from amends.compensation import Compensation
from amends.connect import connect
from amends.database import open_pool
from amends.encryption import converter
from amends.handler import CommandHandler
from amends.reader import Reader
from amends.runner import RUNNER
from amends.settings import Settings
from amends.sources import Sources
from amends.store import EventStore
from amends.testing.faults.checking import check_end, check_undos
from amends.testing.faults.fault import Fault, expected, parks
from amends.testing.faults.injecting import Injector
from amends.testing.faults.plan import Plan
from amends.testing.faults.points import ASK, END, Case, Mount, Point, Step
from amends.testing.faults.repeating import RepeatUndos
from amends.testing.faults.scenario import ACTOR, Ended, Scenario, World
from amends.testing.faults.table import FaultTable
from amends.testing.faults.trial import Trial
from amends.worker import open_worker

__all__ = ["Bench", "working"]

LONGEST_SECONDS = 60.0
"""A saga that has not ended by then, checks included, hangs."""


@asynccontextmanager
async def working(
    app: App, settings: Settings, temporal: TemporalClient, injector: Injector
) -> AsyncIterator[asyncio.Task[None]]:
    """A worker in this process that faults get into; gives what ends when the worker does.

    Args:
        app: what it works for.
        settings: as for `open_worker`.
        temporal: its client.
        injector: lets them in.
    """
    async with open_worker(app, settings, temporal, interceptors=[injector]) as worker:
        running = asyncio.create_task(worker.run())
        try:
            yield running
        finally:
            await worker.shutdown()
            await running


@dataclass(frozen=True)
class Bench:
    """Runs sagas and their faults, as many at a time as one likes; open one by `async with Bench.open(settings)`.

    Args:
        app: the application, with what the bench adds to it.
        settings: its database, Temporal server and task queue.
        world: what scenarios see.
        injector: of the worker in this process.
        worker: ends when that worker does, which it should not.
    """

    app: App
    settings: Settings
    world: World
    injector: Injector
    worker: asyncio.Task[None]

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[Bench]:
        """Run a worker in this process; projections and process managers stay still, unless somebody starts them.

        Args:
            settings: where the application is, which has to be installed in the database; a database and a task queue
                of one's own; a Temporal server that lets time be skipped.

        Raises:
            StartupError: there is no such application, or no database is set.
            ServerFailed: a server does not answer.
        """
        injector, temporal, app = Injector(), await connect(settings), load_app(settings.app)
        app = replace(app, workflows=[*app.workflows, RepeatUndos])
        async with working(app, settings, temporal, injector) as worker:
            assert settings.database_url is not None
            url = settings.database_url.get_secret_value()
            async with open_pool(url, "writer", 8) as pool:
                reader, keys = Reader(url, 4, Sources(app.projections)), ClientKeys(url)
                try:
                    client = Client(TimeSkipper(temporal).client, reader, settings, ACTOR, keys)
                    world = World(client, pool, CommandHandler(EventStore(pool), app.aggregates))
                    yield cls(app, settings, world, injector, worker)
                finally:
                    await keys.close()
                    await reader.close()

    async def record(self, scenario: Scenario[Any], mount: Mount) -> FaultTable:
        """See by dry runs which steps a saga takes, and how each is undone.

        Args:
            scenario: which saga; it has to go well.
            mount: how sub-processes are mounted.

        Raises:
            AssertionError: it did not go well, or was not undone when it was made to turn back.
        """
        seen = await self._dry_run(scenario, mount, None)
        steps = tuple(step for point, step in seen.steps.items() if not point.undo and step.where != END)
        table = FaultTable(scenario.name, steps)
        undos = await self._undos(scenario, mount, table.turning)
        inside: set[str] = set()
        for process in {step.process for step in steps} - {""}:
            own = await self._undos(scenario, mount, table.failing(process))
            inside.update(where for where in own if where.startswith(f"{process}/"))
        known = [replace(step, undo=undos.get(step.where), inside=step.where in inside) for step in steps]
        forward = next((number for number, step in enumerate(known) if step.pivot), len(known))
        for number, step in enumerate(known[:forward]):
            known[number] = replace(step, asked=step.kind == "call" and await self._is_asked(scenario, mount, step))
        return replace(table, steps=tuple(known))

    async def verify(self, scenario: Scenario[Any], mount: Mount, file: Path) -> None:
        """Assert that a table is what a dry run sees; one that is missing is written, to be looked at.

        Args:
            scenario: which saga.
            mount: how sub-processes are mounted; the table is the same for all ways.
            file: of the table.

        Raises:
            AssertionError: the steps have changed, or the table was missing.
        """
        (await self.record(scenario, mount)).verify(file)

    async def run(self, scenario: Scenario[Any], case: Case) -> None:
        """Try one case, and assert all that has to be true of it.

        Args:
            scenario: the one that the case belongs to.
            case: what goes wrong; not the killing of a worker, see `Campaign`.

        Raises:
            AssertionError: what is not true.
        """
        trial = Trial(scenario, self.world, self.settings.task_queue)
        plan = trial.plan(self.injector, [*case.preludes, (case.point, case.fault)])
        try:
            await trial.start(case.mount)
            judging = asyncio.create_task(self.judge(case, trial, plan))
            await asyncio.wait({judging, self.worker}, return_when=asyncio.FIRST_COMPLETED)
            if not judging.done():
                judging.cancel()
                raise AssertionError("the worker of the bench has failed; its log says why")
            await judging
        finally:
            self.injector.drop(plan)

    async def judge(self, case: Case, trial: Trial, plan: Plan) -> None:
        """Wait for the end of a saga under test and assert all that has to be true of it.

        Args:
            case: what goes wrong.
            trial: the saga, started.
            plan: the same, as it gets in.

        Raises:
            AssertionError: what is not true.
        """
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                ended = await trial.end(plan, parks=parks(case.phase, case.fault))
                await plan.finish()
                withdrawn = await trial.was_withdrawn()
                wanted = frozenset({"Compensated"}) if withdrawn else expected(case.phase, case.fault)
                assert ended.status in wanted, f"it has ended as {ended.status}, not as {' or '.join(sorted(wanted))}"
                assert case.point in plan.reached, f"it has never come to {case.point}"
                await self._check(trial, ended, plan)
        except TimeoutError as error:
            raise AssertionError(f"it hangs: {await trial.story()}") from error
        except Exception as error:
            error.add_note(await trial.story())
            raise
        finally:
            plan.let_go.set()

    async def _undos(
        self, scenario: Scenario[Any], mount: Mount, failing: tuple[Point, Fault]
    ) -> dict[str, str | None]:
        """The undos of a saga that is made to turn back: the step, and by what it was undone."""
        back = await self._dry_run(scenario, mount, failing, "Compensated")
        return {point.where: step.undo for point, step in back.steps.items() if point.undo}

    async def _is_asked(self, scenario: Scenario[Any], mount: Mount, call: Step) -> bool:
        """Whether somebody is asked what became of a call when nobody has heard of it."""
        seen = await self._dry_run(scenario, mount, call.unknown, "Completed", "Compensated")
        return Point(f"{call.where}{ASK}") in seen.steps

    async def _dry_run(
        self, scenario: Scenario[Any], mount: Mount, fault: tuple[Point, Fault] | None, *wanted: str
    ) -> Plan:
        """Let a saga go well, or have one fault."""
        trial, wanted = Trial(scenario, self.world, self.settings.task_queue), wanted or ("Completed",)
        plan = trial.plan(self.injector, [fault] if fault else [])
        try:
            await trial.start(mount)
            async with asyncio.timeout(LONGEST_SECONDS):
                ended = await trial.end(plan)
                await plan.finish()
            assert ended.status in wanted, f"the dry run of {scenario.name} has ended as {ended.status}"
            await self._check(trial, ended, plan)
        finally:
            plan.let_go.set()
            self.injector.drop(plan)
        return plan

    async def _check(self, trial: Trial, ended: Ended[Any], plan: Plan) -> None:
        workflows = [*self.app.workflows, Compensation]
        replayer = Replayer(workflows=workflows, workflow_runner=RUNNER, data_converter=converter(self.settings))
        await check_end(trial, ended, plan, replayer)
        await trial.scenario.check(ended)
        if not ended.completed:
            await check_undos(trial, self.settings.task_queue)
            await trial.scenario.check(ended)
