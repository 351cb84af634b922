"""What has become of one thing, event by event, as its aggregate tells it; personal data are masked."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic_core import to_jsonable_python

from amends.aggregate import Aggregate
from amends.database import Pool
from amends.errors import InvalidInput, MessageError, NothingRecorded
from amends.messages import Event
from amends.records import Position
from amends.values import MASK, SHORTEST, personal_in, redacted

__all__ = ["Happened", "History", "history_of", "moment"]

HISTORY = """
select e.version, e.recorded_at, e.name, e.schema_version, e.data, e.actor, c.name, e.command_id, e.correlation_id,
       e.xid::text::bigint, e.position
from amends.events e left join amends.commands c on c.command_id = e.command_id
where e.stream = %s order by e.version
"""
"""A stream from its first event on, with the command that led to each."""

DIGITS = 18
"""Most digits of a version: streams are numbered by bigint."""

Any_ = Aggregate[Any, Any]
State = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Happened:
    """One event of a stream.

    Args:
        version: the stream's, after it.
        at: when it was recorded.
        name: of the event.
        facts: its fields, personal ones masked; None when this code can't read it.
        problem: why it can't; the states from here on are not known then.
        state: the aggregate after it; None when not known.
        actor: on whose behalf.
        command: name of the command that led to it.
        command_id: the command's identity.
        correlation_id: the piece of business that it belongs to.
        position: in the feed.
    """

    version: int
    at: datetime
    name: str
    facts: dict[str, Any] | None
    problem: str | None
    state: State | None
    actor: str
    command: str | None
    command_id: str
    correlation_id: str
    position: Position


@dataclass(frozen=True, slots=True)
class History:
    """A stream, then and now.

    Args:
        stream: its name.
        aggregate: name of its aggregate's class.
        version: of the stream now.
        before: the state before the first of the events; None as in an event.
        events: those asked for, oldest first.
        then_version: the version asked for; None when none was.
        then: the state at that version; None as in an event.
        now: the state after the last event.
    """

    stream: str
    aggregate: str
    version: int
    before: State | None
    events: Sequence[Happened]
    then_version: int | None
    then: State | None
    now: State | None


def moment(text: str) -> int | datetime:
    """Read what somebody typed as a version or as a time.

    Args:
        text: a whole number, or a time such as 2031-05-01T10:00 or 2031-05-01T10:00:00.5+02:00; UTC without a zone.

    Raises:
        InvalidInput: it is neither.
    """
    if text.isascii() and text.isdecimal() and len(text) <= DIGITS:
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        shown = text if len(text) <= 100 else f"{text[:100]}…"
        told = f"{shown!r} is neither a version (a whole number) nor a time such as 2031-05-01T10:00+02:00"
        raise InvalidInput({"at": told}) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


async def history_of(
    pool: Pool,
    aggregates: Iterable[type[Any_]],
    stream: str,
    at: int | datetime | None = None,
    last: int | None = None,
) -> History:
    """A stream's events, the state after each, the state at a moment and the state now.

    Args:
        pool: of the writer role, which may read the log.
        aggregates: the application's.
        stream: category and key, e.g. `order-4711`.
        at: a version (0: before the first event) or a time.
        last: so many of the latest events, instead of all.

    Raises:
        InvalidInput: no aggregate has such streams, or the stream has no such version; names the field.
        NothingRecorded: nothing has happened in the stream.
    """
    known = {aggregate.category: aggregate for aggregate in aggregates}
    aggregate = known.get(stream.partition("-")[0])
    if aggregate is None or "-" not in stream:
        told = f"{stream!r} is none; streams are called {', '.join(f'{category}-…' for category in sorted(known))}"
        raise InvalidInput({"stream": told})
    async with pool.connection() as connection:
        rows = [_Row(*row) for row in await (await connection.execute(HISTORY, (stream,))).fetchall()]
    if not rows:
        raise NothingRecorded(f"Nothing has happened in the stream {stream!r}")
    version = None if at is None else _version_at(at, rows)
    first = 1 if last is None else max(1, len(rows) - last + 1)
    shown = set(range(first, len(rows) + 1))
    states = {0: redacted(aggregate())}
    events = list(_replayed(aggregate(), rows, shown, states, {*shown, first - 1, version or 0, len(rows)}))
    return History(
        stream=stream,
        aggregate=aggregate.__qualname__,
        version=len(rows),
        before=states.get(first - 1),
        events=events,
        then_version=version,
        then=None if version is None else states.get(version),
        now=states.get(len(rows)),
    )


class _Row(NamedTuple):
    version: int
    at: datetime
    name: str
    schema_version: int
    data: dict[str, Any]
    actor: str
    command: str | None
    command_id: str
    correlation_id: str
    xid: int
    number: int


def _version_at(at: int | datetime, rows: Sequence[_Row]) -> int:
    if isinstance(at, datetime):
        return max((row.version for row in rows if row.at <= at), default=0)
    if at > len(rows):
        raise InvalidInput({"at": f"the stream has {len(rows)} versions, none is {at}"})
    return at


def _replayed(
    state: Any_, rows: Iterable[_Row], shown: Container[int], states: dict[int, State], kept: Container[int]
) -> Iterator[Happened]:
    """The events that are to be shown; the states after those that are to be kept go into `states`."""
    personal: set[str] = set()
    known: Any_ | None = state
    for row in rows:
        event, problem = None, None
        try:
            event = Event.read(row.name, row.schema_version, row.data)
        except (MessageError, InvalidInput) as error:
            known, problem = None, f"{type(error).__name__}: {error}"
        else:
            personal |= {value for value in personal_in(event) if isinstance(value, str) and value}
            known = known and known.evolve(event)
        if known is not None and row.version in kept:
            states[row.version] = _masked(redacted(known), personal)
        if row.version in shown:
            yield Happened(
                version=row.version,
                at=row.at,
                name=row.name,
                facts=None if event is None else event.redacted(),
                problem=problem,
                state=states.get(row.version),
                actor=row.actor,
                command=row.command,
                command_id=row.command_id,
                correlation_id=row.correlation_id,
                position=Position(row.xid, row.number),
            )


def _masked(value: Any, personal: set[str]) -> Any:
    """A state without what stood in personal fields of events: states carry no marks of their own, or may not."""
    match value:
        case str():
            hidden = value in personal or any(text in value for text in personal if len(text) >= SHORTEST)
            return MASK if hidden else value
        case dict():
            return {key: _masked(part, personal) for key, part in value.items()}
        case list():
            return [_masked(part, personal) for part in value]
    return to_jsonable_python(value)
