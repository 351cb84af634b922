"""Follows the tables of another system: new rows are taken over, changed ones become changes, until the cut-over."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from amends.bulk import BulkHandler
from amends.database import Connection
from amends.importing.importer import BATCH, Importer, Mark, batches
from amends.importing.reading import Candidate, candidates
from amends.importing.records import SourceRecord
from amends.importing.report import Entry, Summary
from amends.importing.tables import SourceTable, Watermark, read_mark

__all__ = ["Followed", "TableFollower", "rows_of"]

WATERMARK = "select watermark from amends.watermarks where source = %s and name = %s"
"""How far a table has been taken over."""

ASTRAY = BATCH
"""Most rows without a watermark that one look tells of; when they are mended, the next ones are told."""

TOLD = 10_000
"""Entries that are remembered, so that a row in the overlap is not reported at every look."""


@dataclass(frozen=True, slots=True)
class Followed:
    """What one look at a table came to.

    Args:
        name: of the table.
        summary: what became of its rows.
        told: how many of them the report names, those it has named before left out.
        mark: how far it is taken over; None when it has no rows.
        behind: rows past that.
    """

    name: str
    summary: Summary
    told: int
    mark: Watermark | None
    behind: int


class TableFollower:
    """Takes over what comes and what changes in one table.

    Args:
        table: the table.
        kinds: what its rows may become.
        bulk: runs the commands.
        source: name of the other system.
        actor: in whose name.
        report: gets each row that was not taken over.
        again: begin at the first row, whatever was taken over: rows that are ours already cost a look each.
    """

    def __init__(
        self,
        table: SourceTable,
        kinds: Sequence[type[SourceRecord]],
        bulk: BulkHandler,
        source: str,
        actor: str,
        report: Callable[[Entry], None],
        *,
        again: bool = False,
    ) -> None:
        self._table, self._kinds, self._bulk = table, kinds, bulk
        self._source, self._actor, self._report = source, actor, report
        self._again = again
        self._told: OrderedDict[Entry, None] = OrderedDict()
        self._new = 0

    async def look(self, connection: Connection, stop: asyncio.Event) -> Followed:
        """Take over everything from the watermark on, less the overlap; errors as `Importer.run` and the table's.

        Args:
            connection: of the writer role, in autocommit.
            stop: set it to end after the batch that was begun.
        """
        self._new = 0
        importer = Importer(self._bulk, self._source, self._actor, self._tell, follow=True)
        row = await (await connection.execute(WATERMARK, (self._source, self._table.name))).fetchone()
        mark = None if row is None else read_mark(row[0])
        low, after, number = None if self._again else self._table.low(mark), None, 0
        while not stop.is_set() and (page := await self._table.page(low, after, BATCH, number)) is not None:
            number, after = number + len(page.lines), page.last
            # what was taken over stays so: a look that begins earlier does not move the watermark back
            mark = page.mark if mark is None or page.mark > mark else mark  # type: ignore[operator]
            parts = list(batches(candidates(page.lines, self._kinds)))
            for part in parts[:-1]:
                await importer.take(connection, part)
            await importer.take(connection, parts[-1], Mark(self._table.name, str(mark)))
        lines, _ = await self._table.astray(None, ASTRAY, number)
        for part in batches(candidates(map(self._table.unseen, lines), self._kinds)):
            await importer.take(connection, part)
        self._again = self._again and stop.is_set()
        return Followed(self._table.name, importer.summary, self._new, mark, await self._table.behind(mark))

    def _tell(self, entry: Entry) -> None:
        same = Entry(0, entry.kind, entry.id, entry.outcome, entry.reason)
        if same in self._told:
            self._told.move_to_end(same)
            return
        self._told[same] = None
        if len(self._told) > TOLD:
            self._told.popitem(last=False)
        self._new += 1
        self._report(entry)


async def rows_of(table: SourceTable, kinds: Sequence[type[SourceRecord]]) -> AsyncIterator[list[Candidate]]:
    """All rows of a table as records, in batches; errors as `SourceTable.check`."""
    await table.check()
    after, number = None, 0
    while (page := await table.page(None, after, BATCH, number)) is not None:
        number, after = number + len(page.lines), page.last
        yield list(candidates(page.lines, kinds))
    key = None
    while (astray := await table.astray(key, BATCH, number))[0]:
        lines, key = astray
        number += len(lines)
        yield list(candidates(lines, kinds))
