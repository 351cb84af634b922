"""Typed questions to the views: a SQLAlchemy select, answered in pydantic rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

from pydantic import BaseModel
from sqlalchemy import Select, TextualSelect

from amends.sources import views_in

__all__ = ["Query", "first", "many"]

T = TypeVar("T")
R = TypeVar("R", bound=BaseModel)


@dataclass(frozen=True)
class Query(Generic[T]):
    """A question and how its answer is read: made by `many` or `first`.

    Args:
        statement: a select over views.
        read: turns the rows found into the answer.
        refused: what it means when the database refuses it: SQLSTATE → the argument that asked too much, and why.
    """

    statement: Select[Any] | TextualSelect
    read: Callable[[Sequence[Mapping[Any, Any]]], T]
    refused: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @cached_property
    def views(self) -> frozenset[str]:
        """The views it asks, found in the statement."""
        return views_in(self.statement)


def many(statement: Select[Any] | TextualSelect, row: type[R]) -> Query[list[R]]:
    """A query for all rows.

    Args:
        statement: a select whose columns are the fields of the row class; `text("select …").columns()` will do.
        row: the class of its rows.
    """
    return Query(statement, lambda found: [row.model_validate(dict(one)) for one in found])


def first(statement: Select[Any], row: type[R]) -> Query[R | None]:
    """A query for the first row, or None when there is none; arguments as for `many`."""
    return Query(statement.limit(1), lambda found: row.model_validate(dict(found[0])) if found else None)
