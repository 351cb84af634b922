"""The SQL interface as a thing of its own: what the schema `views` holds, its reference page, and what it promised."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection

from amends.errors import InvalidInput

__all__ = ["MARKER", "Difference", "PublicView", "ViewColumn", "compare", "promise", "public_views", "reference"]

VIEWS = """
select c.relname, coalesce(obj_description(c.oid, 'pg_class'), ''),
       array_agg(a.attname::text order by a.attnum),
       array_agg(format_type(a.atttypid, a.atttypmod) order by a.attnum),
       array_agg(coalesce(col_description(c.oid, a.attnum), '') order by a.attnum)
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = 'views'::regnamespace and c.relkind in ('v', 'm', 'r', 'p', 'f')
group by c.oid, c.relname order by c.relname
"""
"""Everything that can be selected from in the schema, with the comments; readers may ask this too."""

MARKER = "<!-- From here on written by `amends sql docs`: change the comments in the code, not this text. -->"
"""Ends the part of a page that people write."""


@dataclass(frozen=True)
class ViewColumn:
    """A column of a view: its name, its type as PostgreSQL writes it, what it means."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True)
class PublicView:
    """A view that people may build on."""

    name: str
    comment: str
    columns: tuple[ViewColumn, ...]


@dataclass(frozen=True)
class Difference:
    """How views differ from what was promised.

    Args:
        broken: what those who built on them would notice, a sentence each.
        added: views, and columns at the end of one, that nobody was promised yet.
    """

    broken: tuple[str, ...]
    added: tuple[str, ...]


def public_views(connection: Connection[Any]) -> list[PublicView]:
    """The views of a database, by name.

    Args:
        connection: of any role that may use the schema.
    """
    return [
        PublicView(name, comment, tuple(map(ViewColumn, *columns)))
        for name, comment, *columns in connection.execute(VIEWS).fetchall()
    ]


def reference(page: str, views: Sequence[PublicView]) -> str:
    """A page with the reference of these views below what people wrote.

    Args:
        page: as it is; everything up to `MARKER` stays.
        views: to be described.

    Raises:
        InvalidInput: the page has no marker.
    """
    written, marker, _ = page.partition(MARKER)
    if not marker:
        raise InvalidInput({"page": f"has no line {MARKER!r}, below which the reference goes"})
    parts = [written, marker, "\n\n## The views\n\n"]
    parts += [f"- [`views.{view.name}`](#views{view.name}): {_cell(view.comment)}\n" for view in views]
    for view in views:
        parts.append(f"\n### `views.{view.name}`\n\n{view.comment}\n\n| Column | Type | Meaning |\n|---|---|---|\n")
        parts += [f"| `{each.name}` | {each.type} | {_cell(each.comment)} |\n" for each in view.columns]
    return "".join(parts)


def promise(views: Sequence[PublicView]) -> str:
    """What is promised of views, as JSON to keep: each one's columns, in order, with their types."""
    promised = {view.name: [f"{each.name} {each.type}" for each in view.columns] for view in views}
    return json.dumps(promised, indent=2, ensure_ascii=False) + "\n"


def compare(promised: str, views: Sequence[PublicView]) -> Difference:
    """How views differ from what was promised: a column may be added at the end, and nothing else may happen to them.

    Args:
        promised: as `promise` wrote it.
        views: as they are.

    Raises:
        InvalidInput: that text is something else.
    """
    there = {view.name: [f"{each.name} {each.type}" for each in view.columns] for view in views}
    before = _promised(promised)
    broken: list[str] = []
    added = [f"views.{name}" for name in there if name not in before]
    for name, columns in before.items():
        if name not in there:
            broken.append(f"views.{name} is gone")
            continue
        broken += _broken(f"views.{name}", columns, there[name])
        added += [f"views.{name}.{column}" for column in there[name] if _name(column) not in map(_name, columns)]
    return Difference(tuple(broken), tuple(added))


def _broken(view: str, before: Sequence[str], now: Sequence[str]) -> list[str]:
    types = {_name(column): column for column in now}
    broken = []
    for column in before:
        name = _name(column)
        if name not in types:
            broken.append(f"{view}.{name} is gone")
        elif types[name] != column:
            broken.append(f"{view}.{name} was {column.partition(' ')[2]}, and is {types[name].partition(' ')[2]}")
    if not broken and list(now[: len(before)]) != list(before):
        moved = next(was for was, is_ in zip(before, now, strict=False) if was != is_)
        broken.append(f"{view}.{_name(moved)} has moved: new columns go to the end")
    return broken


def _promised(text: str) -> Mapping[str, list[str]]:
    try:
        read = json.loads(text)
    except ValueError as error:
        raise InvalidInput({"promised": f"is no JSON: {error}"}) from None
    lists = isinstance(read, dict) and all(isinstance(columns, list) for columns in read.values())
    if not lists or not all(isinstance(column, str) for columns in read.values() for column in columns):
        raise InvalidInput({"promised": 'is not of the form {"view": ["column type", …], …}'})
    return dict(read)


def _name(column: str) -> str:
    return column.partition(" ")[0]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
