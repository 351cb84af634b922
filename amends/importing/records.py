"""Records of another system, and what they become: a list of commands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, StringConstraints
from pydantic_core import to_json

from amends.importing.converters import OUTSIDE
from amends.messages import Command
from amends.values import Value

__all__ = ["IN_PART", "Shown", "SourceKey", "SourceRecord", "as_key", "in_part", "outside", "same_content"]

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

WHOLE = 16
"""Bytes of a fingerprint that stand for the whole content; those of earlier versions have no more."""

PARTED = b"\x01"
"""Follows on them where single fields follow."""

IN_PART = bytes(WHOLE)
"""Stands for the whole content where only a part of a change could be followed."""

SHORT = 2
"""Bytes that stand for one field: enough to see that it has changed, too few to tell who somebody is."""

MAX_KEY = 500
"""Longest key that another system may have, in characters."""


def as_key(text: str) -> str:
    """A key of another system as a `Key` of ours: as it is where it fits, else a hash of it.

    The hash says nothing of the key: where that is an e-mail address, none gets into ids.

    Args:
        text: the other system's key.
    """
    return text if _PLAIN.fullmatch(text) else f"k-{sha256(text.encode()).hexdigest()[:32]}"


def _text(value: Any) -> Any:
    return str(value) if type(value) is int else value


SourceKey = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_KEY), BeforeValidator(_text), AfterValidator(as_key)
]
"""A key of another system, text or a whole number; once read, it is a `Key` of ours."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a view must show when a record has been taken over.

    Args:
        view: name of the view in the schema `views`.
        key: the column that names the thing.
        value: its key.
        columns: further columns, each with the value it must have.
        personal: those of them that hold personal data: that they differ is told, and never what they hold.
        needed: whether there must be a row at all.
    """

    view: str
    key: str
    value: str
    columns: Mapping[str, Any]
    personal: frozenset[str] = frozenset()
    needed: bool = True


class SourceRecord(Value):
    """A record of another system: `class SourceBook(SourceRecord, kind="book")`, its fields, what it becomes.

    Args:
        id: the other system's key of the thing; whatever has the same kind and id is the same thing.
    """

    kind: ClassVar[str] = ""

    followed: ClassVar[frozenset[str] | None] = None
    """Fields that `changes()` follows; a change of any other is reported. None: whatever changes counts as followed."""

    id: SourceKey

    def __init_subclass__(cls, *, kind: str = "", **config: Any) -> None:
        super().__init_subclass__(**config)

    @classmethod
    def __pydantic_init_subclass__(cls, *, kind: str = "", **_: Any) -> None:
        cls.kind = kind

    def commands(self) -> Sequence[Command]:
        """What makes the thing ours; commands of several aggregates come in the order in which they may be refused."""
        raise TypeError(f"{type(self).__qualname__} becomes nothing; write its commands()")

    def changes(self) -> Sequence[Command]:
        """What brings a thing that is ours already to what the record says now; none where that can't be followed."""
        return ()

    def shown(self) -> Sequence[Shown]:
        """What the views must show of it, for a comparison."""
        return ()

    def fingerprint(self) -> bytes:
        """A hash of the content, however that was written: a moment is the same in each time zone.

        Fields that a later version of the class adds don't change it by their defaults.
        """
        content = _same(self.model_dump(exclude_defaults=True))
        whole = sha256(to_json([self.kind, content])).digest()[:WHOLE]
        if self.followed is None:
            return whole
        names = sorted(self._rest() & set(content))
        return whole + PARTED + b"".join(_short(name) + _short(content[name]) for name in names)

    def unfollowed(self, was: bytes) -> list[str]:
        """Fields that have changed and are not followed, as far as an earlier fingerprint can tell.

        Args:
            was: the fingerprint of what the record said before.
        """
        if self.followed is None or len(was) == WHOLE:
            return []
        before, now = _parts(was), _parts(self.fingerprint())
        return sorted(name for name in self._rest() if before.get(_short(name)) != now.get(_short(name)))

    def _rest(self) -> set[str]:
        return set(type(self).model_fields) - {"id"} - (self.followed or frozenset())


def same_content(one: bytes, other: bytes) -> bool:
    """Whether two fingerprints are of the same content, whatever each says of single fields."""
    return one[:WHOLE] == other[:WHOLE]


def in_part(was: bytes) -> bytes:
    """The fingerprint of a record of whose change only a part was followed: the same as no other.

    Args:
        was: its fingerprint before that.
    """
    return IN_PART + was[WHOLE:]


def _parts(fingerprint: bytes) -> dict[bytes, bytes]:
    parts = fingerprint[WHOLE + len(PARTED) :]
    return {parts[n : n + SHORT]: parts[n + SHORT : n + 2 * SHORT] for n in range(0, len(parts), 2 * SHORT)}


def _short(value: Any) -> bytes:
    return sha256(to_json(value)).digest()[:SHORT]


def _same(value: Any) -> Any:
    match value:
        case datetime() if value.tzinfo is not None:
            return value.astimezone(UTC)
        case dict():
            return {name: _same(part) for name, part in value.items()}
        case list() | tuple():
            return [_same(part) for part in value]
        case _:
            return value


def outside(value: Any, path: str = "") -> dict[str, str]:
    """Moments that have no time in UTC, the year 1 in Berlin say, as field path → complaint."""
    match value:
        case datetime() if value.tzinfo is not None:
            try:
                value.astimezone(UTC)
            except OverflowError:
                return {path: OUTSIDE}
            return {}
        case BaseModel() | dict():
            parts = list(dict(value).items())
        case list() | tuple():
            parts = list(enumerate(value))
        case _:
            return {}
    found: dict[str, str] = {}
    for key, part in parts:
        found |= outside(part, f"{path}.{key}".lstrip("."))
    return found
