"""What a check comes to: what was looked at, and what is wrong with how to mend it."""

from __future__ import annotations

from pydantic import BaseModel

__all__ = ["Checked", "Failure", "Verdict"]


class Failure(BaseModel):
    """Something that must not be deployed like this.

    Args:
        what: the thing and the facts.
        mend: what to do.
    """

    what: str
    mend: str


class Checked(BaseModel):
    """One part of the verdict.

    Args:
        name: of the part.
        looked_at: what there was to check, in words.
        failures: what is wrong.
        accepted: files that were written, since they are new and were to be accepted.
    """

    name: str
    looked_at: str
    failures: tuple[Failure, ...] = ()
    accepted: tuple[str, ...] = ()


class Verdict(BaseModel):
    """All parts.

    Args:
        parts: in the order in which they were looked at.
    """

    parts: tuple[Checked, ...]

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not any(part.failures for part in self.parts)
