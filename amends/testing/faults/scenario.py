"""What the tester says about a saga: how it is asked for, what has to be true in the end, how it is cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import uuid4

from pydantic import BaseModel

from amends.aggregate import Aggregate
from amends.client import Client
from amends.database import Pool
from amends.handler import CommandHandler
from amends.messages import Command
from amends.process import Process
from amends.records import Context
from amends.testing.faults.fault import Fault

__all__ = ["Ended", "Scenario", "World"]

A = TypeVar("A", bound=Aggregate[Any, Any])
Request = TypeVar("Request", bound=BaseModel)

ACTOR = "fault-test"


@dataclass(frozen=True)
class World:
    """What scenarios prepare and look at.

    Args:
        client: a client of the application, which mounts sub-processes in the way of the case.
        pool: connections of the writer role.
        handler: runs commands in this process, without a workflow for each.
    """

    client: Client
    pool: Pool
    handler: CommandHandler

    async def execute(self, *commands: Command) -> None:
        """Have commands done, one after the other.

        Raises:
            Refused: a rule said no.
        """
        for command in commands:
            id = f"given-{uuid4().hex}"
            context = Context(command_id=id, actor=ACTOR, correlation_id=id, causation_id=id)
            (await self.handler.handle(command, context)).raise_refusal()

    async def state(self, aggregate: type[A], key: str) -> A:
        """A thing as it is now."""
        return (await self.handler.state(aggregate, key))[0]

    async def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the database."""
        async with self.pool.connection() as connection:
            return await (await connection.execute(query.encode(), values)).fetchall()


@dataclass(frozen=True)
class Ended(Generic[Request]):
    """A saga that has ended.

    Args:
        world: to look at.
        saga_id: its workflow id.
        request: what it was asked.
        status: Completed or Compensated.
    """

    world: World
    saga_id: str
    request: Request
    status: str

    @property
    def completed(self) -> bool:
        """Whether it went through; otherwise all of it has to be undone."""
        return self.status == "Completed"


@dataclass(frozen=True)
class Scenario(Generic[Request]):
    """A saga under test.

    Args:
        name: as in the file of its table.
        process: its workflow class.
        request: prepares what the saga needs and gives what its `run` takes; called for each case with a key that
            nobody else uses. Left alone, the saga has to go well.
        check: asserts what has to be true once the saga has ended, of this saga's money and goods alone, for others
            run beside it; called again after every undo was done a second time.
        workflow_id: of the saga with this key.
        cancel: how the application cancels a saga, given its request; raises when it is too late. None where it can't.
        attributes: search attributes of the saga with this request, as keywords.
        reaction: an event starts it in life; ended before its first step, it is begun anew and cancelled.
    """

    name: str
    process: type[Process[Request, Any]]
    request: Callable[[World, str], Awaitable[Request]]
    check: Callable[[Ended[Request]], Awaitable[None]]
    workflow_id: Callable[[str], str] = str
    cancel: Callable[[World, Request], Awaitable[None]] | None = None
    attributes: Callable[[Request], Mapping[str, str]] = field(default=lambda request: {})
    reaction: bool = False

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Those that can be tried on it: all of them, if the application can cancel it."""
        return tuple(fault for fault in Fault if self.cancel is not None or not fault.withdraws)
