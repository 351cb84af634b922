"""What became of an import: a summary of everything, and a report of each record that was not taken over."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

from pydantic_core import to_json

from amends.errors import InvalidInput

__all__ = ["Entry", "Report", "Summary"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A record that was not taken over.

    Args:
        line: where it begins in the file, from 1.
        kind: of the record; empty when not known.
        id: its key, as we have it; empty when not known.
        outcome: rejected; changed: it was taken over earlier with other content, and of that all, or the fields that
            the reason names, were left as they are.
        reason: why, with the field; never what stands in it.
    """

    line: int
    kind: str
    id: str
    outcome: Literal["rejected", "changed"]
    reason: str


@dataclass(slots=True)
class Summary:
    """What became of the records of a source.

    Args:
        read: records read.
        imported: taken over now.
        updated: taken over earlier, and now brought to what they say by now.
        already: taken over earlier as they are.
        changed: taken over earlier with other content, all or part of which was left as it is.
        rejected: not taken over; the report says why.
        seconds: how long it took.
        stopped: somebody asked it to stop before the end.
        by_kind: records taken over now, by kind.
    """

    read: int = 0
    imported: int = 0
    updated: int = 0
    already: int = 0
    changed: int = 0
    rejected: int = 0
    seconds: float = 0.0
    stopped: bool = False
    by_kind: dict[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.read / self.seconds if self.seconds else 0.0

    @property
    def complete(self) -> bool:
        """Whether everything that the source has is ours now, as it stands there."""
        return not (self.stopped or self.rejected or self.changed)


class Report:
    """A file with one JSON object for each record that was not taken over; made when there is the first.

    Args:
        path: the file; what an earlier run has left there is replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise InvalidInput({"report": f"{self.path} can't be written: {error.strerror}"}) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, entry: Entry) -> None:
        """Add a record.

        Raises:
            InvalidInput: the file can't be written.
        """
        try:
            if self._file is None:
                self._file = self.path.open("wb")
            self._file.write(to_json(entry) + b"\n")
            self._file.flush()
        except OSError as error:
            raise InvalidInput({"report": f"{self.path} can't be written: {error.strerror}"}) from error
