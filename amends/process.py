"""Processes: workflows that are sagas, startable by themselves and mountable in one another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

from amends.saga import Saga

__all__ = ["Process"]

Request = TypeVar("Request")
Result = TypeVar("Result")


class Process(ABC, Generic[Request, Result]):
    """A workflow that is a saga: `@workflow.defn class Pay(Process[PayRequest, Paid])`, with `@workflow.run` on `run`.

    It can be started by itself, run inside another saga, or as its child, with the same code.

    Args:
        answers: names of updates that wait for something, tell of it and change nothing; all others take effect when
            the history knows of them.
    """

    answers: ClassVar[tuple[str, ...]] = ("accepted",)

    def __init__(self) -> None:
        self.saga = Saga()

    @abstractmethod
    async def run(self, request: Request) -> Result:
        """The business process, inside `async with self.saga as saga`."""
