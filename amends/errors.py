"""Everything Amends raises on purpose, in one tree.

AmendsError
├── Refused                      a rule said no; facts attached; never retried
│   ├── BeingCancelled           the saga is on its way back already
│   ├── Forgotten                the person's data have been erased, and no new ones are kept
│   ├── EndedFromOutside         the step's saga was terminated and is being undone
│   ├── NotParked                there is nothing to repair, or somebody is at it already
│   ├── SagaEnded                the saga has come to its end, nothing can be changed any more
│   ├── PastCancelling           the saga only goes forward by now, or undoes already
│   └── UnknownSaga              there is no saga with this id
├── Unavailable                  PostgreSQL or Temporal does not answer
├── InvalidInput                 a field of what was handed in is wrong; names the field
├── MessageError                 a command or event can't be read or declared
│   ├── UnknownMessage           no code is registered under this name
│   ├── DuplicateMessage         two classes claim one name
│   ├── MessageFromTheFuture     stored by newer code than this
│   ├── MissingUpcaster          a step from an old version to the next is not declared
│   └── PersonalKeyMissing       personal data in it can't be opened, though nobody has forgotten the person
├── KeyMissing                   a payload is encrypted with a key that is not there
├── StoreError                   the event store could not do it
│   ├── Conflict                 the stream moved on while the command was decided
│   ├── CommandIdReused          one command id, two different commands
│   └── NothingRecorded          the log has nothing under this name
├── SagaError                    a saga did not end the way it was asked to
│   ├── NoAnswer                 no worker has answered in time
│   ├── SagaCancelled            somebody asked it to stop
│   └── Abandoned                an operator gave it up, with something left undone
├── ProjectionError              a projection or a process manager can't go on
│   ├── Stale                    read models are behind, so the question has no answer yet
│   ├── Superseded               another holder has moved the checkpoint
│   ├── UnreadableBatch          an event in the feed can't be read or applied
│   │   └── Poisoned             that event, found among others
│   ├── Broken                   so much fails that it is no matter of single events
│   ├── Incompatible             a view would lose a column that others may count on
│   ├── NotServed                the views show a version that this code does not have
│   ├── NothingToDo              what was asked for is not there: no such build, key, or pause
│   └── NotDelivered             a workflow could not be started or signalled
└── StartupError                 something needed is missing, taken or already running
    ├── AlreadyRunning           these data already have a holder
    ├── DowngradeRefused         a schema only goes forward
    ├── PortTaken                somebody else listens there
    ├── SchemaTooNew             newer code than this has migrated the database
    ├── SchemaTooOld             the database lacks what this code needs
    └── ServerFailed             a server did not start, or ended unexpectedly
"""

from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = [
    "Abandoned",
    "AlreadyRunning",
    "AmendsError",
    "BeingCancelled",
    "Broken",
    "CommandIdReused",
    "Conflict",
    "DowngradeRefused",
    "DuplicateMessage",
    "EndedFromOutside",
    "Forgotten",
    "Incompatible",
    "InvalidInput",
    "KeyMissing",
    "MessageError",
    "MessageFromTheFuture",
    "MissingUpcaster",
    "NoAnswer",
    "NotDelivered",
    "NotParked",
    "NotServed",
    "NothingRecorded",
    "NothingToDo",
    "PastCancelling",
    "PersonalKeyMissing",
    "Poisoned",
    "PortTaken",
    "ProjectionError",
    "Refused",
    "SagaCancelled",
    "SagaEnded",
    "SagaError",
    "SchemaTooNew",
    "SchemaTooOld",
    "ServerFailed",
    "Stale",
    "StartupError",
    "StoreError",
    "Superseded",
    "Unavailable",
    "UnknownMessage",
    "UnknownSaga",
    "UnreadableBatch",
]


class AmendsError(Exception):
    """Root of everything raised on purpose: catch it to catch them all."""


class Refused(AmendsError):
    """The rules do not allow this.

    A rule that says no raises a subclass: its docstring is the message, its keyword arguments are the facts.
    """

    _by_name: ClassVar[dict[str, type["Refused"]]] = {}

    def __init_subclass__(cls) -> None:
        known = Refused._by_name.get(cls.__name__)
        if known is not None and known.__module__ != cls.__module__:
            raise DuplicateMessage(
                f"The refusal {cls.__name__} is declared in {known.__module__} and in {cls.__module__}; rename one"
            )
        Refused._by_name[cls.__name__] = cls

    def __init__(self, **facts: Any) -> None:
        self.facts = facts
        self.name = type(self).__name__
        text = " ".join((type(self).__doc__ or self.name).split("\n\n")[0].split())
        told = ", ".join(f"{key}={value}" for key, value in facts.items())
        self.message = f"{text} ({told})" if told else text
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        return Refused.recall, (self.name, self.message, self.facts)

    @staticmethod
    def recall(name: str, message: str, facts: Mapping[str, Any]) -> "Refused":
        """A recorded refusal as an exception again; of a plain `Refused` when no such class is imported."""
        refused = Refused._by_name.get(name, Refused)(**facts)
        refused.name, refused.message, refused.args = name, message, (message,)
        return refused


class Forgotten(Refused):
    """The person's data have been erased on request; nothing personal can be kept for them any more"""


class EndedFromOutside(Refused):
    """The saga was ended from outside and is being undone; none of its steps may act any more"""


class NotParked(Refused):
    """Nothing of that name waits for a repair, or somebody else is at it already"""


class SagaEnded(Refused):
    """The saga has ended; nothing of it can be repaired or cancelled any more"""


class BeingCancelled(Refused):
    """The saga is being cancelled already"""


class PastCancelling(Refused):
    """The saga only goes forward by now, or undoes already"""


class UnknownSaga(Refused):
    """There is no saga with this id"""


class Unavailable(AmendsError):
    """A server does not answer, or refuses.

    Args:
        message: which one, where, why, and what to do.
        server: PostgreSQL or Temporal.
        maybe_done: it is not known whether what was asked for has been, or will be, done.
    """

    def __init__(self, message: str, *, server: str, maybe_done: bool = False) -> None:
        self.server, self.maybe_done = server, maybe_done
        super().__init__(message)


class InvalidInput(AmendsError):
    """What was handed in can't be right.

    Args:
        problems: field (dotted path) → what is wrong with it, in the caller's words.
    """

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        super().__init__("; ".join(f"{field}: {problem}" for field, problem in self.problems.items()))


class MessageError(AmendsError):
    """A command or event can't be read or declared."""


class UnknownMessage(MessageError):
    """No class is registered under this message name."""


class DuplicateMessage(MessageError):
    """Two classes claim one message name."""


class MessageFromTheFuture(MessageError):
    """The message was stored by newer code than this."""


class MissingUpcaster(MessageError):
    """A message class skips a step from an old schema version to the next."""


class PersonalKeyMissing(MessageError):
    """Personal data can't be opened, though nobody has destroyed their key."""


class KeyMissing(AmendsError):
    """A payload of Temporal's can't be decrypted; says which key it takes."""


class StoreError(AmendsError):
    """The event store could not do it."""


class Conflict(StoreError):
    """The stream moved on while the command was being decided."""


class CommandIdReused(StoreError):
    """One command id was used for two different commands."""


class NothingRecorded(StoreError):
    """The log has nothing under this name."""


class SagaError(AmendsError):
    """A saga did not end the way it was asked to."""


class NoAnswer(SagaError):
    """No worker has answered in time; what was asked for is not lost, and may still be done."""


class SagaCancelled(SagaError):
    """Somebody asked the saga to stop before it was done."""


class Abandoned(SagaError):
    """An operator gave the saga up, so something it did still stands."""


class ProjectionError(AmendsError):
    """A projection or a process manager can't go on."""


class Stale(ProjectionError):
    """Read models have not caught up, so they can't answer yet."""


class Superseded(ProjectionError):
    """Another holder has moved this checkpoint; this one must stop."""


class UnreadableBatch(ProjectionError):
    """An event in the feed can't be read, or its handler failed."""


class Poisoned(UnreadableBatch):
    """An event among others can't be read or applied.

    Args:
        position: where it stands.
        error: what its handler, or the database, said.
    """

    def __init__(self, position: tuple[int, int], error: BaseException) -> None:
        self.position, self.error = position, error
        super().__init__(f"The event at {position[0]}:{position[1]} can't be applied: {type(error).__name__}: {error}")


class Broken(ProjectionError):
    """So many events fail that the projection itself must be broken; nothing is parked, it stops."""


class Incompatible(ProjectionError):
    """A view would lose, retype or move a column that somebody may count on."""


class NotServed(ProjectionError):
    """The views show a version of the projection that this code does not have."""


class NothingToDo(ProjectionError):
    """What was asked for is not there: no such projection, build, parked event, or pause."""


class NotDelivered(ProjectionError):
    """A process manager could not start or signal a workflow; it goes on trying."""


class StartupError(AmendsError):
    """Something needed to start is missing, taken or already running."""


class AlreadyRunning(StartupError):
    """These data are already in use by another `amends up`."""


class DowngradeRefused(StartupError):
    """A schema only goes forward: what was written since would be lost."""


class SchemaTooNew(StartupError):
    """Newer code than this has migrated the database."""


class SchemaTooOld(StartupError):
    """The database lacks what this code needs."""


class PortTaken(StartupError):
    """Somebody else listens on the port."""


class ServerFailed(StartupError):
    """A server did not start, or ended when it should not have."""
