"""Given a process manager, when this happens, then it starts or signals that workflow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar, Unpack

from pydantic import BaseModel, TypeAdapter

from amends.messages import Event
from amends.process import Process
from amends.process_manager import ProcessManager, Reaction, Signal, Start
from amends.testing.logged import Facts, listed, logged

__all__ = ["ManagerCase"]

Request = TypeVar("Request", bound=BaseModel)


@dataclass(frozen=True)
class ManagerCase:
    """A process manager under test, and how it reacted last; nothing runs but its functions.

    Args:
        manager: the process manager.
        reactions: what the last events led to, in order.
    """

    manager: ProcessManager
    reactions: tuple[Reaction, ...] = ()

    def when(self, *events: Event, **facts: Unpack[Facts]) -> Self:
        """Let it react to events.

        Args:
            events: what happens.
            facts: what the log tells of them besides, e.g. `correlation_id="order-o1"`; made up where it is not given.
        """
        rows = [logged(event, number, facts) for number, event in enumerate(events, 1)]
        reactions = [reaction for row in rows for reaction in self.manager.reactions(row.recorded())]
        for reaction in reactions:
            _travels(reaction.request if isinstance(reaction, Start) else reaction.argument)
        return replace(self, reactions=tuple(reactions))

    def then(self, *reactions: Reaction) -> Self:
        """Assert that it reacted exactly so, in this order."""
        assert self.reactions == reactions, f"expected:{listed(reactions)}\nbut got:{listed(self.reactions)}"
        return self

    def then_nothing(self) -> Self:
        """Assert that it left it at that."""
        return self.then()

    def then_starts(
        self,
        process: type[Process[Request, Any]],
        request: Request,
        *,
        labels: Mapping[str, str] | None = None,
        attributes: Mapping[str, str] | None = None,
        summary: str | None = None,
    ) -> Self:
        """Assert that it started one process and did nothing else; what is not named is not looked at."""
        wanted = {"labels": labels, "attributes": attributes, "summary": summary}
        named: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
        expected = Start(process, request, **named)
        match self.reactions:
            case (Start() as started,):
                return self.then(replace(expected, **{n: getattr(started, n) for n in wanted if n not in named}))
            case _:
                return self.then(expected)

    def then_signals(
        self, workflow_id: str, signal: Callable[..., Awaitable[None] | None], argument: Any = None
    ) -> Self:
        """Assert that it sent one signal and did nothing else."""
        return self.then(Signal(workflow_id, signal, argument))


def _travels(value: Any) -> None:
    """Assert that what goes along is the same on the other side, after its way as JSON."""
    kind = TypeAdapter(type(value))
    arrived = kind.validate_json(kind.dump_json(value))
    assert arrived == value, f"sent:{listed([value])}\nbut arrived:{listed([arrived])}"
