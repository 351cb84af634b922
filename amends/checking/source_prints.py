"""Fingerprints of functions: what they do, whatever it looks like; of all that they call in the application, too.

Comments, docstrings, formatting and annotations don't count, nor does the module that a function stands in. What
libraries and the engine do is left out: they change for everybody at once, and say so themselves.
"""

from __future__ import annotations

import ast
import inspect
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from amends.errors import InvalidInput

__all__ = ["print_of"]

PLAIN = (type(None), bool, int, float, complex, str, bytes, Decimal, date, time, timedelta, Enum)
"""Constants whose value is what they are."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda


def print_of(function: Callable[..., Any], *methods: Callable[..., Any]) -> str:
    """The fingerprint of a function.

    Args:
        function: of the application.
        methods: of what it is handed, which it may call.

    Raises:
        InvalidInput: a source can't be read.
    """
    prints = [_Prints().of(each) for each in (function, *methods)]
    return sha256("\n".join([*prints[:1], *sorted(prints[1:])]).encode()).hexdigest()[:16]


class _Prints:
    """Fingerprints that refer to each other; those within themselves end where they began."""

    def __init__(self) -> None:
        self._under_way: list[object] = []

    def of(self, thing: Any) -> str:
        """Of a function or class and of what it uses."""
        if thing in self._under_way:
            return f"within {len(self._under_way) - self._under_way.index(thing)}"
        self._under_way.append(thing)
        try:
            node = _definition(thing)
            used = {name: self._used(value) for name, value in _used_by(thing, node)}
            text = "\n".join([_text(node), *(f"{name}={print_}" for name, print_ in sorted(used.items()) if print_)])
            return sha256(text.encode()).hexdigest()
        finally:
            self._under_way.pop()

    def _used(self, value: Any) -> str:
        if isinstance(value, partial):
            return f"{self._used(value.func)} {self._used(value.args)} {self._used(value.keywords)}"
        value = inspect.unwrap(value) if callable(value) and not isinstance(value, type) else value
        if isinstance(value, FunctionType | type):
            return self.of(value) if _of_application(value) else ""
        if not isinstance(value, Enum) and _of_application(type(value)):  # a value of the application's own
            return f"{self.of(type(value))} {_constant(getattr(value, '__dict__', {}))}"
        return _constant(value)


def _definition(thing: Any) -> Definition:
    """Its part of the source, as a tree."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError) as error:
        raise InvalidInput(
            {
                getattr(
                    thing, "__qualname__", repr(thing)
                ): f"its source can't be read ({error}); give it lines of its own"
            }
        ) from None
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    return next(node for node in ast.walk(tree) if isinstance(node, kinds))


def _used_by(thing: Any, node: Definition) -> Iterator[tuple[str, Any]]:
    """Names of the module, or of an outer function, that it uses, and what they stand for; annotations don't count."""
    if isinstance(thing, type):
        names: Mapping[str, Any] = vars(sys.modules[thing.__module__])
        closed: Mapping[str, Any] = {}
    else:
        names, closed = thing.__globals__, inspect.getclosurevars(thing).nonlocals
    for path in _paths(node):
        name, *rest = path.split(".")
        if name not in closed and name not in names:
            continue
        value = closed.get(name, names.get(name))
        while rest and isinstance(value, ModuleType):
            value = getattr(value, rest.pop(0), None)
        yield path, value


def _paths(node: Definition) -> Iterator[str]:
    """Dotted names that are read in a tree, the whole of each; inner functions included."""
    for part in ast.walk(_stripped(node)):
        if isinstance(part, ast.Attribute | ast.Name):
            names: list[str] = []
            at: ast.expr = part
            while isinstance(at, ast.Attribute):
                names.append(at.attr)
                at = at.value
            if isinstance(at, ast.Name):
                yield ".".join([at.id, *reversed(names)])


def _stripped(node: Any) -> Any:
    """A tree without docstrings, annotations, and the decorators and name of the outermost function."""
    node = _Strip().visit(deepcopy(node))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        node.decorator_list, node.name = [], "_"
    return node


class _Strip(ast.NodeTransformer):
    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        self.generic_visit(node)
        return ast.Assign([node.target], node.value) if node.value is not None else ast.Pass()

    def visit_Expr(self, node: ast.Expr) -> Any:
        plain_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.Pass() if plain_text else self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> Any:
        node.returns = None
        return self.generic_visit(node)


def _text(node: Definition) -> str:
    return _told(_stripped(node))


def _told(node: Any) -> str:
    """A tree as text that is the same in every version of Python: what is empty is left out."""
    if isinstance(node, ast.AST):
        fields = [(name, _told(value)) for name, value in ast.iter_fields(node) if name not in ("ctx", "kind")]
        return f"{type(node).__name__}({', '.join(f'{name}={told}' for name, told in fields if told)})"
    if isinstance(node, list):
        kept = [_told(part) for part in node if not isinstance(part, ast.Pass)]
        return f"[{', '.join(kept)}]" if kept else ""
    return "" if node is None else repr(node)


def _constant(value: Any) -> str:
    """A constant as text, the same in every run; nothing for what is no constant."""
    match value:
        case Enum():
            return f"{type(value).__name__}.{value.name}={_constant(value.value)}"
        case _ if isinstance(value, PLAIN):
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(map(_constant, value))}]"
        case set() | frozenset():
            return f"{{{', '.join(sorted(map(_constant, value)))}}}"
        case Mapping():
            return f"{{{', '.join(f'{_constant(key)}: {_constant(part)}' for key, part in value.items())}}}"
        case _:
            return ""


def _of_application(thing: Any) -> bool:
    """Whether the application itself has it: neither Python, nor a library, nor the engine."""
    module = getattr(thing, "__module__", None) or ""
    if module.partition(".")[0] in sys.stdlib_module_names | {"amends"}:
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return file is not None and not any(Path(file).is_relative_to(each) for each in libraries)
