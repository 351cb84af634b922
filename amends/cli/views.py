"""`amends views …`: how the read models stand; rebuild, roll back, pause, and put right what is parked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer
from rich.table import Table

from amends.app import load_app
from amends.cli.dead_letters import dead_letters
from amends.cli.people import Json, answers, database_of, print_json, reached, screen, told_to_people
from amends.cli.rebuilding import cancel_rebuild, follow_rebuild
from amends.database import open_pool
from amends.errors import InvalidInput, StartupError
from amends.log_check import Unreadable, check_log
from amends.orphans import declared, drop_orphan
from amends.projection_operator import ProjectionOperator, ProjectionStatus, open_operator
from amends.rebuild_request import RebuildRequest, Who
from amends.settings import Settings
from amends.swapping import drop_old as drop_kept
from amends.swapping import roll_back

__all__ = ["views"]

T = TypeVar("T")

Name = Annotated[str, typer.Argument(help="The projection, e.g. order_history.")]
Actor = Annotated[str, typer.Option("--actor", help="Who you are, for the log.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the log.")]


def list_(json: Json = False) -> None:
    """List the read models and process managers, every build of them."""
    found = _asked(lambda operator: operator.status())
    _name_orphans(found)
    _tell(found, json)


def status(
    name: Annotated[str | None, typer.Argument(help="Only that projection.")] = None, json: Json = False
) -> None:
    """Say how the served read models stand; exit 1 when one of them is not healthy."""
    found = [each for each in _asked(lambda operator: operator.status(name)) if each.state != "kept"]
    _name_orphans(found)
    _tell(found, json)
    if not all(each.healthy for each in found):
        raise typer.Exit(1)


def rebuild(
    name: Name,
    actor: Actor,
    reason: Reason,
    throttle: Annotated[float | None, typer.Option(min=0.1, help="Events a second, at most; 0.1 and more.")] = None,
    accept: Annotated[bool, typer.Option("--accept", help="Swap even where the rows differ.")] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Stop the one that runs, and drop what it has built.")
    ] = False,
    json: Json = False,
) -> None:
    """Build a read model anew beside the one that is served, and let it take its place; readers see no gap.

    Ctrl-C leaves it running; the same command follows it again.
    """
    settings = reached(Settings())
    if cancel:
        asyncio.run(cancel_rebuild(settings, name, _who(actor, reason)))
        screen.print(f"The rebuild of {name} is cancelled, and what it had built is dropped.")
        return
    versions = {each.name: each.version for each in load_app(settings.app).projections}
    if name not in versions:
        raise InvalidInput({"name": f"there is no projection {name!r}; there are {', '.join(sorted(versions))}"})
    who = _who(actor, reason)
    request = RebuildRequest(
        name=name, version=versions[name], accept=accept, throttle=throttle, actor=who.actor, reason=who.reason
    )
    done = asyncio.run(follow_rebuild(settings, request))
    if json:
        print_json(done)
    if done.outcome == "differs":
        raise typer.Exit(1)


def rollback(name: Name, actor: Actor, reason: Reason) -> None:
    """Show again what was shown before the last swap, at once; it catches up from where it was left."""
    who = _who(actor, reason)
    version, generation = asyncio.run(roll_back(_owner_url(), name, who.actor, who.reason))
    screen.print(f"The views of {name} show version {version}, generation {generation} again.")


def drop_old(name: Name, actor: Actor, reason: Reason) -> None:
    """Drop the builds that are kept for a rollback; all of a read model that the application no longer has."""
    who, app = _who(actor, reason), load_app(Settings().app)
    if name not in declared(app):
        gone = drop_orphan(_owner_url(), app, name, who.actor, who.reason)
        screen.print(f"All of {name} is dropped: {', '.join(gone) or 'its checkpoint'}.")
        return
    for version, generation in drop_kept(_owner_url(), name, who.actor, who.reason):
        screen.print(f"Version {version}, generation {generation} of {name} is dropped.")


def pause(name: Name, actor: Actor, reason: Reason) -> None:
    """Stop a read model or process manager until it is resumed, whatever is restarted meanwhile."""
    _asked(lambda operator: operator.pause(name, actor, reason))
    screen.print(f"{name} is paused. `amends views resume {name}` lets it go on.")


def resume(name: Name, actor: Actor, reason: Reason) -> None:
    """Let a paused read model or process manager go on."""
    _asked(lambda operator: operator.resume(name, actor, reason))
    screen.print(f"{name} goes on.")


def check(json: Json = False) -> None:
    """Read the whole log, and list the events that this code can't read; exit 1 when there are any."""
    load_app(Settings().app)  # its events are known from here on

    async def read() -> list[Unreadable]:
        from amends.cli.rebuilding import progress

        async with open_pool(_url(), "projector", 1) as pool, open_operator(_url()) as operator:
            with progress() as shown:
                task = shown.add_task("Reading", total=await operator.head() or None)
                return await check_log(pool, lambda number: shown.advance(task, number))

    found = asyncio.run(read())
    if json:
        print_json(found)
    elif found:
        table = Table("Event", "Schema version", "Events", "First at", "Why")
        for each in found:
            table.add_row(each.name, str(each.schema_version), f"{each.count:,}", each.first, each.error)
        answers().print(table)
    else:
        screen.print("This code can read every event of the log.")
    if found:
        raise typer.Exit(1)


def views() -> typer.Typer:
    """The commands, to be mounted as `views`."""
    line = typer.Typer(no_args_is_help=True, help="How the read models stand; rebuild, roll back, pause, repair.")
    for name, command in _COMMANDS.items():
        line.command(name)(told_to_people(command))
    line.add_typer(dead_letters(), name="dead-letters")
    return line


_COMMANDS: dict[str, Callable[..., Any]] = {
    "list": list_,
    "status": status,
    "rebuild": rebuild,
    "rollback": rollback,
    "drop-old": drop_old,
    "pause": pause,
    "resume": resume,
    "check": check,
}


def _who(actor: str, reason: str) -> Who:
    blank = {name: "say it" for name, said in (("actor", actor), ("reason", reason)) if not said.strip()}
    if blank:
        raise InvalidInput(blank)
    return Who(actor=actor, reason=reason)


def _url() -> str:
    return database_of(Settings())


def _owner_url() -> str:
    return database_of(Settings(), owner=True)


def _asked(question: Callable[[ProjectionOperator], Awaitable[T]]) -> T:
    async def ask() -> T:
        async with open_operator(_url()) as operator:
            return await question(operator)

    return asyncio.run(ask())


def _name_orphans(found: list[ProjectionStatus]) -> None:
    """Say which of those that nobody follows the application no longer has; without its code, nobody can tell."""
    try:
        known = declared(load_app(Settings().app))
    except (StartupError, ImportError):
        return
    for each in found:
        if each.projection not in known and not each.healthy:
            each.problem = f"the application has none of this name; `amends views drop-old {each.projection}` drops it"


def _tell(found: list[ProjectionStatus], json: bool) -> None:
    if json:
        return print_json(found)
    table = Table("Projection", "Build", "Served", "State", "Position", "Behind", "Events/s", "Problem")
    for each in found:
        behind = f"{each.lag_events:,} events, {each.lag_seconds:,.0f} s" if each.lag_events else ""
        table.add_row(
            each.projection,
            f"{each.version}.{each.generation}",
            "yes" if each.served else "",
            each.state,
            f"{each.xid}:{each.position}",
            behind,
            f"{each.rate or 0:,.0f}",
            each.problem or "",
            style=None if each.healthy else "red",
        )
    answers().print(table)
