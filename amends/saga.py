"""Sagas: steps in order, each with its undo, and the undoing, newest first, when one of them fails.

The mechanism behind the stories in workflows. What a saga promises:

- the undo of a step is registered before the step runs, because a timeout can hide a success;
- a refusal undoes at once, a flaky world is retried within the step's deadline, an unknown outcome is undone;
- undo runs newest first, shielded from cancellation, and is retried until it is done;
- a command's id comes from the workflow id and the step, so nothing acts twice, whoever retries.

The pattern: Garcia-Molina and Salem, "Sagas", SIGMOD 1987.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, overload

import structlog
from temporalio import workflow
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import ApplicationError, ChildWorkflowError, FailureError, is_cancelled_exception

from amends.errors import AmendsError, Refused, SagaCancelled
from amends.messages import Command
from amends.policies import CALL, COMMAND
from amends.records import START, Context, Position, Receipt, Refusal
from amends.steps import Call, Step, dispatch, refused
from amends.visibility import MEMO, SAGA_STATUS, SAGA_STEP, Entry, SagaMemo, SagaStatus, timeline

__all__ = ["Process", "Saga", "SagaUndone", "Undo"]

log = structlog.get_logger("amends.saga")

R = TypeVar("R")
Request = TypeVar("Request")
Result = TypeVar("Result")

_OWN_ATTRIBUTES = (SAGA_STATUS.name, SAGA_STEP.name)

Undo = Step | Callable[[str], Step]
"""What takes a step back: a command or call, or a function of the reason that gives one."""


CANCELLED_FROM_OUTSIDE = "cancelled_by_operator"
"""Reason of a saga whose workflow was cancelled through Temporal, by an operator or by its parent."""


class SagaUndone(ApplicationError):
    """The saga failed, and everything it had done is undone.

    Uncaught, it closes the workflow as failed with the refusal in its details, which a parent saga reads.

    Args:
        reason: short code of why: the refusal's name, or what was said with the cancellation.
        refusal: the refusal, when a rule said no.
    """

    def __init__(self, reason: str, message: str, refusal: Refusal | None) -> None:
        super().__init__(message, reason, refusal, type="SagaUndone", non_retryable=True)
        self.reason = reason
        self.refusal = refusal

    def for_caller(self) -> ApplicationError:
        """The same for somebody who waits for an answer of the saga: the refusal, where there is one."""
        return refused(self.refusal) if self.refusal else ApplicationError(self.message, type=self.type)


@dataclass(slots=True, eq=False)
class _Registered:
    """An undo on the stack."""

    title: str
    undo: Undo
    path: str


@dataclass(slots=True)
class _Run:
    """What a saga shares with the sub-processes mounted inside it."""

    memo: SagaMemo
    undos: list[_Registered] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    used: Counter[str] = field(default_factory=Counter)
    task: asyncio.Task[Any] | None = None
    status: SagaStatus = "Running"
    failure: SagaUndone | None = None
    cancelled: str | None = None
    forward_only: bool = False
    position: Position = START


class Saga:
    """A saga, or the part of one that a sub-process mounted in it runs; use it by `async with self.saga as saga`."""

    def __init__(self, parent: Saga | None = None, path: str = "") -> None:
        self._parent = parent
        self._path = path
        memo = workflow.memo_value(MEMO, default=None, type_hint=SagaMemo) if parent is None else None
        self._run: _Run = parent._run if parent else _Run(memo or SagaMemo())

    async def __aenter__(self) -> Self:
        if self._parent is None:
            self._run.task = asyncio.current_task()
            if workflow.info().typed_search_attributes.get(SAGA_STATUS) is None:
                workflow.upsert_search_attributes([SAGA_STATUS.value_set("Running")])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        if self._parent is not None:
            return False  # the saga it is mounted in undoes
        if error is None:
            await self._shielded(workflow.wait_condition(workflow.all_handlers_finished))
            self._show("Completed")
            return False
        if not _is_failure(error):
            return False  # a bug: the workflow task fails, and goes on from here once it is mended
        undone = self._run.failure = self._why(error)
        stuck = [undone.message] if self._run.forward_only else await self._undo_all(undone.reason)
        await self._shielded(workflow.wait_condition(workflow.all_handlers_finished))
        if stuck:
            self._show("NeedsAttention")
            raise ApplicationError("; ".join(stuck), type="UndoFailed", non_retryable=True) from error
        self._show("Compensated")
        log.info("saga_undone", reason=undone.reason)
        raise undone from error

    @property
    def status(self) -> SagaStatus:
        """Where the saga stands."""
        return self._run.status

    @property
    def failure(self) -> SagaUndone | None:
        """Why the saga turned back; None while all goes well."""
        return self._run.failure

    @property
    def position(self) -> Position:
        """Where the latest of its events stands in the feed."""
        return self._run.position

    @property
    def can_be_cancelled(self) -> bool:
        """Whether a cancellation would still have an effect."""
        return self._run.status == "Running" and not self._run.forward_only

    def cancel(self, reason: str) -> None:
        """Stop what the saga is doing and undo what it has done; without effect once it only goes forward.

        Args:
            reason: short code that the undos get to see.
        """
        if self.can_be_cancelled and self._run.cancelled is None:
            self._run.cancelled = reason
            if self._run.task is not None:
                self._run.task.cancel()

    @overload
    async def do(self, title: str, step: Command, *, undo: Undo | None = None, pivot: bool = False) -> Receipt: ...
    @overload
    async def do(self, title: str, step: Call[R], *, undo: Undo | None = None, pivot: bool = False) -> R: ...
    async def do(self, title: str, step: Step, *, undo: Undo | None = None, pivot: bool = False) -> Any:
        """Do one step of the saga.

        Args:
            title: what it does, for people.
            step: a command, or a call of an activity that leaves the house.
            undo: what takes it back; registered before the step begins, so it must bear that nothing had happened.
            pivot: when this is done the saga only goes forward: no cancellation, retries without end.

        Returns:
            the receipt of a command, the result of a call.

        Raises:
            Refused: a rule said no; the step had no effect.
            SagaCancelled: the saga was cancelled meanwhile.
            ActivityError: the step's deadline passed.
        """
        registered = self._register(title, () if undo is None else (undo,), self._path)
        command_id = self._id(step)
        if self._run.forward_only:
            return await self._step(title, self._shielded(self._dispatch(step, command_id, without_end=True)))
        self._raise_if_cancelled()
        if not pivot:
            try:
                return await self._step(title, self._dispatch(step, command_id))
            except Refused:
                self._forget(registered)
                raise
            finally:
                self._raise_if_cancelled()
        self._run.forward_only = True
        try:
            result = await self._step(title, self._shielded(self._dispatch(step, command_id)))
        except BaseException:
            self._run.forward_only = False
            raise
        self._run.undos.clear()
        return result

    async def wait(self, title: str, condition: Callable[[], bool], *, timeout: timedelta) -> bool:
        """Wait until something has become true in this workflow, by a signal or an update.

        Args:
            title: what for, for people.
            condition: looked at whenever something has happened.
            timeout: longest wait; a durable timer.

        Returns:
            whether it became true in time.

        Raises:
            SagaCancelled: the saga was cancelled meanwhile.
        """

        async def waiting() -> bool:
            try:
                await workflow.wait_condition(condition, timeout=timeout)
            except TimeoutError:
                return False
            return True

        self._raise_if_cancelled()
        try:
            return await self._step(title, waiting())
        finally:
            self._raise_if_cancelled()

    async def all(self, *steps: Awaitable[R]) -> list[R]:
        """Do steps side by side and wait for all of them.

        Args:
            steps: calls of `do`, `sub` or `child`, not yet awaited.

        Returns:
            their results, in the order given.

        Raises:
            the first failure in the order given, when all have ended.
        """
        results = await asyncio.gather(*steps, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results  # type: ignore[return-value]  # failures were raised above

    async def sub(self, name: str, process: type[Process[Request, Result]], request: Request) -> Result:
        """Run another process inside this saga's history; its handlers and queries join this workflow's.

        Args:
            name: the sub-process's place in this saga; part of its command ids.
            process: its workflow class.
            request: what its `run` takes.

        Raises:
            Refused: the sub-process was refused.
        """
        mount = self._child if self._run.memo.mount == "child" else self._inline
        return await mount(name, process, request)

    async def child(self, name: str, process: type[Process[Request, Result]], request: Request) -> Result:
        """Run another process as a child workflow with a history of its own; otherwise like `sub`."""
        mount = self._inline if self._run.memo.mount == "inline" else self._child
        return await mount(name, process, request)

    async def _inline(self, name: str, process: type[Process[Request, Result]], request: Request) -> Result:
        mounted = process()
        mounted.saga = Saga(self, f"{self._path}{name}/")
        _join_handlers(mounted)
        return await mounted.run(request)

    async def _child(self, name: str, process: type[Process[Request, Result]], request: Request) -> Result:
        registered = self._register(name, process.undo(request), f"{self._path}{name}/")
        self._raise_if_cancelled()
        info = workflow.info()
        inherited = [pair for pair in info.typed_search_attributes if pair.key.name not in _OWN_ATTRIBUTES]
        running = workflow.execute_child_workflow(
            process.run,
            request,
            id=f"{info.workflow_id}/{self._path}{name}",
            memo={MEMO: self._run.memo},
            search_attributes=TypedSearchAttributes([*inherited, SearchAttributePair(SAGA_STATUS, "Running")]),
            static_summary=f"{name} of {info.workflow_id}",
            # a parent that is terminated must not take the child's undo with it
            parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
        )
        try:
            return await self._step(name, running)
        except ChildWorkflowError as error:
            refusal = _refusal_of(error)
            if refusal is None:
                raise
            self._forget(registered)
            raise refusal.error() from error
        finally:
            self._raise_if_cancelled()

    async def _step(self, title: str, running: Awaitable[R], kind: Literal["step", "undo"] = "step") -> R:
        """Await a step or an undo and keep its line of the timeline."""
        entry = Entry(title, workflow.now(), kind)
        self._run.entries.append(entry)
        self._show()
        try:
            result = await running
        except BaseException as error:
            entry.end(_told(error), workflow.now())
            raise
        else:
            entry.end("done" if kind == "step" else "undone", workflow.now())
            return result
        finally:
            self._show()

    async def _dispatch(self, step: Step, command_id: str, *, without_end: bool = False) -> Any:
        policy = COMMAND if isinstance(step, Command) else step.policy or CALL
        if without_end:
            policy = policy.without_end()
        info = workflow.info()
        context = Context(
            command_id=command_id,
            actor=self._run.memo.actor,
            correlation_id=info.root.workflow_id if info.root else info.workflow_id,
            causation_id=info.workflow_id,
            workflow_id=info.workflow_id,
            trace=self._run.memo.trace,
            labels=self._run.memo.labels,
        )
        result = await dispatch(step, context, policy)
        if isinstance(result, Receipt):
            self._run.position = max(self._run.position, result.position)
            result.raise_refusal()
        return result

    async def _undo_all(self, reason: str) -> list[str]:
        """Run every registered undo, newest first; what can't be undone does not keep the others from it.

        Returns:
            what could not be undone, in words.
        """
        self._run.status = "Compensating"
        if self._run.undos:
            failed_at = next((e.title for e in reversed(self._run.entries) if e.result != "done"), "")
            workflow.upsert_search_attributes([SAGA_STATUS.value_set("Compensating"), SAGA_STEP.value_set(failed_at)])
        left = []
        while self._run.undos:
            registered = self._run.undos.pop()
            step = registered.undo(reason) if callable(registered.undo) else registered.undo
            command_id = self._id(step, f"{registered.path}undo/")
            undoing = self._dispatch(step, command_id, without_end=True)
            try:
                await self._step(registered.title, self._shielded(undoing), "undo")
            except (Refused, FailureError) as error:
                left.append(f"{registered.title}: {_told(error)}")
        return left

    @staticmethod
    async def _shielded(running: Awaitable[R]) -> R:
        """Wait for something to end, whatever cancellations arrive meanwhile."""
        task = asyncio.ensure_future(running)
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                if task.cancelled():
                    raise
            except BaseException:
                break
        return task.result()

    def _id(self, step: Step, path: str | None = None) -> str:
        """The step's identity: workflow id, place in it, name; numbered when a saga does the same thing again."""
        name = f"{self._path if path is None else path}{step.step_name}"
        self._run.used[name] += 1
        times = self._run.used[name]
        return f"{workflow.info().workflow_id}/{name}" + (f"#{times}" if times > 1 else "")

    def _raise_if_cancelled(self) -> None:
        if self._run.cancelled is None and workflow.cancellation_reason() is not None:
            self._run.cancelled = CANCELLED_FROM_OUTSIDE
        if self._run.cancelled is not None:
            raise SagaCancelled(self._run.cancelled)

    def _register(self, title: str, undos: Sequence[Undo], path: str) -> list[_Registered]:
        """Put undos on the stack, before what they undo begins."""
        registered = [_Registered(title, undo, path) for undo in undos]
        self._run.undos.extend(registered)
        return registered

    def _forget(self, registered: list[_Registered]) -> None:
        """Take undos off the stack whose step certainly had no effect."""
        self._run.undos = [each for each in self._run.undos if each not in registered]

    def _why(self, error: BaseException) -> SagaUndone:
        """A failure as the saga will tell it once all is undone."""
        if isinstance(error, Refused):
            return SagaUndone(error.name, error.message, Refusal.of(error))
        if isinstance(error, SagaCancelled) or is_cancelled_exception(error):
            reason = self._run.cancelled or CANCELLED_FROM_OUTSIDE
            return SagaUndone(reason, f"Cancelled: {reason}", None)
        return SagaUndone("failed", _told(error), None)

    def _show(self, status: SagaStatus | None = None) -> None:
        """Renew the current details; with a final status, also what lists filter by."""
        if status is not None:
            self._run.status = status
            workflow.upsert_search_attributes([SAGA_STATUS.value_set(status)])
        workflow.set_current_details(timeline(self._run.status, self._run.entries))


class Process(ABC, Generic[Request, Result]):
    """A workflow that is a saga: `@workflow.defn class Pay(Process[PayRequest, Paid])`, with `@workflow.run` on `run`.

    It can be started by itself, run inside another saga, or as its child, with the same code.
    """

    def __init__(self) -> None:
        self.saga = Saga()

    @classmethod
    def undo(cls, request: Request) -> Sequence[Undo]:
        """What a parent does to take back the whole process after it has ended well as a child; none by default."""
        return ()

    @abstractmethod
    async def run(self, request: Request) -> Result:
        """The business process, inside `async with self.saga as saga`."""


def _is_failure(error: BaseException) -> bool:
    """Whether the saga should undo: a refusal, a failed step, a cancellation, but never a bug in workflow code."""
    return isinstance(error, AmendsError | FailureError | asyncio.CancelledError)


def _refusal_of(error: ChildWorkflowError) -> Refusal | None:
    """What a child saga was refused by, once it has undone its own steps."""
    cause = error.cause
    if not isinstance(cause, ApplicationError) or cause.type != SagaUndone.__name__ or len(cause.details) < 2:
        return None
    return Refusal.model_validate(cause.details[1]) if cause.details[1] else None


def _told(error: BaseException) -> str:
    """A failure in one line, by its innermost cause."""
    while isinstance(error, FailureError) and error.cause is not None:
        error = error.cause
    return f"{type(error).__name__}: {error}" if not isinstance(error, Refused) else f"refused: {error.message}"


def _join_handlers(process: Process[Any, Any]) -> None:
    """Let the signals, queries and updates of a process mounted inline reach it through this workflow."""
    definition = workflow._Definition.must_from_class(type(process))
    for signal in definition.signals.values():
        if signal.name is not None and workflow.get_signal_handler(signal.name) is None:
            workflow.set_signal_handler(signal.name, signal.bind_fn(process))
    for query in definition.queries.values():
        if query.name is not None and workflow.get_query_handler(query.name) is None:
            workflow.set_query_handler(query.name, query.bind_fn(process))
    for update in definition.updates.values():
        if update.name is not None and workflow.get_update_handler(update.name) is None:
            validator = update.bind_validator(process) if update.validator else None
            workflow.set_update_handler(update.name, update.bind_fn(process), validator=validator)
