"""Reads a process's source, statement by statement, and follows the helpers that it awaits."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from amends.outline.model import (
    Arm,
    Block,
    Choice,
    End,
    Jump,
    Mount,
    Node,
    Outline,
    Part,
    Step,
    Together,
    Try,
    Unclear,
    Wait,
    walk,
)
from amends.outline.naming import argument, every, is_saga, question_of, saga_method, title_of
from amends.outline.parts import (
    catches_the_undone,
    choice,
    end,
    leaves,
    loop,
    outside_of,
    step,
    wait,
    without_last_return,
    workflow_name,
)
from amends.outline.scope import Function, Scope, Term, enter, expand, label_of, meaning, names_in
from amends.process import Process

__all__ = ["outline"]

MOUNTS: dict[str, Literal["sub", "child"]] = {"sub": "sub", "child": "child"}
"""The methods that mount a process."""

_RUN = ast.Call(ast.Attribute(ast.Name("self"), "run"), [], [])
"""What starts it all."""


def outline(process: type[Process[Any, Any]]) -> Outline:
    """Read what a process does from its definition.

    Args:
        process: a workflow class; what its source does not tell is `Unclear` in the outline.
    """
    return _Reader(process, ()).read()


class _Reader:
    """Reads one process.

    Args:
        process: its class.
        within: the processes that it is mounted in, so that one mounted in itself is not read for ever.
    """

    def __init__(self, process: type[Any], within: tuple[type[Any], ...]) -> None:
        self.process = process
        self.within = (*within, process)
        self.deadline = ""
        self.following: list[Function] = []

    def read(self) -> Outline:
        name, summary = workflow_name(self.process), (inspect.getdoc(self.process) or "").split("\n\n")[0]
        entered = enter(_RUN, outside_of(self.process))
        body = self._function(*entered) if entered else (Unclear(f"{name}.run: its source is not there"),)
        return Outline(name, " ".join(summary.split()), self.deadline, body)

    def _function(self, node: Function, scope: Scope) -> Block:
        self.following.append(node)
        body = without_last_return(self.block(node.body, scope))
        self.following.pop()
        return body

    # statements

    def block(self, statements: Iterable[ast.stmt], scope: Scope) -> Block:
        nodes: list[Node] = []
        for statement in statements:
            nodes.extend(self.statement(statement, scope))
            if nodes and isinstance(nodes[-1], (End, Jump)):
                break  # what stands below is never come to
        return tuple(nodes)

    def statement(self, statement: ast.stmt, scope: Scope) -> Iterator[Node]:
        match statement:
            case ast.If(test=test, body=body, orelse=orelse):
                yield from self.expression(test, scope)
                arms = (Arm("yes", self.block(body, scope)), Arm("no", self.block(orelse, scope)))
                yield from choice(self.question(test, scope), arms)
            case ast.For() | ast.AsyncFor():
                yield from self.expression(statement.iter, scope)
                over = label_of(statement).removeprefix("for ")
                yield from loop("for", over, self.block(statement.body, scope))
                yield from self.block(statement.orelse, scope)
            case ast.While(test=test, body=body, orelse=orelse):
                asked, turn = tuple(self.expression(test, scope)), self.block(body, scope)
                question = self.question(test, scope)
                if asked:  # what is awaited in the condition comes before it, in every turn
                    go_on = Choice(question, (Arm("yes", ()), Arm("no", (Jump("break"),))))
                    yield from loop("while", "", (*asked, go_on, *turn))
                else:
                    yield from loop("while", "" if question == "True" else question, turn)
                yield from self.block(orelse, scope)
            case ast.With() | ast.AsyncWith():
                yield from self.block_within(statement, scope)
            case ast.Try() | ast.TryStar():
                yield from self.trying(statement, scope)
            case ast.Match(subject=subject, cases=cases):
                yield from self.expression(subject, scope)
                yield from choice(self.question(subject, scope), self.cases(cases, scope))
            case ast.Return(value=value):
                yield from self.expression(value, scope) if value else ()
                yield Jump("return")
            case ast.Break():
                yield Jump("break")
            case ast.Continue():
                yield Jump("continue")
            case ast.Raise(exc=error):
                yield from self.expression(error, scope) if error else ()
                yield end(error, scope)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                pass
            case _:
                for child in ast.iter_child_nodes(statement):
                    if isinstance(child, ast.expr):
                        yield from self.expression(child, scope)

    def block_within(self, statement: ast.With | ast.AsyncWith, scope: Scope) -> Iterator[Node]:
        for item in statement.items:
            opened = item.context_expr
            match opened:
                case ast.Call(func=ast.Attribute(value=base, attr="within")) if is_saga(Term(base, scope)):
                    limit = argument(opened, 0, "")
                    self.deadline = ast.unparse(limit or opened.keywords[0].value) if limit or opened.keywords else ""
                    opened = base
            names = set(names_in(item.optional_vars)) if item.optional_vars else set()
            if is_saga(Term(opened, scope)):
                scope.sagas |= names
            else:
                scope.opaque |= names
                yield from self.expression(opened, scope)
        yield from self.block(statement.body, scope)

    def trying(self, statement: ast.Try | ast.TryStar, scope: Scope) -> Iterator[Node]:
        body = (*self.block(statement.body, scope), *self.block(statement.orelse, scope))
        handlers = tuple(
            Arm(ast.unparse(each.type) if each.type else "anything", self.block(each.body, scope))
            for each in statement.handlers
        )
        # what a process answers after it was undone is no step of it
        kept = tuple(
            arm
            for arm, each in zip(handlers, statement.handlers, strict=True)
            if not (catches_the_undone(each, scope) and all(isinstance(node, Jump) for node in arm.body))
        )
        if not any(not isinstance(node, Jump) for node in body):
            yield from body
        elif kept:
            yield Try(body, kept)
        else:
            yield from body
        yield from self.block(statement.finalbody, scope)

    def cases(self, cases: Sequence[ast.match_case], scope: Scope) -> tuple[Arm, ...]:
        arms = []
        for case in cases:
            guard = f" if {self.question(case.guard, scope)}" if case.guard else ""
            asked = tuple(self.expression(case.guard, scope)) if case.guard else ()
            pattern = ast.unparse(case.pattern)
            label = "otherwise" if pattern == "_" and not guard else pattern + guard
            arms.append(Arm(label, (*asked, *self.block(case.body, scope))))
        last = cases[-1]
        if last.guard or not (isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None):
            arms.append(Arm("otherwise", ()))
        return tuple(arms)

    # expressions

    def expression(self, node: ast.AST, scope: Scope) -> Iterator[Node]:
        """What is awaited in an expression, in the order in which that happens."""
        match node:
            case ast.Await(value=value):
                yield from self.awaited(Term(value, scope))
            case ast.Lambda():
                pass
            case ast.IfExp(test=test, body=body, orelse=orelse):
                yield from self.expression(test, scope)
                arms = (Arm("yes", self._all_of(body, scope)), Arm("no", self._all_of(orelse, scope)))
                yield from choice(self.question(test, scope), arms)
            case ast.BoolOp(op=op, values=[first, *others]):
                yield from self.expression(first, scope)
                rest = tuple(found for other in others for found in self.expression(other, scope))
                yes, no = (rest, ()) if isinstance(op, ast.And) else ((), rest)
                yield from choice(self.question(first, scope), (Arm("yes", yes), Arm("no", no)))
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                yield from self.comprehension(node, scope)
            case _:
                for child in ast.iter_child_nodes(node):
                    yield from self.expression(child, scope)

    def question(self, test: ast.expr, scope: Scope) -> str:
        """A condition as written; of a wait it asks whether that ended in time."""

        def told(awaited: ast.expr) -> str:
            match tuple(self.awaited(Term(awaited, scope))):
                case (*_, Wait(kind="wait")):
                    return "in time"
            return ast.unparse(awaited)

        return question_of(test, told)

    def _all_of(self, node: ast.AST, scope: Scope) -> Block:
        return tuple(self.expression(node, scope))

    def comprehension(self, node: ast.expr, scope: Scope) -> Iterator[Node]:
        loops: list[ast.comprehension] = node.generators  # type: ignore[attr-defined]  # the four that have them
        inner = scope.inside(name for loop in loops for name in names_in(loop.target))
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]  # type: ignore[attr-defined]
        body = tuple(found for part in parts for found in self.expression(part, inner))
        for each in reversed(loops):
            body = loop("for", label_of(each).removeprefix("for "), body)
        yield from body

    def awaited(self, term: Term) -> Iterator[Node]:
        """What awaiting an expression comes to."""
        node, scope = term.node, term.scope
        if isinstance(node, ast.IfExp):
            ways = {"yes": node.body, "no": node.orelse}
            arms = tuple(Arm(label, tuple(self.awaited(Term(way, scope)))) for label, way in ways.items())
            yield from self.expression(node.test, scope)
            yield from choice(self.question(node.test, scope), arms)
            return
        if isinstance(node, ast.Name) and len(terms := scope.terms(node.id)) == 1 and terms[0].node is not node:
            yield from self.awaited(terms[0])
            return
        if not isinstance(node, ast.Call):
            yield Unclear(ast.unparse(node))
            return
        for given in (*node.args, *(keyword.value for keyword in node.keywords)):
            if any(isinstance(each, ast.Await) for each in every(given)):
                yield from self.expression(given, scope)
        yield from self.called(node, scope)

    def called(self, call: ast.Call, scope: Scope) -> Iterator[Node]:
        methods = saga_method(call.func, scope)
        if methods and methods <= MOUNTS.keys():
            yield self.mount(call, scope, "either" if len(methods) > 1 else MOUNTS[methods.pop()])
        elif methods == {"do"}:
            yield step(call, scope)
        elif methods == {"wait"}:
            yield wait(call, scope, "wait")
        elif methods == {"sleep"}:
            yield wait(call, scope, "sleep")
        elif methods == {"all"} or ast.unparse(call.func) in ("asyncio.gather", "gather"):
            arms = tuple(arm for given in call.args for arm in self.side_by_side(Term(given, scope), ""))
            yield from (Together(arms),) if arms else ()
        elif (entered := enter(call, scope)) and entered[0] not in self.following:
            body = self._function(*entered)
            if any(isinstance(node, Unclear) for node in walk(body)) and not any(map(_is_story, walk(body))):
                yield Unclear(ast.unparse(call))  # a library's inside would tell nobody anything
                return
            returns = any(isinstance(node, Jump) and node.kind == "return" for node in leaves(body))
            yield from (Part(entered[0].name, body),) if returns else body
        else:
            yield Unclear(ast.unparse(call))

    def side_by_side(self, term: Term, label: str) -> Iterator[Arm]:
        """The arms that an argument of `saga.all` stands for."""
        node, scope = term.node, term.scope
        match node:
            case ast.Starred(value=value):
                yield from self.side_by_side(Term(value, scope), label)
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                for part in parts:
                    yield from self.side_by_side(Term(part, scope), label)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                yield from self.side_by_side(Term(left, scope), label)
                yield from self.side_by_side(Term(right, scope), label)
            case ast.GeneratorExp(elt=part, generators=loops) | ast.ListComp(elt=part, generators=loops):
                inner = scope.inside(name for loop in loops for name in names_in(loop.target))
                labels = [label, *map(label_of, loops)]
                yield from self.side_by_side(Term(part, inner), " ".join(filter(None, labels)))
            case ast.Name(id=name) if (holder := scope.of(name)) is not None and name in holder.appended:
                for each in scope.terms(name):
                    yield from self.side_by_side(each, label)
                for loop, item in holder.appended[name]:
                    yield from self.side_by_side(Term(item, holder), " ".join(filter(None, (label, loop))))
            case ast.Name(id=name) if len(terms := scope.terms(name)) == 1:
                yield from self.side_by_side(terms[0], label)
            case ast.Call() if not saga_method(node.func, scope) and (entered := enter(node, scope)):
                if isinstance(entered[0], ast.AsyncFunctionDef):
                    yield Arm(label, tuple(self.awaited(term)))
                else:
                    for each in expand(term):
                        same = each.node is node
                        yield from (
                            (Arm(label, (Unclear(ast.unparse(node)),)),) if same else self.side_by_side(each, label)
                        )
            case _:
                yield Arm(label, tuple(self.awaited(term)))

    def mount(self, call: ast.Call, scope: Scope, how: Literal["sub", "child", "either"]) -> Mount:
        name, mounted = argument(call, 0, "name"), argument(call, 1, "process")
        process = meaning(Term(mounted, scope)) if mounted is not None else None
        if not isinstance(process, type):
            return Mount(title_of(name, scope), ast.unparse(mounted or call), how)
        inner = None if process in self.within else _Reader(process, self.within).read()
        return Mount(title_of(name, scope), workflow_name(process), how, inner)


def _is_story(node: Node) -> bool:
    return isinstance(node, (Step, Wait, Mount)) or (isinstance(node, End) and node.refusal)
