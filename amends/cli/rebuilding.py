"""Follows a rebuild for people: how far it is, how fast, how long it will take, and what came of it."""

from __future__ import annotations

import asyncio
from typing import Any

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from amends.cli.people import screen
from amends.connect import connect
from amends.errors import NothingToDo, ProjectionError, StartupError
from amends.projection_operator import ProjectionOperator, open_operator
from amends.rebuild_request import RebuildRequest, Rebuilt, Report, Who
from amends.rebuild_workflow import RebuildProjection, rebuild_id, start_rebuild
from amends.settings import Settings

__all__ = ["cancel_rebuild", "follow_rebuild", "progress"]

LOOK = 0.5
"""Seconds between two looks."""

NOBODY = 10.0
"""Seconds after which people are told that no worker has begun."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Events a second, of late."""
        return Text(f"{task.speed or 0:,.0f} events/s")


def progress() -> Progress:
    """A bar with rate and time to go, on standard error."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=screen)


async def follow_rebuild(settings: Settings, request: RebuildRequest) -> Rebuilt:
    """Start a rebuild, or find the one that runs, and follow it to its end.

    Args:
        settings: where the servers are.
        request: what is wanted.

    Raises:
        ProjectionError: it failed for good.
    """
    if settings.database_url is None:
        raise StartupError("Say which database: set AMENDS_DATABASE_URL, or run `amends up` here")
    client = await connect(settings)
    handle = await start_rebuild(client, request, settings.task_queue)
    name, url = request.name, settings.database_url.get_secret_value()
    try:
        async with open_operator(url) as operator:
            if request.throttle is not None and any(not one.served for one in await _building(operator, name)):
                await operator.throttle(name, request.throttle, request.actor, request.reason)
            done = await _followed(operator, handle, name)
    except asyncio.CancelledError:
        screen.print(
            f"The rebuild of {name} goes on by itself. The same command follows it again, `amends views status {name}` "
            f"shows it, and --cancel stops it.",
            highlight=False,
        )
        raise
    except WorkflowFailureError as error:
        raise ProjectionError(_cause(error)) from error
    _tell(request, done)
    return done


async def cancel_rebuild(settings: Settings, name: str, who: Who) -> None:
    """Stop the rebuild that runs, and drop what it has built; also one that waits for somebody to look at it.

    Raises:
        NothingToDo: none runs.
    """
    from amends.swapping import cancel_build

    client = await connect(settings)
    handle: WorkflowHandle[Any, Rebuilt] = client.get_workflow_handle_for(
        RebuildProjection.run, rebuild_id(name, settings.task_queue)
    )
    try:
        await handle.signal(RebuildProjection.cancel, who)
        done = await handle.result()
        if done.outcome != "cancelled":
            raise NothingToDo(f"The rebuild of {name!r} had ended already: {done.outcome}")
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        if settings.owner is None:
            raise NothingToDo(f"No rebuild of {name!r} runs") from None
        await asyncio.to_thread(cancel_build, settings.owner.get_secret_value(), name, who.actor, who.reason)


async def _building(operator: ProjectionOperator, name: str) -> list[Any]:
    return [each for each in await operator.status(name) if each.state != "kept" and not each.served]


async def _followed(operator: ProjectionOperator, handle: WorkflowHandle[Any, Rebuilt], name: str) -> Rebuilt:
    ending = asyncio.create_task(handle.result())
    clock = asyncio.get_running_loop().time
    began, warned = clock(), False
    try:
        with progress() as shown:
            task = shown.add_task(f"Rebuilding {name}", total=None)
            while not ending.done():
                building, head = await _building(operator, name), await operator.head()
                if building:
                    at = building[0].position
                    told = "Verifying" if at >= head else "Rebuilding"
                    shown.update(task, completed=at, total=max(head, 1), description=f"{told} {name}")
                    if building[0].state == "stopped":
                        shown.update(task, description=f"{name} is {building[0].problem}")
                elif not warned and clock() - began > NOBODY:
                    warned = True
                    screen.print("No worker has begun yet; one that has this version of the code must run.")
                await asyncio.wait({ending}, timeout=LOOK)
        return await ending
    finally:
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)


def _tell(request: RebuildRequest, done: Rebuilt) -> None:
    build = f"version {done.version}, generation {done.generation}"
    if done.report is not None:
        screen.print(_table(done.report))
    match done.outcome:
        case "swapped":
            screen.print(
                f"The views of {request.name} show {build}. The old tables are kept: `amends views rollback` brings "
                "them back, `amends views drop-old` drops them."
            )
        case "differs":
            screen.print(
                f"{build} of {request.name} differs, so the views still show the old one. Look at the rows; the same "
                "command with --accept swaps all the same, with --cancel drops it, and with neither builds it anew.",
                style="red",
            )
        case "cancelled":
            screen.print(f"The rebuild of {request.name} was cancelled.")
        case "nothing":
            screen.print(f"Nothing was to be done: {build} was turned down by somebody before.")


def _table(report: Report) -> Table:
    table = Table(
        "Table", "Rows before", "Rows now", "Only before", "Only now", "Different", "The first of them", "Must be"
    )
    for each in report.tables:
        counts = [f"{each.differing.get(kind, 0):,}" for kind in ("only_old", "only_new", "different")]
        first = "; ".join(f"{kind}: {', '.join(map(str, keys))}" for kind, keys in each.first.items())
        old = "" if each.old_rows is None else f"{each.old_rows:,}"
        counts = counts if each.compared else [""] * 3
        table.add_row(each.table, old, f"{each.new_rows:,}", *counts, first, "the same" if each.same else "")
    if report.newly_parked:
        table.caption = f"{len(report.newly_parked)} events are parked in the new one alone"
    return table


def _cause(error: WorkflowFailureError) -> str:
    cause: BaseException | None = error.cause
    while isinstance(cause, ActivityError) and cause.cause is not None:
        cause = cause.cause
    return cause.message if isinstance(cause, ApplicationError) else str(cause)
