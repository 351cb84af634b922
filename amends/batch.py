"""Folds a batch of the feed into what it does to a projection's rows, and sorts out what can't be applied."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from psycopg import Error as PgError

from amends.changes import Rows
from amends.errors import Broken, InvalidInput, MessageError, UnreadableBatch
from amends.feed import Row
from amends.projection import Projection
from amends.records import Position
from amends.values import MASK, SHORTEST, personal_in

__all__ = ["MOST_KEYS", "Batch", "Letter", "fold", "refuse_if_broken", "sort_out", "told", "too_many"]

MANY_KEYS = 10
"""When an event of some name fails for as many keys in one batch and for none succeeds, the code is broken."""

MOST_KEYS = 100
"""With more keys parked than these, the projection is broken as a whole."""


@dataclass(frozen=True, slots=True)
class Letter:
    """An event that is to be parked.

    Args:
        row: the event.
        key: whose rows it touches.
        error: why it can't be applied; None when it only waits behind another one of its key.
    """

    row: Row
    key: str
    error: str | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that are applied together.

    Args:
        rows: what they do.
        letters: those that are parked instead, in order.
        fine: names of those that some handler took.
        skipped: what was known to be left out for good.
    """

    rows: Rows
    letters: list[Letter] = field(default_factory=list)
    fine: Collection[str] = ()
    skipped: Collection[Position] = ()


def told(error: BaseException) -> str:
    """An error as it is kept: of the database's own, without the values that it quotes in its details."""
    text = (error.diag.message_primary or str(error)) if isinstance(error, PgError) else str(error)
    return f"{type(error).__name__}: {text}"


def fold(projection: Projection, found: Sequence[Row]) -> Batch:
    """What some events do to the rows; those that nobody handles are not even decoded.

    Raises:
        UnreadableBatch: one can't be read, or its handler failed.
    """
    rows = projection.rows()
    for row in found:
        if row.name in projection.handlers:
            try:
                _apply(projection, row, rows)
            except Exception as error:
                raise UnreadableBatch(
                    f"Projection {projection.name!r} can't apply {row.name!r} at position {row.position}, version "
                    f"{row.version} of stream {row.stream}: {type(error).__name__}: {error}. Mend its handler or "
                    "upcaster"
                ) from error
    return Batch(rows)


def sort_out(
    projection: Projection,
    found: Sequence[Row],
    partition: int = 0,
    blocked: Collection[str] = (),
    poison: Mapping[Position, str] | None = None,
    skipped: Collection[Position] = (),
) -> Batch:
    """The same, but what can't be applied is parked, and so are the later events of its key.

    Args:
        projection: what to do.
        found: events, in order.
        partition: only its events count.
        blocked: keys of which events are parked already.
        poison: events that are known to fail, and why.
        skipped: events that are left out for good: neither applied nor parked.
    """
    failing = dict(poison or {})
    while True:
        rows, letters, held, known = projection.rows(), [], set(blocked), len(failing)
        fine: set[str] = set()
        for row in found:
            if not projection.takes(row, partition) or (skipped and row.position in skipped):
                continue
            if held or failing:
                key = projection.key_of(row)
                if key in held:
                    letters.append(Letter(row, key, None))
                    continue
                if row.position in failing:
                    held.add(key)
                    letters.append(Letter(row, key, _discreet(failing[row.position], row)))
                    continue
            try:
                _apply(projection, row, rows)
                fine.add(row.name)
            except Exception as error:
                failing[row.position] = told(error)
                key = projection.key_of(row)
                held.add(key)
                letters.append(Letter(row, key, _discreet(failing[row.position], row)))
        if len(failing) == known:  # else again, without the changes that a failing handler has made half
            return Batch(rows, letters, fine, skipped)


def refuse_if_broken(projection: Projection, batch: Batch, known: Collection[Position] = ()) -> None:
    """Park nothing where it is no matter of single events.

    Args:
        projection: whose.
        batch: a whole one: in a part of it, all may fail of which others succeed.
        known: events that could not be applied to another build either, which says nothing about this code.

    Raises:
        Broken: an event fails for many keys and succeeds for none, or too many keys fail.
    """
    failing = [letter for letter in batch.letters if letter.error is not None and letter.row.position not in known]
    keys: dict[str, set[str]] = {}
    for letter in failing:
        if letter.row.name not in batch.fine:
            keys.setdefault(letter.row.name, set()).add(letter.key)
    for name, of in keys.items():
        if len(of) >= MANY_KEYS:
            first = next(letter for letter in failing if letter.row.name == name)
            raise Broken(
                f"Projection {projection.name!r} fails for every {name!r} of {len(of)} keys, so none is parked. The "
                f"first is at position {first.row.position}, version {first.row.version} of stream {first.row.stream}: "
                f"{first.error}. Mend its handler or upcaster and deploy; the projection goes on from there"
            )
    many = len({letter.key for letter in failing})
    if many > MOST_KEYS:  # no need to find all of those that the database refuses
        raise too_many(projection.name, many, failing)


def too_many(name: str, keys: int, letters: Sequence[Letter]) -> Broken:
    """More keys can't be applied than can be single cases.

    Args:
        name: of the projection.
        keys: how many.
        letters: the last ones.
    """
    failed = next((letter for letter in letters if letter.error is not None), letters[0])
    return Broken(
        f"Projection {name!r} has events of {keys} keys to park, more than {MOST_KEYS}: it must be broken itself. One "
        f"of the latest is {failed.row.name!r} at position {failed.row.position}: {failed.error}. Mend and deploy it, "
        "or retry or skip what is parked; it goes on from there"
    )


def _apply(projection: Projection, row: Row, rows: Rows) -> None:
    fact = row.recorded()
    rows.at.position = fact.position
    projection.handlers[row.name](fact.event, fact, rows)


def _discreet(problem: str, row: Row) -> str:
    """What went wrong, without personal data: it is kept for longer than they may be."""
    try:
        personal = [part for part in personal_in(row.recorded().event) if isinstance(part, str)]
    except (MessageError, InvalidInput):
        return problem
    words = {word for text in personal for word in (text, *text.split()) if word}
    words |= {_plain(word) for word in words}  # as searches fold them
    for text in sorted(filter(None, words), key=len, reverse=True):
        whole = "" if len(text) >= SHORTEST else r"\b"
        problem = re.sub(f"{whole}{re.escape(text)}{whole}", MASK, problem, flags=re.IGNORECASE)
    return problem


def _plain(text: str) -> str:
    """Without accents."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
