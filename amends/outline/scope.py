"""What a name in the source of a process may stand for, as far as the source tells it."""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import FunctionType
from typing import Any

__all__ = ["Definition", "Function", "Scope", "Term", "definition_of", "enter", "expand", "label_of", "meaning"]

DEPTH = 12
"""How far one name is followed to the next; deeper it stays as it is written."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Term:
    """An expression, and where its names are to be looked up."""

    node: ast.expr
    scope: Scope


@dataclass(slots=True)
class Scope:
    """The names inside one function.

    Args:
        owner: the process class, which `self` is one of.
        home: the class that the function is written in.
        names: its module's names, and those of functions around it.
        receiver: what it calls `self` or `cls`; empty for a plain function.
        given: its parameters, as its caller gave them.
        assigned: its variables, with everything they are set to.
        appended: what is appended to its lists, with the loop (or empty) around that.
        functions: those defined inside it.
        opaque: names whose values only running tells.
        sagas: names that stand for the saga.
        around: the scope that this one is inside of.
    """

    owner: type
    home: type
    names: Mapping[str, Any]
    receiver: str = ""
    given: dict[str, Term] = field(default_factory=dict)
    assigned: dict[str, list[ast.expr]] = field(default_factory=dict)
    appended: dict[str, list[tuple[str, ast.expr]]] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    opaque: set[str] = field(default_factory=set)
    sagas: set[str] = field(default_factory=set)
    around: Scope | None = None

    def has(self, name: str) -> bool:
        """Whether the name is the function's own."""
        known = (self.given, self.assigned, self.functions, self.opaque, self.sagas)
        return name == self.receiver or any(name in each for each in known)

    def of(self, name: str) -> Scope | None:
        """The innermost scope that has a name; None when it is the module's."""
        scope: Scope | None = self
        while scope is not None and not scope.has(name):
            scope = scope.around
        return scope

    def terms(self, name: str) -> list[Term]:
        """What a name may stand for; none when that is not known."""
        scope = self.of(name)
        if scope is None or name in scope.opaque:
            return []
        given = [scope.given[name]] if name in scope.given else []
        return given + [Term(node, scope) for node in scope.assigned.get(name, ())]

    def inside(self, opaque: Iterator[str]) -> Scope:
        """The scope of a lambda or a comprehension in this one."""
        return Scope(self.owner, self.home, self.names, opaque=set(opaque), around=self)


class _Names(ast.NodeVisitor):
    """Collects what a function does to its names."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.loops: list[str] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.scope.functions[node.name] = node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.scope.functions[node.name] = node

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """Its names are its own."""

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._assign(target, node.value)
        self.visit(node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._assign(node.target, node.value)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._assign(node.target, node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._hide(node.target)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self._hide(node.target)
        self.loops.append(label_of(node))
        self.generic_visit(node)
        self.loops.pop()

    def visit_AsyncFor(self, node: ast.AsyncFor) -> None:
        self.visit_For(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self.scope.opaque |= {node.name} if node.name else set()
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self.scope.opaque |= {node.name} if node.name else set()
        self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        self.scope.opaque |= {node.name} if node.name else set()

    def visit_Call(self, node: ast.Call) -> None:
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="append"), args=[item]):
                self.scope.appended.setdefault(name, []).append((" ".join(self.loops), item))
        self.generic_visit(node)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        match target, value:
            case ast.Name(id=name), _:
                self.scope.assigned.setdefault(name, []).append(value)
            case ((ast.Tuple(elts=to) | ast.List(elts=to)), (ast.Tuple(elts=parts) | ast.List(elts=parts))) if len(
                to
            ) == len(parts):
                for one, part in zip(to, parts, strict=True):
                    self._assign(one, part)
            case ((ast.Tuple(elts=to) | ast.List(elts=to)), _):
                for place, one in enumerate(to):
                    self._assign(one, ast.Subscript(value, ast.Constant(place)))
            case ast.Starred(value=inner), _:
                self._hide(inner)

    def _hide(self, target: ast.expr) -> None:
        self.scope.opaque |= set(names_in(target))


def names_in(target: ast.AST) -> Iterator[str]:
    """The plain names in an assignment's target."""
    return (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def label_of(loop: ast.For | ast.AsyncFor | ast.comprehension) -> str:
    """A loop's heading, as written."""
    conditions = "".join(f" if {ast.unparse(test)}" for test in getattr(loop, "ifs", ()))
    return f"for {ast.unparse(loop.target)} in {ast.unparse(loop.iter)}{conditions}"


@dataclass(frozen=True, slots=True)
class Definition:
    """A function as written, and the object it is."""

    node: Function
    names: Mapping[str, Any]


@cache
def definition_of(function: FunctionType) -> Definition | None:
    """A function's source; None when there is none."""
    try:
        source = inspect.getsource(function)
        # an indented method is put into a block, for taking the indentation away could spoil texts of several lines
        tree = ast.parse(f"if True:\n{source}" if source[:1].isspace() else source)
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        around = {name: cell.cell_contents for name, cell in cells}
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    found = (node for node in ast.walk(tree) if isinstance(node, Function))
    node = next((node for node in found if node.name == function.__name__), None)
    return None if node is None else Definition(node, {**function.__globals__, **around})


def enter(call: ast.Call, scope: Scope) -> tuple[Function, Scope] | None:
    """The function that a call is of, and its names with the parameters as given; None when that is not clear."""
    match call.func:
        case ast.Name(id=name) if (holder := scope.of(name)) is not None and name in holder.functions:
            return _inside(holder.functions[name], call, scope, holder, holder.names, holder.home, None)
        case ast.Attribute(value=base, attr=name):
            found = _method(base, name, scope)
        case _:
            function = meaning(Term(call.func, scope))
            found = (function, scope.home, False) if isinstance(function, FunctionType) else None
    if found is None:
        return None
    function, home, bound = found
    definition = definition_of(inspect.unwrap(function))
    return None if definition is None else _inside(definition.node, call, scope, None, definition.names, home, bound)


def _method(base: ast.expr, name: str, scope: Scope) -> tuple[FunctionType, type, bool] | None:
    """The method (or a module's function), the class it is written in, and whether its first parameter is bound."""
    lookup: Sequence[type] | None = None
    match base:
        case ast.Name(id=receiver) if (holder := scope.of(receiver)) is not None and receiver == holder.receiver:
            lookup, of_self = holder.owner.__mro__, True
        case ast.Call(func=ast.Name(id="super"), args=[]):
            mro = scope.owner.__mro__
            lookup, of_self = mro[mro.index(scope.home) + 1 :] if scope.home in mro else (), True
        case _:
            found = meaning(Term(base, scope))
            lookup, of_self = found.__mro__ if isinstance(found, type) else None, False
    if lookup is None:
        function = meaning(Term(ast.Attribute(base, name), scope))
        return (function, scope.home, False) if isinstance(function, FunctionType) else None
    for home in lookup:
        match vars(home).get(name):
            case FunctionType() as function:
                return function, home, of_self
            case classmethod(__func__=FunctionType() as function):
                return function, home, True
            case staticmethod(__func__=FunctionType() as function):
                return function, home, False
    return None


def _inside(
    node: Function,
    call: ast.Call,
    caller: Scope,
    around: Scope | None,
    names: Mapping[str, Any],
    home: type,
    bound: bool | None,
) -> tuple[Function, Scope]:
    parameters = [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
    scope = Scope(caller.owner, home, names, around=around)
    if bound and parameters:
        scope.receiver = parameters.pop(0)
    outside = Scope(caller.owner, home, names, around=around)
    defaults = node.args.defaults
    for parameter, default in zip(parameters[len(parameters) - len(defaults) :], defaults, strict=False):
        scope.given[parameter] = Term(default, outside)
    for keyword, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        if value is not None:
            scope.given[keyword.arg] = Term(value, outside)
    plain = call.args[: next((n for n, each in enumerate(call.args) if isinstance(each, ast.Starred)), len(call.args))]
    scope.given |= {name: Term(each, caller) for name, each in zip(parameters, plain, strict=False)}
    scope.given |= {each.arg: Term(each.value, caller) for each in call.keywords if each.arg is not None}
    if node.args.vararg is not None:
        rest: list[ast.expr] = call.args[len(parameters) :]
        scope.given[node.args.vararg.arg] = Term(ast.Tuple(rest), caller)
    own = [*parameters, *(each.arg for each in node.args.kwonlyargs)]
    own += [node.args.kwarg.arg] if node.args.kwarg else []
    scope.opaque = {name for name in own if name not in scope.given}
    read = _Names(scope)
    for statement in node.body:
        read.visit(statement)
    return node, scope


def returns_of(node: Function) -> list[ast.expr]:
    """What a function may return, in the order written; functions inside it are not looked into."""
    found: list[ast.expr] = []
    waiting: list[ast.AST] = list(reversed(node.body))
    while waiting:
        each = waiting.pop()
        if isinstance(each, ast.Return) and each.value is not None:
            found.append(each.value)
        elif not isinstance(each, (*Function.__args__, ast.Lambda)):
            waiting.extend(reversed(list(ast.iter_child_nodes(each))))
    return found


def meaning(term: Term, depth: int = DEPTH) -> Any:
    """The object that an expression certainly stands for: a class, a function, a module; None when it is not clear."""
    node, scope = term.node, term.scope
    match node:
        case ast.Name(id=name) if (holder := scope.of(name)) is not None:
            if name == holder.receiver:
                return holder.owner
            terms = scope.terms(name)
            return meaning(terms[0], depth - 1) if len(terms) == 1 and depth > 0 else None
        case ast.Name(id=name):
            return scope.names.get(name, getattr(builtins, name, None))
        case ast.Attribute(value=base, attr=name):
            found = inspect.getattr_static(meaning(Term(base, scope), depth), name, None)
            return found.__func__ if isinstance(found, (staticmethod, classmethod)) else found
        case ast.Subscript(value=base):
            found = meaning(Term(base, scope), depth)
            return found if isinstance(found, type) else None
    return None


def expand(term: Term, depth: int = DEPTH) -> list[Term]:
    """Everything an expression may stand for, followed through variables, conditions and what functions return."""
    node, scope = term.node, term.scope
    further: list[Term] = []
    match node:
        case ast.Name(id=name) if terms := scope.terms(name):
            further = terms
        case ast.IfExp(body=body, orelse=orelse):
            further = [Term(body, scope), Term(orelse, scope)]
        case ast.Lambda(body=body, args=arguments):
            further = [Term(body, scope.inside(each.arg for each in ast.walk(arguments) if isinstance(each, ast.arg)))]
        case ast.NamedExpr(value=value) | ast.Await(value=value):
            further = [Term(value, scope)]
        case ast.Subscript(value=value, slice=ast.Constant(value=int(place))):
            further = [part for each in expand(Term(value, scope), depth - 1) for part in _item(each, place)]
        case ast.Call():
            further = _returned(node, scope)
        case ast.Attribute() | ast.Name():
            further = _returned(ast.Call(node, [], []), scope)
    if not further or depth <= 0:
        return [term]
    return [each for one in further for each in expand(one, depth - 1)]


def _returned(call: ast.Call, scope: Scope) -> list[Term]:
    entered = enter(call, scope)
    return [Term(value, entered[1]) for value in returns_of(entered[0])] if entered else []


def _item(term: Term, place: int) -> list[Term]:
    match term.node:
        case ast.Tuple(elts=parts) | ast.List(elts=parts) if place < len(parts):
            return [Term(parts[place], term.scope)]
        case ast.ListComp(elt=part, generators=loops) | ast.GeneratorExp(elt=part, generators=loops):
            return [Term(part, term.scope.inside(name for loop in loops for name in names_in(loop.target)))]
    return []
