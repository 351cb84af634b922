"""Which views a statement reads, and which projections keep those: found in it, not declared by its author."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import Executable, Table, TextClause
from sqlalchemy.sql.expression import ClauseElement, ColumnClause, FunctionElement
from sqlalchemy.sql.visitors import iterate

if TYPE_CHECKING:
    from amends.projection import Projection

__all__ = ["Composed", "Sources", "views_in", "views_in_text"]

_NAMED = re.compile(r"""(?<![\w.])"?views"?\s*\.\s*"?(\w+)"?""", re.IGNORECASE)
"""A name in the schema `views`, however it is quoted."""


class Composed(Protocol):
    """A view built upon other views."""

    @property
    def name(self) -> str:
        """Of the view."""

    @property
    def sql(self) -> str:
        """What it selects."""


def views_in(statement: Executable) -> frozenset[str]:
    """The views that a statement names, wherever in it: in joins, subqueries, CTEs, pieces of plain SQL."""
    assert isinstance(statement, ClauseElement)
    found: set[str] = set()
    for part in iterate(statement):
        match part:
            case Table(schema="views"):
                found.add(part.name)
            case TextClause():
                found |= views_in_text(part.text)
            case ColumnClause(is_literal=True):
                found |= views_in_text(part.name)
            case FunctionElement() if "views" in getattr(part, "packagenames", ()):
                found.add(str(getattr(part, "name", "")))
            case _:
                pass
    return frozenset(found)


def views_in_text(sql: str) -> frozenset[str]:
    """The views that a piece of SQL names; names in mere words count too, which does no harm."""
    return frozenset(name.lower() for name in _NAMED.findall(sql))


class Sources:
    """Tells which projections keep a view.

    Args:
        projections: those whose views are asked.
        composed: views built upon theirs.
    """

    def __init__(self, projections: Iterable[Projection] = (), composed: Iterable[Composed] = ()) -> None:
        kept = [(table.name, each.name) for each in projections for table in each.tables.values() if table.view]
        self._kept: dict[str, frozenset[str]] = {view: frozenset({name}) for view, name in kept}
        self._read = {view.name: views_in_text(view.sql) for view in composed}
        self.projections = tuple(dict.fromkeys(name for _, name in kept))

    def of(self, views: Collection[str]) -> frozenset[str] | None:
        """The projections that keep these views; None when one of them is kept in another way, or none is given."""
        found: set[str] = set()
        for view in views:
            names = self._of(view)
            if names is None:
                return None
            found |= names
        return frozenset(found) or None

    def resolve(self, names: Iterable[str], known: Mapping[str, object]) -> frozenset[str]:
        """The projections that names mean: each is a view's, a projection's, or both.

        Args:
            names: as callers say them.
            known: projections there are.

        Returns:
            names of projections; a name that is neither stays as it is.
        """
        found: set[str] = set()
        for name in names:
            kept = self._of(name)
            found |= kept or {name}
            if name in known:
                found.add(name)
        return frozenset(found)

    def _of(self, view: str) -> frozenset[str] | None:
        if view in self._kept:
            return self._kept[view]
        if view not in self._read:
            return None
        return self.of(self._read[view])
