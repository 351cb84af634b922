"""What steps, undos and titles in the source of a process are called."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Literal

from temporalio import activity

from amends.messages import Command
from amends.outline.scope import Scope, Term, expand, meaning
from amends.steps import Call

__all__ = ["Kind", "argument", "is_saga", "named", "question_of", "saga_method", "source_of", "title_of"]

Kind = Literal["command", "call", "unclear"]

METHODS = {"do", "wait", "sleep", "all", "sub", "child"}
"""What a saga is told its story by."""

LONGEST_PLACEHOLDER = 40
"""Longer expressions in a title are shown as an ellipsis."""


def argument(call: ast.Call, place: int, name: str) -> ast.expr | None:
    """What a call gives for a parameter.

    Args:
        call: the call.
        place: the parameter's place, or -1 when it is by name only.
        name: the parameter's name.
    """
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    return call.args[place] if 0 <= place < len(call.args) else None


def is_saga(term: Term) -> bool:
    """Whether an expression stands for the process's saga."""
    match term.node:
        case ast.Attribute(value=ast.Name(id=receiver), attr="saga"):
            holder = term.scope.of(receiver)
            return holder is not None and holder.receiver == receiver
        case ast.Name(id=name):
            holder = term.scope.of(name)
            if holder is None:
                return False
            terms = term.scope.terms(name)
            return name in holder.sagas or (bool(terms) and all(is_saga(each) for each in terms))
    return False


def saga_method(function: ast.expr, scope: Scope) -> set[str]:
    """The methods of the saga that an expression may stand for; none when it is something else."""
    found = set()
    for term in expand(Term(function, scope)) if isinstance(function, ast.Name) else [Term(function, scope)]:
        match term.node:
            case ast.Attribute(value=base, attr=name) if is_saga(Term(base, term.scope)) and name in METHODS:
                found.add(name)
            case _:
                return set()
    return found


def named(node: ast.expr, scope: Scope) -> tuple[Kind, str] | None:
    """What kind of step an expression is, and the name of its message or activity; None when it stands for None.

    Args:
        node: a command, a call, or a function that makes one.
        scope: where its names are looked up.
    """
    found = [each for term in expand(Term(node, scope)) if (each := _named(term)) is not None]
    if not found:
        return None
    kinds: set[Kind] = {kind for kind, _ in found}
    kind = kinds.pop() if len(kinds) == 1 else "unclear"
    return kind, " or ".join(dict.fromkeys(name for _, name in found))


def _named(term: Term) -> tuple[Kind, str] | None:
    match term.node:
        case ast.Constant(value=None):
            return None
        case ast.Call(func=function) as call:
            made = meaning(Term(function, term.scope))
            if isinstance(made, type) and issubclass(made, Command):
                return "command", made.message_name or made.__qualname__
            if made is Call:
                called = argument(call, 0, "activity")
                return "call", _activity(Term(called, term.scope)) if called is not None else ast.unparse(call)
    return "unclear", ast.unparse(term.node)


def _activity(term: Term) -> str:
    names = []
    for each in [term] if isinstance(term.node, ast.Attribute) else expand(term):
        function = meaning(each)
        definition = activity._Definition.from_callable(function) if callable(function) else None
        names.append(definition.name if definition and definition.name else ast.unparse(each.node))
    return " or ".join(dict.fromkeys(names))


def title_of(node: ast.expr | None, scope: Scope) -> str:
    """A title as written, with what is filled in at run time in braces."""
    match node:
        case None:
            return ""
        case ast.Constant(value=value):
            return str(value)
        case ast.JoinedStr(values=parts):
            return "".join(title_of(part, scope) for part in parts)
        case ast.FormattedValue(value=value):
            return title_of(value, scope)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return title_of(left, scope) + title_of(right, scope)
        case ast.Name(id=name) if len(terms := scope.terms(name)) == 1 and _is_text(terms[0]):
            return title_of(terms[0].node, terms[0].scope)
    source = ast.unparse(node)
    return f"{{{source if len(source) <= LONGEST_PLACEHOLDER else '…'}}}"


def _is_text(term: Term) -> bool:
    match term.node:
        case ast.Constant(value=str()) | ast.JoinedStr():
            return True
        case ast.Name(id=name):
            return len(terms := term.scope.terms(name)) == 1 and _is_text(terms[0])
    return False


def source_of(node: ast.expr, scope: Scope) -> str:
    """An expression as written; of a name that stands for one thing only, that thing."""
    terms = scope.terms(node.id) if isinstance(node, ast.Name) else []
    return ast.unparse(terms[0].node if len(terms) == 1 else node)


def question_of(node: ast.expr, told: Callable[[ast.expr], str]) -> str:
    """A condition as written, but for what is awaited in it.

    Args:
        node: the condition.
        told: says what takes the place of something awaited.
    """

    class Asked(ast.NodeTransformer):
        def visit_Await(self, node: ast.Await) -> ast.expr:
            return ast.Name(told(node.value))

    return ast.unparse(Asked().visit(deepcopy(node)))


def every(node: ast.AST) -> Iterator[ast.AST]:
    """Everything inside a node that is done when the node is: functions made there are not."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from every(child)
