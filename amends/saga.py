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
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

import structlog
from temporalio import workflow
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import ApplicationError, ChildWorkflowError, FailureError, is_cancelled_exception

from amends.cancelling import Cancelling
from amends.errors import CommandIdReused, Refused, SagaCancelled, UndoFailed
from amends.messages import Command
from amends.mount import join_handlers
from amends.outcomes import SagaUndone, from_outside, is_failure, refusal_of_child, told
from amends.policies import CALL, COMMAND
from amends.records import Context, Position, Receipt, Refusal
from amends.saga_state import Registered, Run, Undo
from amends.shield import to_the_end
from amends.steps import Call, Step, digest_of, dispatch
from amends.visibility import MEMO, SAGA_STATUS, SAGA_STEP, Entry, SagaMemo, SagaStatus, timeline

if TYPE_CHECKING:
    from amends.process import Process

__all__ = ["Saga"]

log = structlog.get_logger("amends.saga")

R = TypeVar("R")
Request = TypeVar("Request")
Result = TypeVar("Result")

_OWN_ATTRIBUTES = (SAGA_STATUS.name, SAGA_STEP.name)


class Saga:
    """A saga, or the part of one that a sub-process mounted in it runs; use it by `async with self.saga as saga`."""

    def __init__(self, parent: Saga | None = None, path: str = "") -> None:
        self._parent = parent
        self._path = path
        memo = workflow.memo_value(MEMO, default=None, type_hint=SagaMemo) if parent is None else None
        memo = memo or SagaMemo()
        self._run: Run = parent._run if parent else Run(memo, forward_only=memo.forward_only)
        self._cancelling = Cancelling(self._run)

    async def __aenter__(self) -> Self:
        if self._parent is None and workflow.info().typed_search_attributes.get(SAGA_STATUS) is None:
            workflow.upsert_search_attributes([SAGA_STATUS.value_set("Running")])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        if error is None and self._parent is None:
            error = self._cancelling.asked()
        if error is None and self._parent is None:
            self._run.forward_only = True
            await to_the_end(workflow.wait_condition(workflow.all_handlers_finished))
            self._close("NeedsAttention" if self._run.stuck else "Completed")
        if error is None or not is_failure(error):
            return False  # a bug fails the workflow task, which goes on from here once it is mended
        undone = self._why(error)
        if self._parent is not None:
            await self._undo_own(undone.reason)
            return False
        self._run.failure = undone
        await self._turn_back(undone)
        await to_the_end(workflow.wait_condition(workflow.all_handlers_finished))
        if self._run.stuck:
            self._close("NeedsAttention")
            stuck = "; ".join(self._run.stuck)
            raise ApplicationError(stuck, type=UndoFailed.__name__, non_retryable=True) from error
        self._close("Compensated")
        raise undone from error

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

    def check_same_request(self, fingerprint: str) -> None:
        """Refuse a caller who means another request than the one this saga runs for; for validators of updates.

        Args:
            fingerprint: as the client hands it to the update that answers first.

        Raises:
            ApplicationError: of type CommandIdReused.
        """
        if fingerprint != self._run.memo.fingerprint:
            told = f"{workflow.info().workflow_id} was started by another request; a new intent needs a new id"
            raise ApplicationError(told, type=CommandIdReused.__name__, non_retryable=True)

    def cancel(self, reason: str) -> None:
        """Stop what the saga is doing and undo what it has done; without effect once it only goes forward.

        Args:
            reason: short code that the undos get to see.
        """
        if self.can_be_cancelled and self._run.cancelled is None:
            self._cancelling.cancel(reason)

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
            pivot: from here the saga only goes forward, with no cancellation and retries without end, unless this
                step is refused. Not for processes that are mounted in another.

        Returns:
            the receipt of a command, the result of a call.

        Raises:
            Refused: a rule said no; the step had no effect.
            SagaCancelled: the saga was cancelled, and this is a step at which that is heard: a call, or the pivot.
            ActivityError: the step's deadline passed.
        """
        registered = self._register(title, () if undo is None else (undo,), self._path)
        command_id = self._id(self._path + step.step_name)
        if pivot:
            self._pass_pivot()
        try:
            if pivot or isinstance(step, Call):
                run = partial(self._dispatch, title, step, command_id, durable=True)
                return await self._cancelling.durably(lambda: self._step(title, run))
            return await self._cancelling.to_the_end(
                self._step(title, partial(self._dispatch, title, step, command_id))
            )
        except Exception as error:
            if isinstance(error, Refused):
                self._forget(registered)
            if pivot:
                self._run.forward_only = False
            raise
        finally:
            if pivot and self._run.forward_only:
                self._run.undos.clear()

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

        if condition():
            return True  # no timer, so nothing durable: a cancellation waits for the next step that is
        try:
            return await self._cancelling.durably(lambda: self._step(title, waiting))
        except SagaCancelled:
            if condition():
                return True  # it came together with the cancellation, and may have been acted on
            raise

    async def all(self, *steps: Awaitable[R]) -> list[R]:
        """Do steps side by side and wait for all of them.

        Args:
            steps: calls of `do`, `sub` or `child`, not yet awaited.

        Returns:
            their results, in the order given.

        Raises:
            the first failure in the order given, when all have ended.
        """
        results = await self._cancelling.to_the_end(asyncio.gather(*steps, return_exceptions=True))
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
        mounted.saga = Saga(self, f"{self._number(self._path + name)}/")
        join_handlers(mounted)
        return await mounted.run(request)

    async def _child(self, name: str, process: type[Process[Request, Result]], request: Request) -> Result:
        path = self._number(self._path + name)
        registered = self._register(name, process.undo(request), f"{path}/")
        info = workflow.info()
        inherited = [pair for pair in info.typed_search_attributes if pair.key.name not in _OWN_ATTRIBUTES]

        def running() -> Awaitable[Result]:
            return workflow.execute_child_workflow(
                process.run,
                request,
                id=f"{info.workflow_id}/{path}",
                memo={MEMO: self._run.memo.model_copy(update={"forward_only": self._run.forward_only})},
                search_attributes=TypedSearchAttributes([*inherited, SearchAttributePair(SAGA_STATUS, "Running")]),
                static_summary=f"{name} of {info.workflow_id}",
                # a parent that is terminated must not take the child's undo with it
                parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
            )

        try:
            return await self._cancelling.durably(lambda: self._step(name, running))
        except ChildWorkflowError as error:
            refusal = refusal_of_child(error)
            if refusal is None:
                raise
            self._forget(registered)
            raise refusal.error() from error

    async def _step(self, title: str, begin: Callable[[], Awaitable[R]], kind: Literal["step", "undo"] = "step") -> R:
        """Run a step or an undo and keep its line of the timeline."""
        entry = Entry(title, workflow.now(), kind)
        self._run.entries.append(entry)
        self._show()
        try:
            result = await begin()
        except (Exception, asyncio.CancelledError) as error:  # not GeneratorExit, as above
            entry.end(told(error), workflow.now())
            self._show()
            raise
        entry.end("done" if kind == "step" else "undone", workflow.now())
        self._show()
        return result

    async def _dispatch(
        self, title: str, step: Step, command_id: str, *, durable: bool = False, undo: bool = False
    ) -> Any:
        policy = COMMAND if isinstance(step, Command) else step.policy or CALL
        if undo or self._run.forward_only:
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
        result = await dispatch(title, step, context, policy, durable=durable)
        if isinstance(result, Receipt):
            self._run.position = max(self._run.position, result.position)
            result.raise_refusal()
        return result

    async def _turn_back(self, undone: SagaUndone) -> None:
        """Undo the whole saga; past its pivot it can go neither way, and needs somebody."""
        self._run.status = "Compensating"
        if self._run.forward_only:
            self._run.stuck.append(undone.message)
        elif self._run.undos:
            failed_at = next((e.title for e in reversed(self._run.entries) if e.result != "done"), "")
            workflow.upsert_search_attributes([SAGA_STATUS.value_set("Compensating"), SAGA_STEP.value_set(failed_at)])
            await self._undo_own(undone.reason)

    async def _undo_own(self, reason: str) -> None:
        """Run the undos of this part of the saga, newest first; one that can't be does not keep the others from it."""
        mine = [registered for registered in self._run.undos if registered.path.startswith(self._path)]
        self._forget(mine)
        for registered in reversed(mine):
            step = registered.undo(reason) if callable(registered.undo) else registered.undo
            undoing = partial(self._undo, f"undo: {registered.title}", step, f"{registered.path}undo/")
            try:
                await self._step(registered.title, undoing, "undo")
            except (Refused, FailureError) as error:
                self._run.stuck.append(f"{registered.title}: {told(error)}")

    async def _undo(self, title: str, step: Step, path: str) -> Any:
        # by its content, for it may be asked for twice: by the process itself and by its parent
        command_id = self._id(f"{path}{step.step_name}~{digest_of(step)}")
        return await to_the_end(self._dispatch(title, step, command_id, undo=True))

    def _id(self, name: str) -> str:
        """A step's identity: workflow id, its place in the saga, its name."""
        return f"{workflow.info().workflow_id}/{self._number(name)}"

    def _number(self, name: str) -> str:
        """A name, numbered when the saga has used it before."""
        self._run.used[name] += 1
        times = self._run.used[name]
        return f"{name}#{times}" if times > 1 else name

    def _pass_pivot(self) -> None:
        """From here the saga only goes forward; that is the saga's own to say, not a mounted process's."""
        if self._parent is not None or workflow.info().parent is not None:
            raise RuntimeError("A mounted process has no pivot, for its parent could not undo it; put it in the parent")
        self._cancelling.raise_if_asked()
        self._run.forward_only = True

    def _register(self, title: str, undos: Sequence[Undo], path: str) -> list[Registered]:
        """Put undos on the stack, before what they undo begins."""
        registered = [Registered(title, undo, path) for undo in undos]
        self._run.undos.extend(registered)
        return registered

    def _forget(self, registered: list[Registered]) -> None:
        """Take undos off the stack whose step certainly had no effect."""
        self._run.undos = [each for each in self._run.undos if each not in registered]

    def _why(self, error: BaseException) -> SagaUndone:
        """A failure as the saga will tell it once all is undone."""
        if isinstance(error, Refused):
            return SagaUndone(error.name, error.message, Refusal.of(error))
        if isinstance(error, SagaCancelled) or is_cancelled_exception(error):
            reason = self._run.cancelled or from_outside()
            return SagaUndone(reason, f"Cancelled: {reason}", None)
        return SagaUndone("failed", told(error), None)

    def _close(self, status: SagaStatus) -> None:
        """Set the final status, where lists and logs find it."""
        self._run.status = status
        workflow.upsert_search_attributes([SAGA_STATUS.value_set(status)])
        self._show()
        failure = self._run.failure
        if not workflow.unsafe.is_replaying():
            log.info("saga_ended", status=status, reason=failure.reason if failure else None)

    def _show(self) -> None:
        """Renew the current details."""
        workflow.set_current_details(timeline(self._run.status, self._run.entries))
