"""What an outline consists of: plain data, read from a process's definition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Arm",
    "Block",
    "Choice",
    "End",
    "Jump",
    "Loop",
    "Mount",
    "Node",
    "Outline",
    "Part",
    "Step",
    "Together",
    "Try",
    "Unclear",
    "Wait",
    "walk",
]


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the saga, `saga.do`.

    Args:
        title: as written; what is filled in at run time stands in braces.
        kind: a command, a call that leaves the house, or unclear when the source does not say which.
        name: of the message or activity, e.g. `order.place`; several joined by " or "; source text when unclear.
        undo: name of what takes it back; None when nothing does.
        undo_last: its undo waits until the undos of all later steps are settled.
        pivot: from here the saga only goes forward.
        ask: name of the call that finds out what became of it when its outcome is unknown.
    """

    title: str
    kind: Literal["command", "call", "unclear"]
    name: str
    undo: str | None = None
    undo_last: bool = False
    pivot: bool = False
    ask: str | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """A durable wait for a condition (`saga.wait`) or for time to pass (`saga.sleep`).

    Args:
        title: as for a step.
        kind: which of the two.
        limit: how long, as written, e.g. `timedelta(days=3)` or `until due`; empty when it is not said.
    """

    title: str
    kind: Literal["wait", "sleep"]
    limit: str = ""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of several, or one of several things side by side.

    Args:
        label: when it is taken (`yes`, a case's pattern), or what it is repeated for (`for line in lines`), or empty.
        body: what happens there.
    """

    label: str
    body: Block


@dataclass(frozen=True, slots=True)
class Together:
    """Steps side by side, `saga.all`; an arm with a label stands for as many as its `for` gives."""

    arms: tuple[Arm, ...]


@dataclass(frozen=True, slots=True)
class Mount:
    """Another process inside this one.

    Args:
        name: its place in the saga.
        process: name of its class; source text when the source does not say which.
        how: sub (in the parent's history), child (in one of its own), either (decided at run time); its steps are
            undone alike.
        outline: its own outline; None when it is unclear, or mounted inside itself.
    """

    name: str
    process: str
    how: Literal["sub", "child", "either"]
    outline: Outline | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several ways: `if` (arms yes and no) or `match` (an arm for each case).

    Args:
        question: the condition or subject, as written.
        arms: each way; its body may be empty.
    """

    question: str
    arms: tuple[Arm, ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """Something repeated.

    Args:
        kind: `for` or `while`.
        over: `line in request.lines`, or the condition, as written; empty when only the body ends it.
        body: what is repeated.
    """

    kind: Literal["for", "while"]
    over: str
    body: Block


@dataclass(frozen=True, slots=True)
class Try:
    """Something whose failure is caught.

    Args:
        body: what may fail.
        handlers: an arm for each `except`, its label what is caught.
    """

    body: Block
    handlers: tuple[Arm, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A helper method that may return early; a `return` inside leaves it, and nothing more.

    Args:
        name: of the method.
        body: what it does.
    """

    name: str
    body: Block


@dataclass(frozen=True, slots=True)
class End:
    """The story ends here by an exception.

    Args:
        error: its class, as written; empty for a bare `raise`.
        refusal: whether it is a `Refused`, a rule's no.
    """

    error: str
    refusal: bool


@dataclass(frozen=True, slots=True)
class Jump:
    """Leaves the part or the process (`return`), or the loop (`break`), or its turn (`continue`)."""

    kind: Literal["return", "break", "continue"]


@dataclass(frozen=True, slots=True)
class Unclear:
    """Something awaited that the source does not tell enough about; shown as it is written."""

    source: str


Node = Step | Wait | Together | Mount | Choice | Loop | Try | Part | End | Jump | Unclear
"""What a block consists of."""

Block = tuple[Node, ...]
"""Nodes one after another."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A process as its definition tells it.

    Args:
        process: name of its workflow.
        summary: first sentence of its docstring.
        deadline: of the whole saga, as written; empty without one.
        body: what it does.
    """

    process: str
    summary: str
    deadline: str
    body: Block

    def steps(self) -> Iterator[Step]:
        """Every step as written, in order, those of mounted processes included."""
        return (node for node in walk(self.body) if isinstance(node, Step))


def walk(block: Block) -> Iterator[Node]:
    """Every node of a block and of what is inside it, in the order written.

    Args:
        block: an outline's body, or part of one.
    """
    for node in block:
        yield node
        match node:
            case Together(arms=arms) | Choice(arms=arms):
                parts = [arm.body for arm in arms]
            case Loop(body=body) | Part(body=body):
                parts = [body]
            case Try(body=body, handlers=handlers):
                parts = [body, *(arm.body for arm in handlers)]
            case Mount(outline=Outline(body=body)):
                parts = [body]
            case _:
                parts = []
        for part in parts:
            yield from walk(part)
