"""Keyset pagination: a page of rows, and a cursor from which the next one goes on whatever was written meanwhile."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from sqlalchemy import ColumnElement, Date, DateTime, RowMapping, Select, literal, tuple_
from sqlalchemy.dialects.postgresql.base import PGDialect

from amends.asking import PAGE, limit_problem, unaskable
from amends.errors import InvalidInput
from amends.query import Query

__all__ = ["Page", "between", "paged"]

T = TypeVar("T")
R = TypeVar("R", bound=BaseModel)

_DIALECT = PGDialect(paramstyle="named")  # type: ignore[no-untyped-call]


class Page(BaseModel, Generic[T]):
    """Some rows, in order.

    Args:
        items: the rows.
        next: hand it in as `after` for the rows that follow; None when there were none.
    """

    items: list[T]
    next: str | None = None


def paged(
    statement: Select[Any],
    row: type[R],
    *,
    by: Sequence[ColumnElement[Any]],
    descending: bool = False,
    limit: int = PAGE,
    after: str | None = None,
) -> Query[Page[R]]:
    """A query for one page: as many rows as the limit says, behind those that a cursor has seen.

    A page begins behind a row, not at a number, so rows that come or go elsewhere neither repeat others nor hide
    them; and with an index on the columns of `by` the last page costs what the first one does. A row that comes before
    the cursor is not seen by who has passed there: so what happened, event by event, is walked by the event's `xid`,
    then `position`. In that order rows become visible; by a clock, or by position alone, one may come in between later.

    Args:
        statement: a select without order and limit, its filters applied.
        row: the class of its rows.
        by: columns of the select that put the rows in order, never null, the last one telling all rows apart.
        descending: largest first.
        limit: most rows, 1 to 1000.
        after: a page's `next`; from the start when not given.

    Raises:
        InvalidInput: the limit is none, or the cursor is not of this very question; names the field.
    """
    if problem := limit_problem(limit):
        raise InvalidInput({"limit": problem})
    names = [str(column.key) for column in by]
    question = _fingerprint(statement, names, descending)
    wanted = statement
    if after is not None:
        last = [literal(value, column.type) for value, column in zip(_read(after, question, by), by, strict=True)]
        here, there = tuple_(*by), tuple_(*last)
        wanted = wanted.where(here < there if descending else here > there)
    wanted = wanted.order_by(*(column.desc() if descending else column.asc() for column in by)).limit(limit + 1)

    def read(found: Sequence[RowMapping | Mapping[str, Any]]) -> Page[R]:
        items = [row.model_validate(dict(one)) for one in found[:limit]]
        more = len(found) > limit
        return Page(items=items, next=_cursor(question, [found[limit - 1][name] for name in names]) if more else None)

    return Query(wanted, read)


def between(
    column: ColumnElement[Any], since: date | None, until: date | None, *, names: tuple[str, str] = ("since", "until")
) -> list[ColumnElement[bool]]:
    """Conditions for a time or a day within bounds.

    Args:
        column: of times with time zone, then from `since` on and before `until`; or of days, then both included.
        since: None for no bound.
        until: likewise.
        names: what the bounds are called, for complaints.

    Raises:
        InvalidInput: a bound is of another kind than the column, or has no time zone; names it.
    """
    days = isinstance(column.type, Date)
    wants = "a date" if days else "a datetime with time zone"
    found = []
    for name, bound in zip(names, (since, until), strict=True):
        if bound is None:
            continue
        if isinstance(bound, datetime) == days or (isinstance(bound, datetime) and bound.tzinfo is None):
            raise InvalidInput({name: f"must be {wants}, not {bound!r:.50}"})
        if problems := unaskable(bound, name):
            raise InvalidInput(problems)
        edge = literal(bound.astimezone(UTC) if isinstance(bound, datetime) else bound, column.type)
        if name == names[0]:
            found.append(column >= edge)
        else:
            found.append(column <= edge if days else column < edge)
    return found


def _fingerprint(statement: Select[Any], names: Sequence[str], descending: bool) -> str:
    """What a question is told by: its SQL with the values of its filters, and its order."""
    compiled = statement.compile(dialect=_DIALECT)
    told = f"{compiled}\n{sorted(compiled.params.items())!r}\n{names}\n{descending}"
    return _digest(told.encode())


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()[:16]


def _cursor(question: str, values: Sequence[Any]) -> str:
    told = TypeAdapter(list[Any]).dump_json(list(values))
    return urlsafe_b64encode(f"{_digest(question.encode() + told)}{told.decode()}".encode()).decode().rstrip("=")


def _read(cursor: str, question: str, by: Sequence[ColumnElement[Any]]) -> list[Any]:
    """The values that a cursor has come to; it bears a checksum of them and of its question."""
    try:
        text = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        sum_, told = text[:16], text[16:]
        if sum_.decode() != _digest(question.encode() + told):
            raise ValueError
        values = json.loads(told)
        found = [_reader(column)(value) for column, value in zip(by, values, strict=True)]
        if unaskable(found):  # the checksum is no secret
            raise ValueError
        return [value.astimezone(UTC) if isinstance(value, datetime) else value for value in found]
    except (NotBase64, ValueError, AttributeError, RecursionError, ValidationError) as error:
        problem = "is not the `next` of a page of this very question, with the same filters and order"
        raise InvalidInput({"after": problem}) from error


def _reader(column: ColumnElement[Any]) -> Callable[[Any], Any]:
    return TypeAdapter(datetime if isinstance(column.type, DateTime) else column.type.python_type).validate_python
