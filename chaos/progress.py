"""The bar that people watch: how many orders have ended, how fast, and what is being done to whom."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from chaos.timeline import Entry

__all__ = ["Progress"]


class _Rate(ProgressColumn):
    """So many orders a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.1f}/s")


class Progress:
    """Shows a run; a context manager.

    Args:
        console: where.
    """

    def __init__(self, console: Console) -> None:
        columns = (BarColumn(20), MofNCompleteColumn(), _Rate(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._bar = Bar(*columns, console=console)
        self._task = self._bar.add_task("starting PostgreSQL, Temporal and two workers", total=None)
        self._ended: Callable[[], int] = lambda: 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, orders: int, ended: Callable[[], int]) -> None:
        """The storm begins.

        Args:
            orders: how many there are to be.
            ended: how many have ended by now.
        """
        self._ended = ended
        self._bar.update(self._task, total=orders, description="the storm breaks")

    def doing(self, what: str) -> None:
        """Say what is being done."""
        self._bar.update(self._task, description=what, completed=self._ended())

    def entry(self, entry: Entry) -> None:
        """Show the timeline's latest line."""
        self.doing(f"{entry.whom}: {entry.what}"[:80])
