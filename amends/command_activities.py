"""An activity for each command, named as the command, so that the Web UI's timeline reads like the story."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import Any, TypeVar, get_type_hints

import structlog
from psycopg import DataError, IntegrityError
from pydantic import BaseModel
from temporalio import activity
from temporalio.exceptions import ApplicationError

from amends.aggregate import Aggregate
from amends.errors import CommandIdReused, InvalidInput, MessageError, Refused
from amends.handler import CommandHandler
from amends.messages import Command
from amends.records import Context, Receipt, Refusal
from amends.shield import to_the_end
from amends.steps import Answer, offer_call, refused
from amends.store import EventStore

__all__ = ["bind_activities", "command_activities"]

T = TypeVar("T")


def command_activities(
    handler: CommandHandler, aggregates: Iterable[type[Aggregate[Any, Any]]]
) -> list[Callable[..., Awaitable[Receipt]]]:
    """The activities that a worker registers so that workflows can send commands.

    Args:
        handler: runs the commands.
        aggregates: those whose commands are offered.
    """
    return [_activity_of(handler, command) for aggregate in aggregates for command in aggregate.commands]


def _logged(context: Context) -> AbstractContextManager[None]:
    """Let every log line say for which command, workflow and business keys it is."""
    keys = context.model_dump(include={"command_id", "workflow_id", "correlation_id"}) | context.labels
    return structlog.contextvars.bound_contextvars(**keys)


def _activity_of(handler: CommandHandler, kind: type[Command]) -> Callable[..., Awaitable[Receipt]]:
    async def handle(command: Any, context: Any) -> Receipt:
        with _logged(context):
            attempt = activity.info().attempt
            receipt = await _unless_shutting_down(_final_errors(handler.handle(command, context, attempt)))
            return receipt.model_copy(update={"attempt": attempt})

    handle.__annotations__ = {"command": kind, "context": Context, "return": Receipt}
    return activity.defn(name=kind.message_name)(handle)


async def _final_errors(handling: Awaitable[T]) -> T:
    """What no retry can mend fails at once; a refusal travels as one."""
    try:
        return await handling
    except Refused as error:
        raise refused(Refusal.of(error)) from None
    except (CommandIdReused, InvalidInput, MessageError, DataError, IntegrityError) as error:
        raise ApplicationError(str(error), type=type(error).__name__, non_retryable=True) from error


def bind_activities(implementation: object, store: EventStore) -> list[Callable[..., Any]]:
    """The activities that an object implements for an interface class whose methods carry `@activity.defn`.

    Args:
        implementation: of a subclass that overrides them, undecorated.
        store: keeps a record of each call.
    """
    found = []
    for interface in type(implementation).__mro__[1:]:
        for name, declared in vars(interface).items():
            definition = activity._Definition.from_callable(declared) if callable(declared) else None
            if definition is not None:
                assert definition.name is not None
                found.append(_bound(getattr(implementation, name), declared, definition.name, store))
    return found


async def _unless_shutting_down(running: Awaitable[T]) -> T:
    """Finish what has begun although the saga is cancelled, so that it learns the outcome; but let the worker end."""
    task = asyncio.ensure_future(running)

    def cancelled() -> None:
        if activity.is_worker_shutdown():
            task.cancel()  # another worker will take it up

    return await to_the_end(task, cancelled=cancelled)


@asynccontextmanager
async def _beating() -> AsyncIterator[None]:
    """Tell the server that the activity is alive, so that a dead worker's calls are soon taken up by another."""
    silence = activity.info().heartbeat_timeout
    if silence is None:
        yield
        return

    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(silence.total_seconds() / 3)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()


async def _recorded(store: EventStore, name: str, context: Context, calling: Callable[[], Awaitable[T]]) -> T:
    """Keep a record of a saga's call: before it acts, where it can be undone, and of its answer."""
    if context.kind is None:
        return await calling()
    info = activity.info()
    note = partial(store.note, name, context, started_at=info.scheduled_time, attempt=info.attempt)
    if info.attempt > 1 and (refusal := await store.refusal_of(context.command_id)) is not None:
        raise refusal.error()  # an earlier attempt's answer got lost; it is what the log tells, so it holds
    if context.undo is not None or context.pivot:
        await note("begun")
    try:
        result = await calling()
    except Refused as refusal:
        await note("done", refused=refusal)
        raise
    await note("done")
    return result


def _bound(
    method: Callable[..., Awaitable[Any]], declared: Callable[..., Any], name: str, store: EventStore
) -> Callable[..., Any]:
    async def call(argument: Any, context: Any) -> Answer:
        async def calling() -> Any:
            opened = argument
            if isinstance(argument, BaseModel):  # only what its own saga has sealed
                opened = await store.in_clear(argument, context.correlation_id)
            result = await method(opened, context.within_step())
            return await store.closed(result, context.correlation_id) if isinstance(result, BaseModel) else result

        with _logged(context):
            async with _beating():
                recorded = _recorded(store, name, context, calling)
                value = await _unless_shutting_down(_final_errors(recorded))
        return Answer(attempt=activity.info().attempt, value=value)

    hints = get_type_hints(declared)
    argument = next(hint for parameter, hint in hints.items() if parameter not in ("context", "return"))
    offer_call(name, argument)
    call.__annotations__ = {"argument": argument, "context": Context, "return": Answer}
    return activity.defn(name=name)(call)
