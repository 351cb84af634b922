"""What is asked of a rebuild, and what comes of it; travels through workflows, so it imports little."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

__all__ = ["RebuildRequest", "Rebuilt", "Report", "TableReport", "Who"]

Kind = Literal["only_old", "only_new", "different"]


class TableReport(BaseModel):
    """How a table of a build compares with the one that is served.

    Args:
        table: name of its view.
        old_rows: rows of the one that is served; None when there is no such table.
        new_rows: rows of the build.
        same: whether the rows are to be the same: of the same version, or one in which the table means the same still.
        compared: the columns that were compared; none where the rows are only counted.
        differing: rows only in the one, only in the other, or different.
        first: the first keys of each.
    """

    table: str
    old_rows: int | None
    new_rows: int
    same: bool = True
    compared: list[str] = Field(default_factory=list)
    differing: dict[Kind, int] = Field(default_factory=dict)
    first: dict[Kind, list[list[Any]]] = Field(default_factory=dict)


class Report(BaseModel):
    """How a build compares with what is served.

    Args:
        same_version: whether both are of the same version.
        old: version and generation of what is served.
        new: version and generation of the build.
        position: where in the feed both stood.
        tables: table by table.
        newly_parked: positions of events that are parked in the build alone.
    """

    same_version: bool
    old: tuple[int, int]
    new: tuple[int, int]
    position: str
    tables: list[TableReport]
    newly_parked: list[str]

    @property
    def agrees(self) -> bool:
        """Whether the build may take the place of what is served without a person looking at it."""
        return not self.newly_parked and not any(table.same and table.differing for table in self.tables)


class Who(BaseModel):
    """Who wants something, and why.

    Args:
        actor: who.
        reason: why.
    """

    actor: str
    reason: str


class RebuildRequest(Who):
    """A rebuild.

    Args:
        name: of the projection.
        version: that the code must have, at least.
        accept: swap even where the rows differ.
        throttle: events a second, at most.
        auto: nobody asked for it: the version was raised, or the settings changed.
    """

    name: str
    version: int
    accept: bool = False
    throttle: float | None = None
    auto: bool = False


class Rebuilt(BaseModel):
    """What came of a rebuild.

    Args:
        outcome: swapped; differs: the build waits for a person; cancelled; nothing was to be done.
        version: of the projection.
        generation: which build of it.
        events: how many it has read, by the worker that finished it.
        report: how it compares with what was served.
    """

    outcome: Literal["swapped", "differs", "cancelled", "nothing"]
    version: int
    generation: int
    events: int = 0
    report: Report | None = None
