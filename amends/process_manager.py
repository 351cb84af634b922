"""Declares a process manager: which event starts or signals which workflow."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, TypeAdapter, ValidationError
from temporalio import workflow

from amends.handling import handle
from amends.messages import Event
from amends.process import Process
from amends.records import Recorded
from amends.values import problems_of

__all__ = ["ProcessManager", "Reaction", "Reacts", "Signal", "Start"]

E = TypeVar("E", bound=Event)
Request = TypeVar("Request", bound=BaseModel)
Argument = TypeVar("Argument")

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,50}")


@dataclass(frozen=True)
class Start(Generic[Request]):
    """Start a process: a saga like any other, whose workflow id comes from the event.

    Args:
        process: its workflow class.
        request: what its `run` takes.
        labels: business keys for its log lines.
        attributes: business keys to find it by in Temporal, as keywords.
        summary: what lists show of it; the process's name when not given.
    """

    process: type[Process[Request, Any]]
    request: Request
    labels: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""


@dataclass(frozen=True)
class Signal(Generic[Argument]):
    """Signal a workflow that runs; to one that has ended, or never was, it is nothing but a warning in the log.

    Args:
        workflow_id: which one; of the saga that led to an event, that is the event's correlation id.
        signal: the method of its class.
        argument: what the method takes, if it takes anything.

    Raises:
        TypeError: that is no signal, or takes another argument; the workflow would drop it unseen.
    """

    workflow_id: str
    signal: Callable[[Any, Argument], Awaitable[None] | None] | Callable[[Any], Awaitable[None] | None]
    argument: Argument | None = None

    def __post_init__(self) -> None:
        _, takes = _definition(self.signal)
        if takes is None and self.argument is not None:
            raise TypeError(f"The signal {self.name!r} takes no argument")
        try:
            if takes is not None:
                takes.validate_python(self.argument)
        except ValidationError as error:
            raise TypeError(f"The signal {self.name!r} takes another argument: {problems_of(error)}") from None

    @property
    def name(self) -> str:
        """What the signal is called."""
        return _definition(self.signal)[0]

    @property
    def arguments(self) -> list[Any]:
        """What is sent along: one thing or nothing."""
        return [] if _definition(self.signal)[1] is None else [self.argument]


Reaction = Start[Any] | Signal[Any]
"""What an event leads to."""

Reacts = Callable[[E, Recorded], Reaction | Sequence[Reaction] | None]
"""How a process manager reacts to an event: a pure function of the event and its record."""


class ProcessManager:
    """Reacts to events: `replenishing = ProcessManager("replenishing")`, then a function for each event that matters.

    It follows the event log behind a checkpoint of its own. Each event acts once: what it starts has a workflow id,
    and what it signals a request id, that come from the event's id, so delivering it again has no effect. That holds
    for as long as Temporal remembers: a workflow until its retention is over, a signal until the workflow's run ends.

    A function that fails, or an event that can't be read, stops the manager there until it is mended and deployed.

    Args:
        name: names its checkpoint and begins its workflows' ids; another name makes it another manager.
        since: which events it reacts to when it is new to a database: those from now on, or all since the beginning.

    Raises:
        TypeError: the name can't be one.
    """

    def __init__(self, name: str, *, since: Literal["now", "beginning"] = "now") -> None:
        if not _NAME.fullmatch(name):
            raise TypeError(f"{name!r} is no name of a process manager: lower-case letters, digits, '_' and '-'")
        self.name, self.since = name, since
        self.handlers: dict[str, Reacts[Any]] = {}

    def on(self, event: type[E]) -> Callable[[Reacts[E]], Reacts[E]]:
        """Declare the reaction to an event: the function gets event and record, does nothing, and returns reactions.

        Args:
            event: the class; at most one function for each.

        Raises:
            TypeError: the event has a function already, or no name.
        """

        def register(handler: Reacts[E]) -> Reacts[E]:
            handle(f"Process manager {self.name!r}", self.handlers, event, handler)
            return handler

        return register

    def reactions(self, fact: Recorded) -> list[Reaction]:
        """What an event leads to, in order; nothing when no function is declared for it."""
        handler = self.handlers.get(fact.event.message_name)
        reaction = None if handler is None else handler(fact.event, fact)
        if reaction is None:
            return []
        reactions = [reaction] if isinstance(reaction, Start | Signal) else list(reaction)
        for each in reactions:
            if not isinstance(each, Start | Signal):
                raise TypeError(f"{handler!r} is to return Start or Signal, several of them, or None, not {each!r}")
        return reactions

    def id_of(self, event_id: UUID | str, number: int = 1) -> str:
        """The workflow id of what an event starts; the request id of what it signals.

        Args:
            event_id: of the event.
            number: which of the event's reactions, from 1.
        """
        return f"{self.name}-{event_id}" if number == 1 else f"{self.name}-{event_id}#{number}"


@cache
def _definition(signal: Callable[..., Any]) -> tuple[str, TypeAdapter[Any] | None]:
    """A signal's name, and what reads its argument; None where it takes none."""
    definition = workflow._SignalDefinition.from_fn(signal)
    if definition is None or definition.name is None:
        raise TypeError(f"{signal!r} is not a method decorated with @workflow.signal")
    takes = len(inspect.signature(signal).parameters) - 1
    if takes > 1:
        raise TypeError(f"The signal {definition.name!r} takes {takes} arguments; make them one")
    kinds = definition.arg_types or [Any]
    return definition.name, TypeAdapter(kinds[0]) if takes else None
