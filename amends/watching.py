"""Pushes rows as they appear: whoever watches a thing gets what happens to it, each row once, in the feed's order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import structlog
from pydantic import BaseModel
from sqlalchemy import BigInteger, Table, Text, cast, column, func, select, table, tuple_
from sqlalchemy.dialects.postgresql import ARRAY

from amends.errors import InvalidInput, Unavailable
from amends.listen import FIRST_RETRY, LAST_RETRY
from amends.query import Query
from amends.records import Position

__all__ = ["Change", "Changes", "Watching", "patiently", "resumed"]

log = structlog.get_logger("amends.watching")

POLL = 1.0
"""Seconds after which watchers have the view asked again, whatever was or was not announced."""

MOST = 1000
"""Most rows of one answer; what is beyond them comes with the next."""


_FEED = table("feed_status", column("log_id", Text), schema="views")


class Change(BaseModel):
    """A row that tells of one event.

    Args:
        position: of the event; a watcher goes on from there.
        log: which log that is a place in.
    """

    position: Position
    log: str

    @property
    def cursor(self) -> str:
        """Where a watcher goes on, as text to keep; in another log, or a restored one, it is refused."""
        return f"{self.log}:{self.position}"


def resumed(after: Position | str, log: str | None, head: Position) -> Position:
    """Where a watcher goes on.

    Args:
        after: the cursor of a change, or a position.
        log: which log this is; None while it is empty.
        head: position of its last event.

    Raises:
        InvalidInput: that is none, or none in this log.
    """
    text = isinstance(after, str)
    known, _, place = after.partition(":") if isinstance(after, str) else (log, "", "")
    try:
        position = after if isinstance(after, Position) else Position.parse(place)
    except InvalidInput:
        raise InvalidInput({"after": f"{after!r:.80} is no cursor; take a change's `cursor`"}) from None
    if (text and known != log) or position > head:
        told = f"{after!s:.80} is a place in another log, or in one that was restored since; begin at the start"
        raise InvalidInput({"after": told})
    return position


R = TypeVar("R", bound=Change)
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Changes(Generic[R]):
    """A view to watch: one row an event, kept in the order of the feed.

    Args:
        view: has the columns `xid` and `position` of the event, and those of the row class.
        key: name of the column that says whom a row is about; the row class has it too.
        row: the class of its rows.
    """

    view: Table
    key: str
    row: type[R]

    def after(self, known: Mapping[str, Position]) -> Query[list[R]]:
        """What has happened to several things since, each by a position of its own, oldest first."""
        keys, positions = list(known), list(known.values())
        asked = func.unnest(
            cast(keys, ARRAY(Text)),
            cast([each.xid for each in positions], ARRAY(BigInteger)),
            cast([each.number for each in positions], ARRAY(BigInteger)),
        ).table_valued(column("key", Text), column("xid", BigInteger), column("number", BigInteger))
        since = asked.render_derived(name="since")
        view = self.view.c
        new = tuple_(view.xid, view.position) > tuple_(since.c.xid, since.c.number)
        log = select(_FEED.c.log_id).scalar_subquery().label("log")
        statement = select(self.view, log).join(since, (view[self.key] == since.c.key) & new)
        return Query(statement.order_by(view.xid, view.position).limit(MOST), self._read)

    def _read(self, found: Sequence[Mapping[Any, Any]]) -> list[R]:
        return [self.row.model_validate({**one, "position": (one["xid"], one["position"])}) for one in found]


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask a database until it answers: one that is away is waited for, other errors are the caller's own.

    Args:
        ask: the question, by a new connection each time.
    """
    retry = FIRST_RETRY
    while True:
        try:
            return await ask()
        except Unavailable as error:
            log.warning("watching_interrupted", error=str(error), retry_seconds=retry)
            await asyncio.sleep(retry)
            retry = min(2 * retry, LAST_RETRY)


@dataclass(eq=False, slots=True)
class _Watcher(Generic[R]):
    changes: Changes[R]
    key: str
    after: Position
    found: asyncio.Future[list[R]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Watching:
    """Looks for all who watch, at once, whenever something may have changed.

    Nobody is told anything by the notes themselves: what a watcher gets is read from the view by the last position it
    has, so a lost note costs time only, and nothing comes twice or is left out.

    Args:
        ask: answers queries.
    """

    def __init__(self, ask: Callable[[Query[Any]], Awaitable[Any]]) -> None:
        self._ask = ask
        self._watchers: set[_Watcher[Any]] = set()
        self._woken = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    def wake(self, projection: str | None = None) -> None:
        """Look now: something may have changed."""
        self._woken.set()

    async def close(self) -> None:
        """Look no more."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def next(self, changes: Changes[R], key: str, after: Position, timeout: float) -> list[R]:
        """What has happened to a thing since, as soon as there is anything; nothing when the time runs out.

        Args:
            changes: where to look.
            key: which thing.
            after: the last position seen.
            timeout: seconds.
        """
        watcher = _Watcher(changes, key, after)
        self._watchers.add(watcher)
        self.wake()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="amends-watching")
        try:
            await asyncio.wait({watcher.found}, timeout=timeout)
            return watcher.found.result() if watcher.found.done() else []
        finally:
            self._watchers.discard(watcher)

    async def _look(self) -> None:
        """Until nobody watches; a database that is away is waited for, other errors are the watchers' own."""
        while self._watchers:
            self._woken.clear()
            try:
                for changes in {watcher.changes for watcher in self._watchers}:
                    await patiently(partial(self._deliver, changes))
            except Exception as error:
                for watcher in self._watchers:
                    if not watcher.found.done():
                        watcher.found.set_exception(error)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), POLL)

    async def _deliver(self, changes: Changes[Any]) -> None:
        watchers = [each for each in self._watchers if each.changes is changes and not each.found.done()]
        known: dict[str, Position] = {}
        for watcher in watchers:
            known[watcher.key] = min(known.get(watcher.key, watcher.after), watcher.after)
        found: dict[str, list[Any]] = {}
        rows = await self._ask(changes.after(known)) if known else []
        for row in rows:
            found.setdefault(getattr(row, changes.key), []).append(row)
        for watcher in watchers:
            mine = [row for row in found.get(watcher.key, ()) if row.position > watcher.after]
            if mine and not watcher.found.done():
                watcher.found.set_result(mine)
        if len(rows) == MOST:
            self.wake()
