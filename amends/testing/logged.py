"""Events as the log would give them back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TypedDict, TypeVar
from uuid import UUID

from pydantic_core import from_json

from amends.feed import Row
from amends.messages import Event

__all__ = ["BEGAN", "Facts", "listed", "logged", "read_back"]

E = TypeVar("E", bound=Event)

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
"""When tests begin; their first event is recorded a second later, the next one another second."""


class Facts(TypedDict, total=False):
    """What the log tells of an event besides its data."""

    stream: str
    version: int
    event_id: UUID
    command_id: str
    correlation_id: str
    causation_id: str
    actor: str
    trace: str | None
    recorded_at: datetime


def logged(event: Event, number: int, facts: Facts) -> Row:
    """An event as the feed reads it.

    Args:
        event: what has happened.
        number: its number in the log.
        facts: those that are not to be made up.
    """
    read_back(event)
    told: Facts = {
        "stream": "test",
        "version": number,
        "event_id": UUID(int=number),
        "command_id": f"command-{number}",
        "correlation_id": "test",
        "causation_id": "test",
        "actor": "test",
        "trace": None,
        "recorded_at": BEGAN + timedelta(seconds=number),
        **facts,
    }
    data = event.model_dump_json()
    return Row(
        xid=number, number=number, name=event.message_name, schema_version=event.schema_version, data=data, **told
    )


def read_back(event: E) -> E:
    """The event as the store would give it back.

    Raises:
        AssertionError: that would be another one.
    """
    read = Event.read(event.message_name, event.schema_version, from_json(event.model_dump_json()))
    assert read == event, f"written:{listed([event])}\nbut read back:{listed([read])}"
    assert isinstance(read, type(event))
    return read


def listed(items: Iterable[object]) -> str:
    """Things below one another, for messages."""
    return "".join(f"\n  {item!r}" for item in items) or "\n  nothing"
