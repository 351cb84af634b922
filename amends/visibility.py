"""What a saga shows of itself in Temporal: search attributes, memo, and the timeline in its current details."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

__all__ = [
    "FINAL",
    "MEMO",
    "SAGA_STATUS",
    "SAGA_STEP",
    "SEARCH_ATTRIBUTES",
    "UNDONE",
    "Entry",
    "SagaMemo",
    "SagaStatus",
    "business_keys",
    "keyword",
    "quoted",
    "timeline",
]

SagaStatus = Literal["Running", "Compensating", "NeedsAttention", "Completed", "Compensated", "Abandoned", "HandedOver"]
"""Where a saga stands. NeedsAttention waits for a person; HandedOver is a child whose parent sees to what is left."""

FINAL: tuple[SagaStatus, ...] = ("Completed", "Compensated", "Abandoned", "HandedOver")
"""A saga that closed with another status than these was ended from outside; the sweep puts that right."""

UNDONE = frozenset({"Compensated", "Abandoned"})
"""Ends of sagas that have taken back what they did, as far as anybody will."""

SAGA_STATUS = SearchAttributeKey.for_keyword("SagaStatus")
"""`SagaStatus` in lists. Set from its start, for list filters miss rows that have none."""

SAGA_STEP = SearchAttributeKey.for_keyword("SagaStep")
"""The step that made a saga turn back, as `keyword`."""

SEARCH_ATTRIBUTES = {SAGA_STATUS.name: "Keyword", SAGA_STEP.name: "Keyword"}
"""What a Temporal namespace must know before a saga runs in it, besides the application's own business keys."""


def business_keys(attributes: TypedSearchAttributes) -> list[SearchAttributePair[Any]]:
    """The application's own search attributes: what a workflow that belongs to another one is to be found by, too."""
    ours = (SAGA_STATUS.name, SAGA_STEP.name, "BuildIds")
    return [pair for pair in attributes if pair.key.name not in ours and not pair.key.name.startswith("Temporal")]


KEYWORD = 255
"""Bytes of a keyword that every store of Temporal's takes: PostgreSQL and MySQL have columns of so many characters."""


CUT = "…"
"""Ends what was cut."""


def keyword(text: str) -> str:
    """A text, cut where it is too long for a search attribute; never in the middle of a character."""
    data = text.encode()
    return text if len(data) <= KEYWORD else data[: KEYWORD - len(CUT.encode())].decode(errors="ignore") + CUT


def quoted(text: str) -> str:
    """A text as a query for lists of workflows has it."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


MEMO = "amends"
"""The memo entry that carries `SagaMemo`."""


class SagaMemo(BaseModel):
    """What the caller says once and every step of the saga, its children included, passes on.

    Args:
        actor: who started it.
        trace: W3C traceparent of the caller.
        labels: business keys that every log line of the saga carries, e.g. {"order_id": "…"}.
        mount: forces sub-processes inline or into children; fixed at the start, so that replays agree.
        fingerprint: tells its request from any other, so that its id is not used for two.
        forward_only: its parent is past its pivot, so this one can't turn back either.
        mounted: it runs as another saga's child, which takes over what it can't undo.
        causation: what led to it, when that is not a request: an event's id.
        cancelled: why it is cancelled from its beginning, if it is.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    actor: str = "unknown"
    trace: str | None = None
    labels: dict[str, str] = {}
    mount: Literal["as_written", "inline", "child"] = "as_written"
    fingerprint: str = ""
    forward_only: bool = False
    mounted: bool = False
    causation: str | None = None
    cancelled: str | None = None


@dataclass(slots=True)
class Entry:
    """A line of the timeline: a step or an undo, with how it went, and by which attempt; or a note about one."""

    title: str
    started: datetime
    kind: Literal["step", "undo"] = "step"
    result: str = "running"
    ended: datetime | None = None
    attempts: int = 1
    note: bool = False

    def end(self, result: str, at: datetime) -> None:
        """Write down how it went."""
        self.result, self.ended = result, at


def timeline(status: str, entries: Iterable[Entry]) -> str:
    """The saga's story so far, as a markdown table for the Web UI."""
    lines = [f"**{status}**", "", "| At | Step | Result | Took | Attempts |", "|---|---|---|---|---|"]
    for entry in entries:
        title = f"↩ {entry.title}" if entry.kind == "undo" else entry.title
        took = "" if entry.ended is None else f"{(entry.ended - entry.started).total_seconds():.3f}\u00a0s"
        at = entry.started.time().isoformat("milliseconds")
        lines.append(f"| {at} | {_cell(title)} | {_cell(entry.result)} | {took} | {entry.attempts} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
