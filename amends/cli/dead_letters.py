"""`amends views dead-letters …`: look at events that could not be applied, have them tried again, or leave them out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer
from pydantic_core import to_json
from rich.table import Table
from rich.text import Text

from amends.cli.people import Json, answers, print_json, reached, screen, told_to_people
from amends.errors import NothingToDo, StartupError
from amends.projection_operator import DeadLetter, ProjectionOperator, open_operator
from amends.records import Position
from amends.settings import Settings

__all__ = ["dead_letters"]

T = TypeVar("T")

Name = Annotated[str, typer.Argument(help="The projection, e.g. order_history.")]
Key = Annotated[str, typer.Argument(help="Whose events: the key, as `list` shows it.")]
Actor = Annotated[str, typer.Option("--actor", help="Who you are, for the log.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the log.")]


def list_(
    name: Annotated[str | None, typer.Argument(help="Only of that projection.")] = None,
    skipped: Annotated[bool, typer.Option("--skipped", help="Also those that were skipped for good.")] = False,
    json: Json = False,
) -> None:
    """List the parked events."""
    found = _asked(lambda operator: operator.dead_letters(name, skipped=skipped))
    if json:
        return print_json(found)
    table = Table("Projection", "Build", "Key", "Event", "Position", "State", "Attempts", "Why")
    for each in found:
        table.add_row(
            each.projection,
            f"{each.version}.{each.generation}",
            each.key,
            each.event,
            f"{each.position}",
            each.state,
            str(each.attempts),
            each.error or "waits behind an earlier one",
        )
    answers().print(table)


def show(name: Name, key: Key, json: Json = False) -> None:
    """Show the parked events of a key with what they say; that may be personal data."""

    async def ask(operator: ProjectionOperator) -> list[tuple[DeadLetter, Any]]:
        letters = await operator.dead_letters(name, key, skipped=True)
        return [(letter, await operator.data(Position(letter.xid, letter.position))) for letter in letters]

    found = _asked(ask)
    if not found:
        raise NothingToDo(f"No events of key {key!r} are parked in projection {name!r}")
    if json:
        return print_json([{**letter.model_dump(mode="json"), "data": data} for letter, data in found])
    out = answers()
    for letter, data in found:
        out.print()
        out.print(Text.assemble((letter.event, "bold"), f" at {letter.position} of {letter.stream}: {letter.state}"))
        for told, value in (("why", letter.error), ("data", to_json(data).decode()), ("reason", letter.reason)):
            if value is not None:
                out.print(f"  {told:<7} {value}", soft_wrap=True, highlight=False)


def retry(name: Name, key: Key, actor: Actor, reason: Reason) -> None:
    """Have the parked events of a key applied once more, in order, by whoever follows the projection."""
    number = _asked(lambda operator: operator.retry(name, key, actor, reason))
    screen.print(
        f"{number} events of {key} are tried again. `amends views dead-letters list {name}` tells what is left."
    )


def skip(
    name: Name,
    position: Annotated[int, typer.Argument(help="Number of the event, as `list` shows it.")],
    actor: Actor,
    reason: Reason,
) -> None:
    """Leave a parked event out for good, and have those behind it applied; the record stays."""
    _asked(lambda operator: operator.skip(name, position, actor, reason))
    screen.print(f"The event at {position} is skipped. `amends views dead-letters list {name}` tells what is left.")


def dead_letters() -> typer.Typer:
    """The commands, to be mounted as `dead-letters`."""
    line = typer.Typer(no_args_is_help=True, help="Events that could not be applied: look, try again, leave out.")
    for name, command in _COMMANDS.items():
        line.command(name)(told_to_people(command))
    return line


_COMMANDS: dict[str, Callable[..., Any]] = {"list": list_, "show": show, "retry": retry, "skip": skip}


def _asked(question: Callable[[ProjectionOperator], Awaitable[T]]) -> T:
    async def ask() -> T:
        settings = reached(Settings())
        if settings.database_url is None:
            raise StartupError("Say which database: set AMENDS_DATABASE_URL, or run `amends up` here")
        async with open_operator(settings.database_url.get_secret_value()) as operator:
            return await question(operator)

    return asyncio.run(ask())
