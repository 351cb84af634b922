"""Shows a stream's history to people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json
from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from amends.inspecting import Happened, History

__all__ = ["show_history", "time_of"]


def show_history(history: History, console: Console) -> None:
    """Print a history: each event with what it changed, the state then, the state now.

    Args:
        history: what has happened.
        console: where to.
    """
    console.print(Text.assemble((history.stream, "bold"), f"  {history.aggregate}, version {history.version}"))
    before = history.before
    for event in history.events:
        console.print()
        console.print(
            Text.assemble(
                (f"{event.version:>4}  ", "bold"), (event.name, "bold cyan"), f"  {time_of(event.at)}  by {event.actor}"
            )
        )
        console.print(Padding(_details(event, before), (0, 0, 0, 6)))
        before = event.state
        if event.version == history.then_version:
            _show_state(f"at version {event.version}", history.then, console)
    if history.then_version is not None and history.then_version not in {event.version for event in history.events}:
        _show_state(f"at version {history.then_version}", history.then, console)
    _show_state(f"now, at version {history.version}", history.now, console)


def time_of(at: datetime) -> str:
    """A time as people read it, in UTC to the millisecond."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"


def _details(event: Happened, before: Mapping[str, Any] | None) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    if event.problem is not None:
        table.add_row("unreadable", Text(event.problem, style="red"))
    for name, value in (event.facts or {}).items():
        table.add_row(name, _text(value))
    if event.state is not None and before is not None:
        for name, change in _changes(before, event.state):
            table.add_row(f"→ {name}", Text(change, style="green"))
    table.add_row("command", Text(f"{event.command or '?'}  {event.command_id}", style="dim"))
    return table


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The fields that an event has changed."""
    for name, value in after.items():
        if before.get(name) != value:
            yield name, f"{_plain(before.get(name))} → {_plain(value)}"


def _show_state(told: str, state: Mapping[str, Any] | None, console: Console) -> None:
    console.print()
    console.print(Rule(f"state {told}", align="left", style="dim"))
    if state is None:
        console.print("not known: this code can't read an event before it", style="red")
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in state.items():
        table.add_row(name, _text(value))
    console.print(Padding(table, (0, 0, 0, 6)))


def _text(value: Any) -> Text:
    return Text(_plain(value))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value).decode()
