"""What people can do about a saga that waits for them, and what they get to see of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import StringConstraints

from amends.values import Value
from amends.visibility import SagaStatus

__all__ = ["Abandon", "Cancel", "ParkedStep", "Repair", "Resolve", "Retry", "SagaView", "Skip"]

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
"""Something that somebody has to say: 1 to 1000 characters, not only blanks."""


class Repair(Value):
    """What every repair says.

    Args:
        actor: who repairs.
        reason: why, for the audit log.
        step: which parked step, by its id or an unambiguous end of it; not needed while only one is parked.
    """

    update: ClassVar[str] = ""

    actor: Words
    reason: Words
    step: str | None = None


class Retry(Repair):
    """Try the parked step once more.

    Args:
        input: its input instead of what it was: the command's fields, or the activity's argument.
    """

    update: ClassVar[str] = "saga_retry"

    input: Any = None


class Skip(Repair):
    """Leave the parked step undone, and let the saga go on as if it had been done."""

    update: ClassVar[str] = "saga_skip"


class Resolve(Repair):
    """Somebody has done by hand what the parked step should have done.

    Args:
        done: what was done.
    """

    update: ClassVar[str] = "saga_resolve"

    done: Words


class Abandon(Repair):
    """Give the saga up: what is not undone by now stays as it is, and the saga ends."""

    update: ClassVar[str] = "saga_abandon"


class Cancel(Repair):
    """Stop the whole saga and undo what it has done; not a repair of a step, but said in the same words."""

    update: ClassVar[str] = "saga_cancel"


class ParkedStep(Value):
    """Something that waits for a repair.

    Args:
        step: its id.
        title: in words.
        kind: an undo; a step after the pivot; or the whole saga, which can neither go on nor back.
        name: of the command or activity.
        input: what it was given.
        why: how it failed.
        since: when it was parked.
    """

    step: str
    title: str
    kind: Literal["undo", "step", "saga"]
    name: str
    input: Any
    why: str
    since: datetime


class SagaView(Value):
    """A saga as it answers itself, by the query `saga`.

    Args:
        status: where it stands.
        reason: short code of why it turned back, if it did.
        parked: what waits for a repair.
    """

    workflow_id: str
    status: SagaStatus
    reason: str | None
    parked: tuple[ParkedStep, ...]
