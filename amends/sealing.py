"""Seals what stands in personal fields with a key of its own for each person, so that destroying the key forgets it.

Sealing is deterministic, by AES-SIV (RFC 5297): the same text under the same key is sealed the same way, so a request
that is sent again is known again, and nobody needs to draw a nonce. What is sealed says whose it is and opens for that
subject alone.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic_core import from_json, to_json

from amends.errors import InvalidInput, PersonalKeyMissing
from amends.values import FORGOTTEN, SEALED, carries_personal, changed_personal, is_sealed, personal_in

__all__ = [
    "Keys",
    "all_clear",
    "has_personal",
    "holds_sealed",
    "is_closed",
    "opened",
    "opened_text",
    "sealed",
    "subject_of",
]

M = TypeVar("M")

Keys = Mapping[str, bytes | None]
"""Keys by whom they are for, 64 bytes: AES-256 in SIV mode takes two halves of 32. None where it was destroyed."""

_MARK = f'"{SEALED}'
"""How a sealed text begins in JSON."""


def has_personal(value: Any) -> bool:
    """Whether anything stands in personal fields of a value, or of what is inside it."""
    return carries_personal(type(value)) and any(part is not None for part in personal_in(value))


def is_closed(value: Any) -> bool:
    """Whether something in the personal fields of a value, or of what is inside it, is sealed."""
    return carries_personal(type(value)) and any(map(is_sealed, personal_in(value)))


def holds_sealed(text: str) -> bool:
    """Whether something sealed may stand in this JSON; quick, for every event that is read is asked."""
    return _MARK in text


def sealed(value: Any, data: Any, subject: str, key: bytes) -> Any:
    """A value's JSON data with its personal fields sealed.

    Args:
        value: model, or what holds models.
        data: the same as JSON data.
        subject: whose it is.
        key: of that subject.

    Raises:
        InvalidInput: something in it is sealed already, or looks like it.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    cipher = AESSIV(key)

    def seal(part: Any) -> Any:
        if part is None:
            return None
        if is_sealed(part):
            raise InvalidInput({"input": f"a text can't begin with {SEALED!r}"})
        secret = cipher.encrypt(to_json(part), [subject.encode()])
        return f"{SEALED}{subject}:{base64.urlsafe_b64encode(secret).decode()}"

    return changed_personal(value, data, seal)


def opened(value: Any, data: Any, keys: Keys) -> Any:
    """A value's JSON data with its personal fields in clear; where the key was destroyed, a placeholder.

    What can't be opened stays as it is: see `all_clear`.

    Args:
        value: model, or what holds models.
        data: the same as JSON data.
        keys: of all subjects in it.
    """
    return changed_personal(value, data, lambda part: _open(part, keys) if is_sealed(part) else part)


def opened_text(text: str, subject: str, keys: Keys) -> str:
    """Stored JSON in clear, in whatever version of its message; otherwise as `opened`.

    Args:
        text: the JSON.
        subject: the only one whose sealed texts are opened here: nobody can have another's shown as their own.
        keys: of that subject.
    """
    own = {subject: keys[subject]} if subject in keys else {}
    return to_json(_each_text(from_json(text), lambda part: _open(part, own) if is_sealed(part) else part)).decode()


def all_clear(value: M) -> M:
    """The value itself, unless something in it is sealed still.

    Raises:
        PersonalKeyMissing: it is, for its key was not destroyed, but is not there, or does not fit.
    """
    for part in personal_in(value):
        if is_sealed(part):
            subject = subject_of(part)
            shown = subject if len(subject) <= 100 else f"{subject[:100]}…"
            raise PersonalKeyMissing(
                f"Personal data of {shown!r} can't be opened: their key is not in amends.personal_keys, though nobody "
                "has destroyed it, or is another one. Restore that table, or see whether it was sealed here at all"
            )
    return value


def subject_of(text: str) -> str:
    """Whose a sealed text is."""
    return text.removeprefix(SEALED).rpartition(":")[0]


def _open(text: str, keys: Keys) -> Any:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    subject = subject_of(text)
    if subject not in keys:
        return text
    key = keys[subject]
    if key is None:
        return FORGOTTEN
    try:
        return from_json(AESSIV(key).decrypt(base64.urlsafe_b64decode(text.rpartition(":")[2]), [subject.encode()]))
    except (InvalidTag, ValueError):  # binascii.Error is one too
        return text


def _each_text(data: Any, change: Callable[[str], Any]) -> Any:
    match data:
        case str():
            return change(data)
        case Mapping():
            return {name: _each_text(part, change) for name, part in data.items()}
        case list():
            return [_each_text(part, change) for part in data]
        case _:
            return data
