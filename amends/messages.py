"""Commands and events: frozen, stably named, versioned, and read in whatever version they were stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import StringConstraints, ValidationError
from pydantic_core import from_json

from amends.errors import DuplicateMessage, InvalidInput, MessageFromTheFuture, MissingUpcaster, UnknownMessage
from amends.values import Personal, Value, check_marks, problems_of

__all__ = ["Command", "Event", "Key", "Message", "Personal", "Registry", "upcast"]

Data = dict[str, Any]
Upcaster = Callable[[Data], Data]
T = TypeVar("T")

Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""What names a thing: letters, digits, dot, underscore and hyphen, at most 64, safe in ids, URLs and SQL."""


UPCASTS = "__upcasts__"

IN_A_SCRIPT = ". It is the same class: Temporal loads a script a second time; declare messages in a module, import that"


def upcast(from_version: int) -> Callable[[Upcaster], Upcaster]:
    """Declare, inside an event class, how its data of `from_version` become data of the next version.

    Args:
        from_version: the schema version that the decorated static function reads.

    Returns:
        the function, marked; it takes and returns the stored fields as a dict.
    """

    def mark(function: Upcaster) -> Upcaster:
        plain = function.__func__ if isinstance(function, staticmethod) else function
        setattr(plain, UPCASTS, from_version)
        return staticmethod(plain)

    return mark


class Message(Value):
    """What commands and events share: immutable, unknown fields refused, a stable name and schema version."""

    message_name: ClassVar[str] = ""
    schema_version: ClassVar[int] = 1
    upcasters: ClassVar[Mapping[int, Upcaster]] = {}
    registry: ClassVar[Registry]

    def __init_subclass__(cls, *, name: str = "", version: int = 1, **config: Any) -> None:
        super().__init_subclass__(**config)

    @classmethod
    def __pydantic_init_subclass__(cls, *, name: str = "", version: int = 1, **_: Any) -> None:
        super().__pydantic_init_subclass__()
        if not name:
            return
        cls.message_name = name
        cls.schema_version = version
        members = (vars(cls)[key] for key in vars(cls))
        functions = [member.__func__ for member in members if isinstance(member, staticmethod)]
        cls.upcasters = {getattr(f, UPCASTS): f for f in functions if hasattr(f, UPCASTS)}
        cls.registry.add(cls)


class Registry:
    """Which class reads which message name, and how older versions of it become current.

    Args:
        kind: "command" or "event", for messages of errors.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.classes: dict[str, type[Message]] = {}

    def add(self, cls: type[Message]) -> None:
        """Register a class under its name.

        Raises:
            DuplicateMessage: another class has the name.
            MissingUpcaster: an older version can't be brought to the class's version.
        """
        name, known = cls.message_name, self.classes.get(cls.message_name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise DuplicateMessage(
                f"The {self.kind} name {name!r} belongs to {known.__module__}.{known.__qualname__}; "
                f"{cls.__module__}.{cls.__qualname__} needs another one"
                + (IN_A_SCRIPT if cls.__module__ == "__temporal_main__" else "")
            )
        missing = set(range(1, cls.schema_version)) - cls.upcasters.keys()
        if missing:
            raise MissingUpcaster(
                f"The {self.kind} {name!r} is at version {cls.schema_version} but has no upcaster from version "
                f"{', '.join(map(str, sorted(missing)))}; add @upcast({min(missing)}) to {cls.__qualname__}"
            )
        self.classes[name] = cls

    def find(self, name: str) -> type[Message]:
        """The class registered under a name.

        Raises:
            UnknownMessage: no class is.
        """
        try:
            return self.classes[name]
        except KeyError:
            raise UnknownMessage(
                f"No {self.kind} is named {name!r}; import the module that declares it, or deploy the newer code"
            ) from None

    def read(self, name: str, version: int, data: Data | str) -> Message:
        """Turn stored data of any version into today's message.

        Args:
            name: of the message.
            version: in which it was stored.
            data: its fields, or the JSON of them, which is quicker where the version is today's.

        Raises:
            UnknownMessage: no class has the name.
            MessageFromTheFuture: stored in a version this code does not know yet.
            InvalidInput: the data don't fit the class; names each field.
        """
        cls = self.find(name)
        if isinstance(data, str) and version == cls.schema_version:
            try:
                return cls.model_validate_json(data)
            except ValidationError as error:
                raise InvalidInput(problems_of(error)) from None
        fields: Data = from_json(data) if isinstance(data, str) else data
        if version > cls.schema_version:
            raise MessageFromTheFuture(
                f"The {self.kind} {name!r} was stored in version {version}; this code reads up to "
                f"{cls.schema_version}. Deploy the newer code here before you read on"
            )
        for step in range(version, cls.schema_version):
            fields = cls.upcasters[step](dict(fields))
        return cls(**fields)


class Command(Message):
    """Something that somebody wants done: imperative, may be refused. Name it: `class Pay(Command, name="…")`."""

    registry: ClassVar[Registry] = Registry("command")
    key_field: ClassVar[str] = ""
    stream_category: ClassVar[str] = ""

    @property
    def step_name(self) -> str:
        """What the command is called in ids: its name and the key of the thing it is for."""
        return f"{self.message_name}:{getattr(self, self.key_field)}"


class Event(Message):
    """Something that has happened: past tense, kept for ever. Name it: `class Paid(Event, name="…", version=1)`."""

    registry: ClassVar[Registry] = Registry("event")

    @classmethod
    def __pydantic_init_subclass__(cls, *, name: str = "", version: int = 1, **_: Any) -> None:
        super().__pydantic_init_subclass__(name=name, version=version)
        check_marks(cls, lasts=True)

    @classmethod
    def read(cls, name: str, version: int, data: Data | str) -> Self:
        """Read a stored event of any version; errors as `Registry.read`."""
        event = Event.registry.read(name, version, data)
        assert isinstance(event, cls)
        return event
