"""What an examination finds: one line for each thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Health", "unknown", "well", "wrong"]

Health = Literal["well", "wrong", "unknown"]
"""unknown: it could not be looked at, because of something that is wrong and told elsewhere."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing.

    Args:
        what: was looked at.
        health: how it is.
        told: what is known of it.
        advice: what to do, as a command where there is one; empty when nothing is to be done.
    """

    what: str
    health: Health
    told: str
    advice: str = ""


def well(what: str, told: str) -> Finding:
    """Nothing is to be done about it."""
    return Finding(what, "well", told)


def wrong(what: str, told: str, advice: str) -> Finding:
    """Somebody has to do something."""
    return Finding(what, "wrong", told, advice)


def unknown(what: str, told: str) -> Finding:
    """It could not be looked at."""
    return Finding(what, "unknown", told)
