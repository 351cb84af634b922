"""Processes: workflows that are sagas, startable by themselves and mountable in one another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from amends.saga import Saga

__all__ = ["Process"]

Request = TypeVar("Request")
Result = TypeVar("Result")


class Process(ABC, Generic[Request, Result]):
    """A workflow that is a saga: `@workflow.defn class Pay(Process[PayRequest, Paid])`, with `@workflow.run` on `run`.

    It can be started by itself, run inside another saga, or as its child, with the same code.
    """

    def __init__(self) -> None:
        self.saga = Saga()

    @abstractmethod
    async def run(self, request: Request) -> Result:
        """The business process, inside `async with self.saga as saga`."""
