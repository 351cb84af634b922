"""Shows a trace to people, as a tree."""

from __future__ import annotations

from datetime import datetime

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from amends.cli.history import time_of
from amends.trace import Asked, Led, Trace, Workflow

__all__ = ["show_trace"]

MARKS = {"done": ("✔", "green"), "refused": ("✘", "red"), "begun": ("?", "yellow")}
"""How it went, at a glance; the last one is a call whose answer is not known."""

STATUSES = {"Completed": "green", "Compensated": "yellow", "NeedsAttention": "bold red", "Running": "cyan"}
"""How some statuses stand out."""

NOTE = "✔ has read past the event, … has not yet. When it did so is not recorded; when it last moved is:"
"""What is known of the readers of the feed, and what is not."""


def show_trace(trace: Trace, console: Console) -> None:
    """Print a trace: workflows, what they asked for, the events, and who has read those.

    Args:
        trace: what belongs together.
        console: where to.
    """
    for workflow in trace.workflows:
        tree = Tree(_title(workflow, child=False), guide_style="dim")
        _grow(tree, workflow)
        console.print(tree)
    console.print()
    console.print(Text(NOTE, style="dim"))
    for reader in trace.readers:
        told = f"{reader.name} v{reader.version}  {time_of(reader.moved_at)}  at {reader.position}"
        console.print(Text(f"  {told}", style="dim"))


def _grow(tree: Tree, workflow: Workflow) -> None:
    for part in workflow.parts:
        if isinstance(part, Workflow):
            _grow(tree.add(_title(part, child=True)), part)
        else:
            _add(tree, part)


def _title(workflow: Workflow, *, child: bool) -> Text:
    told = Text(workflow.id or "(no workflow)", style="bold")
    told.append(f"  {workflow.process}" if workflow.process else "", style="bold cyan")
    if workflow.status is not None:
        told.append(f"  {workflow.status}", style=STATUSES.get(workflow.status, ""))
    told.append(f" ({workflow.reason})" if workflow.reason else "")
    told.append(f"  {time_of(workflow.started_at)}", style="dim")
    if workflow.ended_at is not None:
        told.append(f"  {_took(workflow.started_at, workflow.ended_at)}", style="dim")
    told.append("  child workflow" if child else "", style="dim")
    if workflow.causation_id != workflow.id and not child:
        told.append(f"  because of {workflow.causation_id}", style="dim")
    return told


def _add(tree: Tree, asked: Asked) -> None:
    mark, style = MARKS[asked.outcome]
    told = Text()
    if asked.kind == "repair":
        told.append("⚒ " if asked.name != "saga.park" else "⏸ ", style="bold red")
        told.append(f"{asked.name.partition('.')[2]} by {asked.actor}: {asked.title or 'the saga'}")
        told.append(f"  {asked.message}" if asked.message else "", style="dim")
    else:
        told.append(f"{mark} ", style=style)
        told.append("↩ " if asked.kind == "undo" else "")
        told.append(asked.title or asked.name)
        told.append(f"  {asked.name}", style="cyan")
        told.append(f" → {asked.stream}" if asked.stream else "", style="dim")
    if asked.refusal is not None:
        told.append(f"  {asked.refusal}", style="red")
        told.append(f": {asked.message}", style="dim")
    told.append("  no way back from here" if asked.pivot else "", style="bold")
    told.append(f"  attempt {asked.attempt}" if asked.attempt > 1 else "", style="yellow")
    told.append(f"  {_took(asked.started_at, asked.ended_at)}", style="dim")
    branch = tree.add(told)
    for sent in asked.sent:
        _add(branch, sent)
    for event in asked.led:
        _add_event(branch, event)


def _add_event(tree: Tree, event: Led) -> None:
    told = Text(event.name, style="magenta")
    told.append(f"  {event.stream} v{event.version}")
    told.append(f"  {time_of(event.at)}  at {event.position}", style="dim")
    told.append("".join(f"  ✔ {name}" for name in event.read), style="green")
    told.append("".join(f"  … {name}" for name in event.unread), style="yellow")
    branch = tree.add(told)
    for started in event.started:
        branch.add(Text(f"led to {started}"))


def _took(start: datetime, end: datetime) -> str:
    seconds = (end - start).total_seconds()
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"
