"""The keys of persons, in the database: made when somebody's data are first kept, destroyed when they are forgotten."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from amends.database import Connection
from amends.errors import Forgotten, InvalidInput
from amends.sealing import Keys, all_clear, holds_sealed, opened, opened_text, sealed, subject_of
from amends.values import is_sealed, personal_in, problems_of

__all__ = ["clear_model", "clear_texts", "destroy", "key_for", "keys_for", "known_keys", "sealed_model"]

M = TypeVar("M", bound=BaseModel)

MAKE = "select subject, key from amends.keys_of(%s::text[])"
"""Keys of subjects, made where there are none."""

KNOWN = "select subject, key from amends.personal_keys where subject = any(%s::text[])"
"""Keys of subjects, where there are any; null where one was destroyed."""

DESTROY = "select amends.destroy_key(%s, %s)"
"""Destroy a subject's key, once."""


async def keys_for(connection: Connection, subjects: Collection[str]) -> Keys:
    """Keys to seal by, made where there are none; None for who is forgotten, and is to have none any more.

    Args:
        connection: of the writer or the client role.
        subjects: whose.
    """
    return _by_subject(await (await connection.execute(MAKE, (list(subjects),))).fetchall())


async def key_for(connection: Connection, subject: str) -> bytes:
    """The key to seal one subject's data by; arguments otherwise as `keys_for`.

    Raises:
        Forgotten: there is to be none any more.
    """
    key = (await keys_for(connection, [subject]))[subject]
    if key is None:
        raise Forgotten(subject=subject)
    return key


async def known_keys(connection: Connection, subjects: Collection[str]) -> Keys:
    """Keys to open by; of who never had one, there is none, and of who is forgotten, None.

    Args:
        connection: of the writer or the projector role.
        subjects: whose.
    """
    return _by_subject(await (await connection.execute(KNOWN, (sorted(subjects),))).fetchall())


async def clear_texts(connection: Connection, stored: Sequence[tuple[str, str]]) -> list[str]:
    """Stored JSON in clear; what can't be opened, because a key is lost, as it is: `all_clear` tells it apart.

    Args:
        connection: as for `known_keys`.
        stored: stream and JSON.
    """
    subjects = {stream for stream, text in stored if holds_sealed(text)}
    if not subjects:
        return [text for _, text in stored]
    keys = await known_keys(connection, subjects)
    return [opened_text(text, stream, keys) if stream in subjects else text for stream, text in stored]


async def clear_model(connection: Connection, model: M, subjects: Collection[str]) -> M:
    """A message or request with its sealed fields in clear, checked again: nobody could check them while sealed.

    Args:
        connection: as for `known_keys`.
        model: as it came.
        subjects: those whose data may be in it: nobody can have another's opened as their own.

    Raises:
        InvalidInput: what was sealed is no such value; names the field.
        Forgotten: whose data they are, has been forgotten.
        PersonalKeyMissing: they can't be opened.
    """
    keys = await known_keys(connection, subjects)
    for whose in {subject_of(part) for part in personal_in(model) if is_sealed(part)} & keys.keys():
        if keys[whose] is None:
            raise Forgotten(subject=whose)
    try:
        return all_clear(type(model)(**opened(model, model.model_dump(mode="json"), keys)))
    except ValidationError as error:  # of a model that is no Value
        raise InvalidInput(problems_of(error)) from None


def sealed_model(model: M, subject: str, key: bytes) -> M:
    """A message or request as it may travel: its personal fields sealed."""
    return type(model).model_validate(sealed(model, model.model_dump(mode="json"), subject, key))


async def destroy(connection: Connection, subject: str, actor: str) -> datetime:
    """Destroy a key, so that all it has sealed is unreadable wherever a copy of it is; again, it changes nothing.

    Args:
        connection: of the writer role.
        subject: whose.
        actor: on whose behalf.

    Returns:
        when it was destroyed.
    """
    row = await (await connection.execute(DESTROY, (subject, actor))).fetchone()
    assert row is not None
    at: datetime = row[0]
    return at


def _by_subject(rows: Iterable[tuple[str, bytes | None]]) -> Keys:
    return {subject: None if key is None else bytes(key) for subject, key in rows}
