"""What a saga that forgets a person asks of the engine: the interface alone, light to import."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime, timedelta

from temporalio import activity

from amends.policies import Policy
from amends.records import Context, Position
from amends.values import Value

__all__ = ["PATIENCE", "Erased", "Erasure", "Scrubbed", "Scrubbing"]

PATIENCE = Policy(attempt=timedelta(seconds=30), deadline=None, first_pause=timedelta(milliseconds=200))
"""Read models are behind for moments; what is kept or parked is waited for until somebody sees to it."""


class Erased(Value):
    """What the destruction of a key has done.

    Args:
        at: when the key was destroyed.
        sealed: events whose personal data nobody can read any more, in any copy of the log.
        in_clear: events that were written before personal data were sealed: theirs can be read for ever.
    """

    at: datetime
    sealed: int
    in_clear: int


class Scrubbing(Value):
    """Whose data the views are to have forgotten, by what they have read.

    Args:
        subject: the stream of the person.
        position: of the event that says so.
    """

    subject: str
    position: Position


class Scrubbed(Value):
    """Read models that have taken in that a person is forgotten, each as `name v2 build 1`."""

    builds: tuple[str, ...]


class Erasure(ABC):
    """Destroys the keys of persons, and sees to it that no read model still shows their data."""

    @abstractmethod
    @activity.defn(name="amends.destroy_key")
    async def destroy_key(self, subject: str, context: Context) -> Erased:
        """Destroy a person's key; asked again, it tells of the first time."""

    @abstractmethod
    @activity.defn(name="amends.see_scrubbed")
    async def see_scrubbed(self, scrubbing: Scrubbing, context: Context) -> Scrubbed:
        """See that every build of every read model has passed a position, and that nothing of the person is parked."""
