"""Aggregates: what may happen to a thing (`decide`) and what it then is (`evolve`), both pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, ClassVar, Generic, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict

from amends.errors import DuplicateMessage, Refused, UnknownMessage
from amends.messages import Command, Event
from amends.values import check_marks

__all__ = ["Aggregate", "Aggregates", "Claim", "Decision", "Free", "stream_of"]

C = TypeVar("C", bound=Command)
E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Claim:
    """Take a value for oneself, at most once in the whole store, in the transaction that appends the events.

    Args:
        scope: what kind of value, e.g. "customer.email".
        value: the value; only its hash is stored.
        otherwise: the refusal when it is taken already; None leaves a taken one as it is, without complaint.
    """

    scope: str
    value: str
    otherwise: Refused | None


@dataclass(frozen=True)
class Free:
    """Give a claimed value back.

    Args:
        scope: as claimed.
        value: as claimed.
    """

    scope: str
    value: str


Decision = Sequence[Event | Claim | Free]
"""What a command leads to: events, and values claimed or freed with them."""


class Aggregate(BaseModel, Generic[C, E]):
    """A consistent thing with a stream of its own: `class Order(Aggregate[Commands, Events], category="order")`.

    The fields are the state, all with defaults: a thing that nothing has happened to yet. Keep them bounded: the cost
    of a command must not grow with what is long over.

    Args:
        category: what streams of this kind begin with.
        key: the field of every command that names the thing; the stream is `category-value`.
        snapshot_version: raise it when the state's fields change their meaning, so that old snapshots are ignored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    category: ClassVar[str] = ""
    key: ClassVar[str] = ""
    snapshot_version: ClassVar[int] = 1
    commands: ClassVar[tuple[type[Command], ...]] = ()
    events: ClassVar[tuple[type[Event], ...]] = ()

    def __init_subclass__(cls, *, category: str = "", key: str = "", snapshot_version: int = 1, **config: Any) -> None:
        super().__init_subclass__(**config)

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, category: str = "", key: str = "", snapshot_version: int = 1, **_: Any
    ) -> None:
        check_marks(cls, lasts=True)
        if not category:
            return
        cls.category, cls.key, cls.snapshot_version = category, key, snapshot_version
        if not category.isidentifier():
            raise TypeError(
                f"{cls.__qualname__}: streams begin with the category, so {category!r} must be a plain name"
            )
        parameters = next(filter(None, map(_arguments, cls.__mro__)), None)
        if parameters is None:
            raise TypeError(f"{cls.__qualname__} must say which messages it takes: Aggregate[Commands, Events]")
        commands, events = parameters
        cls.commands, cls.events = _members(commands), _members(events)
        for command in cls.commands:
            if key not in command.model_fields:
                raise TypeError(f"{command.__qualname__} has no field {key!r}, which names the {cls.__qualname__}")
            command.key_field, command.stream_category = key, category

    def decide(self, command: C) -> Decision:
        """Say what a command leads to in this state, or raise a `Refused` that says why not."""
        raise TypeError(f"{type(self).__qualname__} decides nothing; write its decide()")

    def evolve(self, event: E) -> Self:
        """The state after an event; never refuses, for it has happened."""
        raise TypeError(f"{type(self).__qualname__} evolves nowhere; write its evolve()")

    def replay(self, events: Iterable[Any]) -> Self:
        """The state after these events, oldest first."""
        state = self
        for event in events:
            state = state.evolve(event)
        return state

    def having(self, **changes: Any) -> Self:
        """The same state with some fields changed."""
        return self.model_copy(update=changes)

    @classmethod
    def stream_of(cls, command: Command) -> str:
        """The stream that a command of this aggregate goes to."""
        return cls.stream(str(getattr(command, cls.key)))

    @classmethod
    def stream(cls, key: str) -> str:
        """The stream of the thing with this key."""
        return f"{cls.category}-{key}"


def stream_of(command: Command) -> str:
    """The stream that a command goes to, for who does not know its aggregate.

    Raises:
        UnknownMessage: no module that declares an aggregate for it has been imported.
    """
    if not command.stream_category:
        raise UnknownMessage(f"No aggregate handles {command.message_name!r} here; import the module that declares it")
    return f"{command.stream_category}-{getattr(command, command.key_field)}"


class Aggregates:
    """Which aggregate handles which command.

    Args:
        aggregates: the classes there are.

    Raises:
        DuplicateMessage: two of them take the same command.
    """

    def __init__(self, aggregates: Iterable[type[Aggregate[Any, Any]]]) -> None:
        self._of: dict[type[Command], type[Aggregate[Any, Any]]] = {}
        for aggregate in aggregates:
            for command in aggregate.commands:
                if self._of.setdefault(command, aggregate) is not aggregate:
                    other = self._of[command].__qualname__
                    raise DuplicateMessage(
                        f"{command.__qualname__} is taken by {other} and by {aggregate.__qualname__}"
                    )

    def of(self, command: Command) -> type[Aggregate[Any, Any]]:
        """The aggregate that handles a command.

        Raises:
            UnknownMessage: none does.
        """
        try:
            return self._of[type(command)]
        except KeyError:
            raise UnknownMessage(
                f"No aggregate handles {command.message_name or type(command).__qualname__!r}; list it in the app"
            ) from None


def _arguments(base: type) -> tuple[Any, ...]:
    """The types that `Aggregate` was given, where this base is that."""
    metadata = getattr(base, "__pydantic_generic_metadata__", None)
    return metadata["args"] if metadata and metadata["origin"] is Aggregate else ()


def _members(annotation: Any) -> tuple[type[Any], ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
