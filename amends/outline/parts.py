"""Makes the nodes of an outline out of pieces of source, and leaves out those that say nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from temporalio import workflow

from amends.errors import Refused
from amends.outcomes import SagaUndone
from amends.outline.model import Arm, Block, Choice, End, Jump, Loop, Node, Step, Try, Wait
from amends.outline.naming import argument, named, source_of, title_of
from amends.outline.scope import Scope, Term, expand, meaning

__all__ = [
    "catches_the_undone",
    "choice",
    "end",
    "leaves",
    "loop",
    "outside_of",
    "step",
    "wait",
    "without_last_return",
    "workflow_name",
]


def workflow_name(process: type[Any]) -> str:
    """What a process is called in Temporal; its class's name when it is no workflow."""
    definition = workflow._Definition.from_class(process)
    return definition.name if definition and definition.name else process.__qualname__


def outside_of(process: type[Any]) -> Scope:
    """Where somebody stands who calls `self.…` of a process."""
    return Scope(process, process, {}, receiver="self")


def step(call: ast.Call, scope: Scope) -> Step:
    """The step that a call of `saga.do` is."""
    done, undo = argument(call, 1, "step"), argument(call, -1, "undo")
    kind, name = (named(done, scope) if done is not None else None) or ("unclear", ast.unparse(call))
    undone = named(undo, scope) if undo is not None else None
    ask = next(filter(None, (_ask(term) for term in expand(Term(done, scope)))), None) if done is not None else None
    return Step(
        title_of(argument(call, 0, "title"), scope),
        kind,
        name,
        undone[1] if undone else None,
        undo_last=_is_true(argument(call, -1, "undo_last")),
        pivot=_is_true(argument(call, -1, "pivot")),
        ask=ask,
    )


def _ask(made: Term) -> str | None:
    """The name of the call that asks what became of this one."""
    ask = argument(made.node, 3, "ask") if isinstance(made.node, ast.Call) else None
    found = named(ask, made.scope) if ask is not None else None
    return found[1] if found else None


def _is_true(node: ast.expr | None) -> bool:
    """Whether a switch is, or may be, set."""
    return node is not None and not (isinstance(node, ast.Constant) and not node.value)


def wait(call: ast.Call, scope: Scope, kind: Literal["wait", "sleep"]) -> Wait:
    """The wait that a call of `saga.wait` or `saga.sleep` is."""
    longest = argument(call, 1, "duration") if kind == "sleep" else argument(call, -1, "timeout")
    until = argument(call, -1, "until")
    limit = source_of(longest, scope) if longest is not None else ""
    limit = f"until {source_of(until, scope)}" if until is not None else limit
    return Wait(title_of(argument(call, 0, "title"), scope), kind, limit)


def end(error: ast.expr | None, scope: Scope) -> End:
    """The end that a `raise` is."""
    if error is None:
        return End("", refusal=False)
    made = error.func if isinstance(error, ast.Call) else error
    kind = meaning(Term(made, scope))
    return End(ast.unparse(made), refusal=isinstance(kind, type) and issubclass(kind, Refused))


def catches_the_undone(handler: ast.ExceptHandler, scope: Scope) -> bool:
    """Whether this is what a process does once its saga is undone."""
    return handler.type is not None and meaning(Term(handler.type, scope)) is SagaUndone


def choice(question: str, arms: tuple[Arm, ...]) -> Block:
    """A choice, unless nothing hangs on it."""
    return (Choice(question, arms),) if any(arm.body for arm in arms) else ()


def loop(kind: Literal["for", "while"], over: str, body: Block) -> Block:
    """A loop, unless nothing of the story happens in it."""
    turns = body[:-1] if body[-1:] == (Jump("continue"),) else body
    return (Loop(kind, over, turns),) if any(node != Jump("break") for node in leaves(turns)) else ()


def leaves(block: Block) -> Iterator[Node]:
    """The nodes of a block that are no choice, those of its parts too; what a part or a mount is made of is not."""
    for node in block:
        match node:
            case Choice(arms=arms):
                for arm in arms:
                    yield from leaves(arm.body)
            case Try(body=body, handlers=handlers):
                for inside in (body, *(arm.body for arm in handlers)):
                    yield from leaves(inside)
            case Loop(body=body):
                yield from leaves(body)
            case _:
                yield node


def without_last_return(body: Block) -> Block:
    """A function's body without the returns at its very end, which change nothing."""
    match body:
        case (*before, Jump(kind="return")):
            return without_last_return(tuple(before))
        case (*before, Choice() as last):
            arms = tuple(replace(arm, body=without_last_return(arm.body)) for arm in last.arms)
            return (*before, *choice(last.question, arms))
        case (*before, Try() as last):
            handlers = tuple(replace(arm, body=without_last_return(arm.body)) for arm in last.handlers)
            return (*before, Try(without_last_return(last.body), handlers))
    return body
