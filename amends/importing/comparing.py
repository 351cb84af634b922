"""Compares what another system says with what our views show."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sqlalchemy import column, func, select, table

from amends.errors import InvalidInput
from amends.importing.reading import Candidate
from amends.importing.records import Shown
from amends.query import Query
from amends.reader import Reader
from amends.values import MASK

__all__ = ["Compared", "Difference", "compare", "in_batches"]

AT_A_TIME = 500
"""Records that are compared with one query a view."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that the two systems tell differently.

    Args:
        line: where the record begins in its file, from 1, or its number in the table.
        kind: of the record.
        id: its key, as we have it.
        view: the view.
        column: of the view; empty when it lacks the row.
        theirs: what the other system says; masked where it is personal.
        ours: what the view shows, likewise.
    """

    line: int
    kind: str
    id: str
    view: str
    column: str
    theirs: Any
    ours: Any


@dataclass(slots=True)
class Compared:
    """What a comparison came to.

    Args:
        records: compared.
        same: of them, those of which the views show the same.
        different: those of which they show something else, or nothing.
        unreadable: records that can't be read, and so not be compared.
        theirs: records of the other system, by the view in which they are looked for.
        ours: rows of each of those views.
    """

    records: int = 0
    same: int = 0
    different: int = 0
    unreadable: int = 0
    theirs: dict[str, int] = field(default_factory=dict)
    ours: dict[str, int] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether both systems tell the same; rows that only we have are no difference, for we may have sold since."""
        return not (self.different or self.unreadable)


async def compare(
    reader: Reader, batches: AsyncIterator[Sequence[Candidate]], tell: Callable[[Difference], None]
) -> Compared:
    """Compare records with the views.

    Args:
        reader: asks the views, which must be up to date.
        batches: the records.
        tell: told each difference.
    """
    compared = Compared()
    async for batch in batches:
        found = [(each, _shown(each)) for each in batch]
        wanted = [(each, one) for each, shown in found for one in shown or ()]
        unreadable = sum(shown is None for _, shown in found)
        different: set[int] = set()
        for view in sorted({shown.view for _, shown in wanted}):
            these = [(each, shown) for each, shown in wanted if shown.view == view]
            compared.theirs[view] = compared.theirs.get(view, 0) + len(these)
            rows = await reader.query(_rows([shown for _, shown in these]))
            for each, shown in these:
                for difference in _differences(each, shown, rows.get(shown.value)):
                    different.add(each.line)
                    tell(difference)
        records = len(batch) - unreadable
        compared.unreadable += unreadable
        compared.records += records
        compared.different += len(different)
        compared.same += records - len(different)
    for view in compared.theirs:
        compared.ours[view] = await reader.query(_count(view))
    return compared


async def in_batches(found: Iterable[Candidate]) -> AsyncIterator[list[Candidate]]:
    """Records of a file, in batches."""
    ahead = iter(found)
    while batch := list(islice(ahead, AT_A_TIME)):
        yield batch


def _shown(each: Candidate) -> Sequence[Shown] | None:
    """What the views must show of a record; None where it is none, or what it says can't be."""
    try:
        return None if each.record is None else each.record.shown()
    except InvalidInput:
        return None


def _rows(wanted: Sequence[Shown]) -> Query[dict[str, Mapping[str, Any]]]:
    """The rows that are looked for, by their keys."""
    key = wanted[0].key
    columns = dict.fromkeys(name for shown in wanted for name in shown.columns)
    view = table(wanted[0].view, column(key), *map(column, columns), schema="views")
    chosen = select(view).where(view.c[key].in_([shown.value for shown in wanted]))
    return Query(chosen, lambda found: {row[key]: dict(row) for row in found})


def _count(view: str) -> Query[int]:
    return Query(
        select(func.count()).select_from(table(view, schema="views")), lambda found: next(iter(found[0].values()))
    )


def _differences(each: Candidate, shown: Shown, row: Mapping[str, Any] | None) -> list[Difference]:
    where = (each.line, each.kind, each.key, shown.view)
    if row is None:
        return [Difference(*where, "", "there", "missing")] if shown.needed else []
    pairs = ((name, _plain(theirs), _plain(row[name])) for name, theirs in shown.columns.items())
    return [
        Difference(*where, name, *((MASK, MASK) if name in shown.personal else (theirs, ours)))
        for name, theirs, ours in pairs
        if theirs != ours
    ]


def _plain(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value
