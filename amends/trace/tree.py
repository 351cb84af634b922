"""Puts the rows of the command log in order: which workflow asked for what, and which are whose children."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from amends.trace.model import Asked, Led, Workflow

__all__ = ["Row", "workflows"]

OWN = "saga."
"""What the names of a saga's entries about itself begin with."""

CLOSE = "saga.close"
"""The entry with which a saga ends."""


class Row(NamedTuple):
    """A row of the command log, as it was asked for."""

    number: int
    command_id: str
    step_id: str
    step: str | None
    kind: Literal["step", "undo"] | None
    name: str
    stream: str
    outcome: Literal["done", "refused", "begun"]
    refusal: str | None
    message: str | None
    workflow_id: str | None
    causation_id: str
    actor: str
    attempt: int
    pivot: bool
    started_at: datetime
    recorded_at: datetime
    closed: dict[str, Any] | None
    about: str | None
    reason: str | None

    @property
    def is_call(self) -> bool:
        """Whether it is one row of a call, which has up to two: that it begins, and its answer."""
        return self.kind is not None and self.command_id != self.step_id

    @property
    def is_own(self) -> bool:
        """Whether it is a saga's entry about itself."""
        return self.kind is None and self.name.startswith(OWN) and self.stream == f"saga-{self.workflow_id}"


def workflows(rows: Sequence[Row], led: Mapping[str, Sequence[Led]]) -> list[Workflow]:
    """The workflows that are nobody's child, with all that they and their children asked for.

    Args:
        rows: of one piece of business, in the order of recording.
        led: the events that each command led to, by its id.
    """
    of_workflow: defaultdict[str | None, list[Row]] = defaultdict(list)
    for row in rows:
        of_workflow[row.workflow_id].append(row)
    found = {id: _workflow(id, own) for id, own in of_workflow.items()}
    parts = {id: list(_parts(own, led)) for id, own in of_workflow.items()}
    outermost = []
    for id, own in of_workflow.items():
        ancestors = [each for each in found if id is not None and each is not None and id.startswith(f"{each}/")]
        if ancestors:
            parts[max(ancestors, key=lambda each: len(each or ""))].append((own[0].number, found[id]))
        else:
            outermost.append(found[id])
    for id, numbered in parts.items():
        found[id].parts = [part for _, part in sorted(numbered, key=lambda each: each[0])]
    return outermost


def _workflow(id: str | None, rows: Sequence[Row]) -> Workflow:
    close = next((row for row in reversed(rows) if row.name == CLOSE and row.closed), None)
    closed = close.closed if close and close.closed else {}
    started = min(row.started_at for row in rows)
    return Workflow(
        id=id,
        process=closed.get("process"),
        status=closed.get("status") or _standing(rows),
        reason=closed.get("reason"),
        causation_id=rows[0].causation_id,
        started_at=datetime.fromisoformat(closed["started_at"]) if closed.get("started_at") else started,
        ended_at=close.recorded_at if close else None,
    )


def _standing(rows: Iterable[Row]) -> str | None:
    """Where a saga stands that has not closed; None where there is no saga."""
    parked: set[str | None] = set()
    status = None
    for row in rows:
        if row.kind is not None:
            status = "Compensating" if row.kind == "undo" or status == "Compensating" else "Running"
        elif row.is_own and row.name == "saga.park":
            parked.add(row.about)
        elif row.is_own:
            parked.discard(row.about)
    return "NeedsAttention" if parked else status


def _parts(rows: Sequence[Row], led: Mapping[str, Sequence[Led]]) -> Iterable[tuple[int, Asked | Workflow]]:
    """What a workflow asked for, with the place of each in the order of recording."""
    calls: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.is_call:
            calls[row.step_id].append(row)
    sent: defaultdict[str, list[Row]] = defaultdict(list)
    plain = []
    for row in rows:
        call = next((id for id in calls if row.command_id == id or row.command_id.startswith(f"{id}/")), None)
        if row.kind is None and call is not None:
            sent[call].append(row)
        elif not row.is_call and row.name != CLOSE:
            plain.append(row)
    for row in plain:
        yield row.number, _asked([row], led)
    for id, own in calls.items():
        yield min(row.number for row in (*own, *sent[id])), _asked(own, led, sent[id])


def _asked(rows: Sequence[Row], led: Mapping[str, Sequence[Led]], sent: Sequence[Row] = ()) -> Asked:
    """A command, or a call by all its rows: the last one says how it ended."""
    first, last = rows[0], rows[-1]
    return Asked(
        kind=last.kind or ("repair" if last.is_own else "command"),
        title=last.step,
        name=last.name,
        outcome=last.outcome,
        refusal=last.refusal,
        message=last.reason if last.is_own else last.message,
        stream=None if last.is_call or last.is_own else last.stream,
        actor=last.actor,
        attempt=last.attempt,
        pivot=any(row.pivot for row in rows),
        started_at=min(row.started_at for row in rows),
        ended_at=last.recorded_at,
        led=() if first.is_call else tuple(led.get(last.command_id, ())),
        sent=tuple(_asked([row], led) for row in sent),
    )
