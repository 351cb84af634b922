"""Answers that are kept until what they are made of changes, or for some seconds at most."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, TextualSelect

from amends.merging import DIALECT

__all__ = ["QueryCache", "identity"]

Rows = Sequence[Mapping[str, Any]]
"""What the database has answered."""


@dataclass(frozen=True, slots=True)
class _Kept:
    rows: Rows
    projections: frozenset[str]
    until: float


@dataclass(eq=False, slots=True)
class _Asked:
    projections: frozenset[str]
    task: asyncio.Task[Rows] | None = None


class QueryCache:
    """Keeps rows by question. It is off whenever it could not be told that they have changed.

    Args:
        seconds: how long an answer is kept at most, counted from when it was asked for.
        entries: how many are kept at most; the one longest unused goes first.
        listening: whether notes of changes arrive.
    """

    def __init__(self, seconds: float, entries: int, listening: Callable[[], bool]) -> None:
        self._seconds, self._most, self._listening = seconds, entries, listening
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._asked: dict[Hashable, _Asked] = {}
        self.hits = 0
        self.shared = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._kept)

    async def rows(self, question: Hashable, projections: frozenset[str], ask: Callable[[], Awaitable[Rows]]) -> Rows:
        """The answer to a question: the one kept, the one that somebody is just waiting for, or a new one.

        Args:
            question: tells it from others.
            projections: what it is about.
            ask: has the database answer it.
        """
        if not self._listening():
            self.misses += 1
            return await ask()
        kept = self._kept.get(question)
        if kept is not None and time.monotonic() < kept.until:
            self._kept.move_to_end(question)
            self.hits += 1
            return _copied(kept.rows)
        asked = self._asked.get(question)
        if asked is None:
            self.misses += 1
            asked = self._asked[question] = _Asked(projections)
            asked.task = asyncio.create_task(self._ask(question, asked, ask), name="amends-query")
        else:
            self.shared += 1
        assert asked.task is not None
        # shielded: whoever asked first may give up while others wait for the same
        return _copied(await asyncio.shield(asked.task))

    def forget(self, projection: str | None) -> None:
        """Drop what is made of a projection's rows, and keep nothing that was asked for before now.

        Args:
            projection: its name; None for all.
        """
        for known in (self._kept, self._asked):
            for question in [q for q, each in known.items() if projection is None or projection in each.projections]:
                del known[question]

    async def close(self) -> None:
        """Break off what is being asked."""
        tasks = [asked.task for asked in self._asked.values() if asked.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.forget(None)

    async def _ask(self, question: Hashable, asked: _Asked, ask: Callable[[], Awaitable[Rows]]) -> Rows:
        until = time.monotonic() + self._seconds
        try:
            rows = await ask()
            if self._asked.get(question) is asked and self._listening():  # else it has changed meanwhile
                self._kept[question] = _Kept(rows, asked.projections, until)
                self._kept.move_to_end(question)
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
            return rows
        finally:
            if self._asked.get(question) is asked:
                del self._asked[question]


def identity(statement: Select[Any] | TextualSelect) -> Hashable | None:
    """Tells a question from any other by its SQL and the values in it; None when a value can't be compared."""
    compiled = statement.compile(dialect=DIALECT)
    known = (compiled.string, tuple((name, _comparable(value)) for name, value in sorted(compiled.params.items())))
    try:
        hash(known)
    except TypeError:
        return None
    return known


def _comparable(value: Any) -> Any:
    """A value and its type, for 1 is not true in SQL."""
    match value:
        case list() | tuple():
            return type(value), tuple(_comparable(part) for part in value)
        case dict():
            return dict, tuple((key, _comparable(part)) for key, part in sorted(value.items()))
        case _:
            return type(value), value


def _copied(rows: Iterable[Mapping[str, Any]]) -> Rows:
    """Rows of the caller's own: what they do to a list in it does not reach the next one who asks."""
    return [{name: deepcopy(v) if isinstance(v, list | dict) else v for name, v in row.items()} for row in rows]
