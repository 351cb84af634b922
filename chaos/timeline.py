"""What was done to whom, when: kept for the report, and written to a file as it happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

__all__ = ["Entry", "Timeline"]


@dataclass(frozen=True)
class Entry:
    """One line.

    Args:
        seconds: since the storm began; negative before that.
        whom: a process, a server, a connection, an order.
        what: in words.
    """

    seconds: float
    whom: str
    what: str

    def __str__(self) -> str:
        return f"{self.seconds:8.2f} s  {self.whom:<22} {self.what}"


class Timeline:
    """The run's diary.

    Args:
        path: file it is written to, line by line, so that it survives us.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self.watch: Callable[[Entry], None] = lambda entry: None
        self._begun = monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    def begin(self) -> None:
        """Count seconds from now on."""
        self._begun = monotonic()

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return monotonic() - self._begun

    def note(self, whom: str, what: str) -> None:
        """Write a line."""
        entry = Entry(self.now, whom, what)
        self.entries.append(entry)
        with self.path.open("a") as file:
            file.write(f"{entry}\n")
        self.watch(entry)
