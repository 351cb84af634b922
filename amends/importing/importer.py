"""Takes records over as commands, in batches: each once, whatever dies meanwhile and however often it is run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from uuid import uuid4

from psycopg import errors as pg

from amends.bulk import Answer, BulkHandler, Wanted
from amends.database import Connection
from amends.errors import CommandIdReused, Conflict, InvalidInput, Refused
from amends.importing.reading import Candidate
from amends.importing.records import IN_PART, SourceRecord, in_part, same_content
from amends.importing.report import Entry, Summary
from amends.messages import Command
from amends.notify import EVENTS, NOTIFY
from amends.records import Context
from amends.values import posing_texts

__all__ = ["BATCH", "Importer", "Mark", "batches"]

TAKEN_OVER = """
select r.kind, r.key, r.fingerprint, r.revision, r.run, r.line
from unnest(%s::text[], %s::text[]) as w (kind, key)
join amends.import_rows r on r.source = %s and r.kind = w.kind and r.key = w.key
"""
"""Which records of a batch have been taken over, with which content and by whom."""

TAKE_OVER = """
insert into amends.import_rows (source, kind, key, fingerprint, revision, run, line)
select %s, n.kind, n.key, n.fingerprint, n.revision, %s, n.line
from unnest(%s::text[], %s::text[], %s::bytea[], %s::integer[], %s::bigint[])
     as n (kind, key, fingerprint, revision, line)
on conflict (source, kind, key) do update
set fingerprint = excluded.fingerprint, revision = excluded.revision, run = excluded.run, line = excluded.line,
    imported_at = excluded.imported_at
"""
"""Records of a batch are taken over now."""

WATERMARK = """
insert into amends.watermarks (source, name, watermark) values (%s, %s, %s)
on conflict (source, name) do update set watermark = excluded.watermark, updated_at = clock_timestamp()
where watermarks.watermark <> excluded.watermark
"""
"""A table has been taken over as far as this."""

BATCH = 500
"""Most records in one transaction: long enough to be fast, short enough not to hold the feed's readers back."""

ROUNDS = 20
"""How often what others have got in the way of is tried again."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a table is taken over with a batch.

    Args:
        name: of the table.
        watermark: that, as text.
    """

    name: str
    watermark: str


@dataclass(slots=True)
class _Pending:
    """A record that is being taken over, as its revision of that number.

    Args:
        line: where it is.
        record: what it says.
        revision: 1 where it is new.
        fingerprint: of what it says.
        was: the fingerprint of what it said before; None where it is new.
        groups: the commands: all of a new record stand or fall together, those of a change each by itself.
        unfollowed: fields that have changed and can't be followed.
    """

    line: int
    record: SourceRecord
    revision: int
    fingerprint: bytes
    was: bytes | None
    groups: list[list[Wanted]]
    unfollowed: list[str]


class Importer:
    """Takes the records of one source over.

    Args:
        bulk: runs the commands.
        source: name of the other system; part of every command id.
        actor: in whose name.
        report: gets each record that was not taken over.
        follow: bring records that are ours already to what they say now; otherwise they are only reported.
    """

    def __init__(
        self, bulk: BulkHandler, source: str, actor: str, report: Callable[[Entry], None], *, follow: bool = False
    ) -> None:
        self._bulk, self._source, self._actor, self._follow = bulk, source, actor, follow
        self._report = report
        self._run, self._begin = uuid4(), perf_counter()
        self._announced = bulk.position
        self.summary = Summary()

    async def run(
        self,
        connection: Connection,
        found: Iterable[Candidate],
        stop: asyncio.Event,
        progress: Callable[[int, Summary], None] = lambda done, summary: None,
    ) -> Summary:
        """Take everything over, until the end or somebody asks to stop; a batch that was begun is finished.

        Args:
            connection: of the writer role, in autocommit.
            found: the records; read in a thread, a batch ahead.
            stop: set it to end.
            progress: told after each batch: bytes that are done, and the figures so far.

        Raises:
            Conflict: others keep writing to the same things; run it again.
            psycopg.Error: the database is gone; run it again when it is back, nothing is lost or done twice.
        """
        ahead = batches(found)
        reading = asyncio.create_task(asyncio.to_thread(next, ahead, None))
        try:
            while (batch := await reading) is not None and not stop.is_set():
                reading = asyncio.create_task(asyncio.to_thread(next, ahead, None))
                await self.take(connection, batch)
                progress(batch[-1].done, self.summary)
            self.summary.stopped = batch is not None
        finally:
            with suppress(Exception):
                await reading
        return self.summary

    async def take(self, connection: Connection, batch: Sequence[Candidate], mark: Mark | None = None) -> None:
        """Take one batch over, and move the watermark in the transaction that does the last of it.

        Args:
            connection: of the writer role, in autocommit.
            batch: no two with one key.
            mark: how far the table is taken over then, if it comes from one.

        Raises:
            Conflict, psycopg.Error: as `run`.
        """
        self.summary.read += len(batch)
        pending = await self._sort(connection, batch)
        for _ in range(ROUNDS):
            try:
                async with connection.transaction():
                    answers = await self._handle(connection, pending)
                    settled = [_settled(each) for each in answers]
                    await self._take_over(connection, list(_taken_over(pending, settled, answers)))
                    if mark is not None and "again" not in settled:
                        await connection.execute(WATERMARK, (self._source, mark.name, mark.watermark))
            except (pg.DeadlockDetected, pg.SerializationFailure):
                continue
            for each, group in zip(pending, answers, strict=True):
                self._count(each, group)
            pending = [p for p, s in zip(pending, settled, strict=True) if s == "again"]
            if not pending:
                break
        else:
            raise Conflict(
                f"Others keep writing to what {len(pending)} records are about, {pending[0].record.kind} "
                f"{pending[0].record.id} among them; run it again, it goes on there"
            )
        if self._bulk.position > self._announced:
            self._announced = self._bulk.position
            await connection.execute(NOTIFY, (EVENTS, str(self._announced)))
        self.summary.seconds = perf_counter() - self._begin

    async def _handle(self, connection: Connection, pending: Sequence[_Pending]) -> list[list[Answer]]:
        answers = iter(await self._bulk.handle(connection, [group for each in pending for group in each.groups]))
        return [[answer for _ in each.groups for answer in next(answers)] for each in pending]

    async def _sort(self, connection: Connection, batch: Sequence[Candidate]) -> list[_Pending]:
        """Those records of a batch that are to be taken over; the others are counted and told."""
        readable = [each for each in batch if each.record is not None]
        parameters = ([each.kind for each in readable], [each.key for each in readable], self._source)
        # never a cached plan: one made for the empty table would scan the full one
        rows = await (await connection.execute(TAKEN_OVER, parameters, prepare=False)).fetchall()
        known = {(kind, key): rest for kind, key, *rest in rows}
        pending = []
        for each in batch:
            if each.record is None:
                self._reject(each.line, each.kind, each.key, "; ".join(f"{f}: {p}" for f, p in each.problems.items()))
                continue
            if posing := posing_texts(each.record):
                self._reject(each.line, each.kind, each.key, "; ".join(f"{f}: {p}" for f, p in posing.items()))
                continue
            fingerprint, revision, was = each.record.fingerprint(), 1, None
            unfollowed: list[str] = []
            if (before := known.get((each.kind, each.key))) is not None:
                was, revision, run, line = before
                if same_content(was, fingerprint):
                    self.summary.already += 1
                    continue
                if not self._follow and run == self._run:
                    self._reject(each.line, each.kind, each.key, f"id: line {line} has the same one with other content")
                    continue
                if not self._follow:
                    reason = (
                        "it was taken over with other content earlier, and stays so; `amends follow` takes changes over"
                    )
                    self._changed(each.line, each.record, reason)
                    continue
                unfollowed = each.record.unfollowed(was)
                revision += 1
            try:
                commands = each.record.commands() if revision == 1 else each.record.changes()
            except InvalidInput as error:
                self._reject(each.line, each.kind, each.key, str(error))
                continue
            wanted = [self._wanted(each.record, revision, n, command) for n, command in enumerate(commands, 1)]
            groups = [wanted] if was is None else [[one] for one in wanted]
            pending.append(_Pending(each.line, each.record, revision, fingerprint, was, groups, unfollowed))
        return pending

    def _wanted(self, record: SourceRecord, revision: int, number: int, command: Command) -> Wanted:
        about = f"import/{self._source}/{record.kind}/{record.id}"
        id = f"{about}/{number}" if revision == 1 else f"{about}/r{revision}/{number}"
        context = Context(
            command_id=id, actor=self._actor, correlation_id=about, causation_id=f"import-run/{self._run}"
        )
        return Wanted(command, context)

    async def _take_over(self, connection: Connection, done: Sequence[tuple[_Pending, bytes]]) -> None:
        if done:
            columns = zip(*((p.record.kind, p.record.id, now, p.revision, p.line) for p, now in done), strict=True)
            await connection.execute(TAKE_OVER, (self._source, self._run, *map(list, columns)))

    def _count(self, each: _Pending, answers: Sequence[Answer]) -> None:
        match _settled(answers):
            case "again":
                return
            case "refused":
                reason = "; ".join(_told(answer.refusal) for answer in answers if answer.refusal is not None)
                reason = reason if each.was is None else f"{reason}; it stays as it was"
                self._reject(each.line, each.record.kind, each.record.id, reason)
            case "over" if each.revision == 1:
                self.summary.imported += 1
                kinds = self.summary.by_kind
                kinds[each.record.kind] = kinds.get(each.record.kind, 0) + 1
            case "over" if each.unfollowed:
                reason = "; ".join(f"{name}: has changed, which can't be followed" for name in each.unfollowed)
                self._changed(each.line, each.record, f"{reason}, and stays as it was")
            case "over" if _nothing(answers) and same_content(each.was or b"", IN_PART):  # what was left has gone
                self.summary.already += 1
            case "over" if _nothing(answers):
                self._changed(each.line, each.record, "nothing of what has changed in it can be taken over")
            case "over":
                self.summary.updated += 1

    def _reject(self, line: int, kind: str, id: str, reason: str) -> None:
        self.summary.rejected += 1
        self._report(Entry(line, kind, id, "rejected", reason))

    def _changed(self, line: int, record: SourceRecord, reason: str) -> None:
        self.summary.changed += 1
        self._report(Entry(line, record.kind, record.id, "changed", reason))


def batches(found: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    """Records in batches; a key that comes again begins a new one, for it is to see what became of the first."""
    batch: list[Candidate] = []
    keys: set[tuple[str, str]] = set()
    for each in found:
        if len(batch) == BATCH or (each.kind, each.key) in keys:
            yield batch
            batch, keys = [], set()
        batch.append(each)
        if each.key:
            keys.add((each.kind, each.key))
    if batch:
        yield batch


def _taken_over(
    pending: Iterable[_Pending], settled: Iterable[str], answers: Iterable[Sequence[Answer]]
) -> Iterator[tuple[_Pending, bytes]]:
    """Those that are ours now, each with the fingerprint of what we have.

    Of a change of which a part was refused and another done, that is one like no other, so that it is tried again; and
    as another revision, for the ids of this one's commands are used.
    """
    for each, said, group in zip(pending, settled, answers, strict=True):
        if said == "over":
            yield each, each.fingerprint
        elif said == "refused" and each.was is not None and any(answer.status == "done" for answer in group):
            yield each, in_part(each.was)


def _told(refusal: Refused | CommandIdReused) -> str:
    return f"{refusal.name}: {refusal.message}" if isinstance(refusal, Refused) else str(refusal)


def _nothing(answers: Sequence[Answer]) -> bool:
    return all(answer.status == "nothing" for answer in answers)


def _settled(answers: Sequence[Answer]) -> str:
    """What has become of a record: over, refused, or to be done again."""
    statuses = {answer.status for answer in answers}
    return "refused" if "refused" in statuses else "again" if "again" in statuses else "over"
