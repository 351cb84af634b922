"""What people ask of projections: where they stand, pause, resume, apply or skip what is parked, throttle a build."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection, OperationalError
from psycopg import Error as PgError
from psycopg.rows import class_row
from pydantic import BaseModel

from amends.database import conninfo
from amends.errors import InvalidInput, NothingToDo, ServerFailed
from amends.records import Position

__all__ = ["DeadLetter", "ProjectionOperator", "ProjectionStatus", "open_operator"]

STATUS = """
select projection, version, generation, served, state, healthy, problem, xid, position, events, lag_events, lag_seconds,
       rate, last_error, failed_at, dead_letters, updated_at
from views.projection_status where %(name)s::text is null or projection = %(name)s
order by projection, version, generation
"""
"""How projections stand."""

LETTERS = """
select projection, version, generation, key, xid, position, stream, event, error, attempts, state, actor, reason,
       parked_at, settled_at
from views.dead_letters
where (%(name)s::text is null or projection = %(name)s) and (%(key)s::text is null or key = %(key)s)
  and (%(skipped)s or state <> 'skipped')
order by projection, version, generation, key, xid, position
"""
"""What is parked."""

DATA = "select data from amends.events where (xid, position) = (%s::xid8, %s)"
"""What an event says."""

HEAD = "select coalesce(max(position), 0) from amends.events"
"""About how many events there are."""

REPORT = """
select report from amends.generations g
join amends.checkpoints c using (projection, version, generation)
where projection = %s and c.role = 'building' and c.partition = 0
"""
"""What waits for a person to look at."""

RETRY = "select amends.retry_dead_letters(%s, %s, %s, %s)"
"""Have a key's events applied once more."""

SKIP = "select amends.skip_dead_letter(%s, %s, %s, %s)"
"""Leave an event out."""

PAUSE = "select amends.pause_projection(%s, %s, %s)"
"""Stop a projection until it is resumed."""

RESUME = "select amends.resume_projection(%s, %s, %s)"
"""Let it go on."""

THROTTLE = "select amends.throttle_build(%s, %s, %s, %s)"
"""Events a second of a build."""

SIGN, ABSENT = "AM003", "AM004"
"""What those functions refuse with: input that is wrong, and things that are not there."""


class ProjectionStatus(BaseModel):
    """A build of a projection as `views.projection_status` shows it."""

    projection: str
    version: int
    generation: int
    served: bool
    state: str
    healthy: bool
    problem: str | None
    xid: int
    position: int
    events: int
    lag_events: int
    lag_seconds: float
    rate: float | None
    last_error: str | None
    failed_at: datetime | None
    dead_letters: int
    updated_at: datetime


class DeadLetter(BaseModel):
    """A parked event as `views.dead_letters` shows it."""

    projection: str
    version: int
    generation: int
    key: str
    xid: int
    position: int
    stream: str
    event: str
    error: str | None
    attempts: int
    state: str
    actor: str | None
    reason: str | None
    parked_at: datetime
    settled_at: datetime | None


class ProjectionOperator:
    """Looks at projections and acts on them; every act is recorded with who and why in `views.projection_log`.

    Args:
        connection: of the projector role, in autocommit.
    """

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection

    async def status(self, name: str | None = None) -> list[ProjectionStatus]:
        """How projections stand, every build of them.

        Args:
            name: only that one.

        Raises:
            NothingToDo: there is none of that name.
        """
        async with self._connection.cursor(row_factory=class_row(ProjectionStatus)) as cursor:
            found = await (await cursor.execute(STATUS, {"name": name})).fetchall()
        if name is not None and not found:
            raise NothingToDo(f"There is no projection {name!r}; see amends views list")
        return found

    async def dead_letters(
        self, name: str | None = None, key: str | None = None, *, skipped: bool = False
    ) -> list[DeadLetter]:
        """What is parked, in order.

        Args:
            name: only of that projection.
            key: only of that key.
            skipped: also what was skipped for good.
        """
        async with self._connection.cursor(row_factory=class_row(DeadLetter)) as cursor:
            wanted = {"name": name, "key": key, "skipped": skipped}
            return await (await cursor.execute(LETTERS, wanted)).fetchall()

    async def data(self, at: Position) -> Any:
        """What an event says, as stored; None when there is no such event."""
        row = await (await self._connection.execute(DATA, (str(at.xid), at.number))).fetchone()
        return None if row is None else row[0]

    async def head(self) -> int:
        """Number of the last event of the log."""
        row = await (await self._connection.execute(HEAD)).fetchone()
        assert row is not None
        return int(row[0])

    async def report(self, name: str) -> Any:
        """How a build that waits for a person compares with what is served; None when none does."""
        row = await (await self._connection.execute(REPORT, (name,))).fetchone()
        return None if row is None else row[0]

    async def retry(self, name: str, key: str, actor: str, reason: str) -> int:
        """Have a key's parked events applied once more, by whoever follows the projection; returns how many they are.

        Raises:
            InvalidInput: actor or reason are blank.
            NothingToDo: none of that key is parked.
        """
        return int(await self._do(RETRY, name, key, actor, reason))

    async def skip(self, name: str, position: int, actor: str, reason: str) -> None:
        """Leave a parked event out for good; those that wait behind it are applied. Errors as of `retry`."""
        await self._do(SKIP, name, position, actor, reason)

    async def pause(self, name: str, actor: str, reason: str) -> None:
        """Stop a projection or process manager until it is resumed. Errors as of `retry`."""
        await self._do(PAUSE, name, actor, reason)

    async def resume(self, name: str, actor: str, reason: str) -> None:
        """Let a paused projection or process manager go on. Errors as of `retry`."""
        await self._do(RESUME, name, actor, reason)

    async def throttle(self, name: str, events_per_second: float | None, actor: str, reason: str) -> None:
        """Change how many events a second a build may take; None takes the limit away. Errors as of `retry`."""
        await self._do(THROTTLE, name, events_per_second, actor, reason)

    async def _do(self, call: str, *arguments: object) -> Any:
        try:
            row = await (await self._connection.execute(call.encode(), arguments)).fetchone()
        except PgError as error:
            field, _, problem = (error.diag.message_primary or "").partition(": ")
            if error.sqlstate == SIGN:
                raise InvalidInput({field: problem}) from None
            if error.sqlstate == ABSENT:
                raise NothingToDo(problem[:1].upper() + problem[1:]) from None
            raise
        return row and row[0]


@asynccontextmanager
async def open_operator(url: str) -> AsyncIterator[ProjectionOperator]:
    """Somebody who looks at projections and acts on them.

    Args:
        url: a login that may act as the projector.

    Raises:
        ServerFailed: nobody answers there, or the login may not do that.
    """
    try:
        connection = await AsyncConnection.connect(conninfo(url, "projector"), autocommit=True)
    except OperationalError as error:
        raise ServerFailed(f"PostgreSQL does not let us in: {str(error).strip()}. See AMENDS_DATABASE_URL") from error
    async with connection:
        yield ProjectionOperator(connection)
