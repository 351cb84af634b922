"""Sagas: steps in order, each with its undo, and the undoing, newest first, when one of them fails.

The mechanism behind the stories in workflows. What a saga promises:

- the undo of a step is registered before the step runs, because a timeout can hide a success;
- a refusal undoes at once, a flaky world is retried within the step's deadline; an unknown outcome is asked for, or
  undone;
- undo runs newest first, shielded from cancellation; what can't be undone waits for a person, and the rest goes on;
- before it turns back it asks its log, which knows also what a worker did in a task that was lost;
- past its pivot the saga only goes forward;
- a command's id comes from the workflow id and the step, so nothing acts twice, whoever retries.

The pattern: Garcia-Molina and Salem, "Sagas", SIGMOD 1987.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from temporalio import workflow
from temporalio.exceptions import ApplicationError, ChildWorkflowError

from amends.cancelling import Cancelling
from amends.closing import bad_end, close
from amends.conduct import Conduct, on_record
from amends.ending import EndedSaga
from amends.errors import CommandIdReused, Refused
from amends.forward import insist
from amends.messages import Command
from amends.mount import checked, join_handlers, run_child
from amends.outcomes import SagaUndone, given_up, is_failure, undone_child, why_undone
from amends.parking import Parking
from amends.records import Position, Receipt, Refusal, UndoStep
from amends.repair import Abandon
from amends.saga_state import BRANCH, Registered, Run, begin_run
from amends.steps import Call, Step, Undo
from amends.undoing import GROUPS, Undoing
from amends.visibility import SAGA_STATUS, Entry
from amends.waiting import Waiting

if TYPE_CHECKING:
    from amends.process import Process

__all__ = ["Saga"]

R = TypeVar("R")
Request = TypeVar("Request")
Result = TypeVar("Result")

MOUNTING: ContextVar[bool] = ContextVar("amends_mounting", default=False)
"""A process is being made that will be part of another one, whose handlers answer for it."""

DEADLINE_PASSED = "deadline_passed"
"""Why a saga turned back that did not come to its end in time."""


class Saga:
    """A saga, or the part of one that a sub-process mounted in it runs; use it by `async with self.saga as saga`."""

    def __init__(self, parent: Saga | None = None, path: str = "") -> None:
        self._parent = parent
        self._path = path
        self._deadline: timedelta | None = None
        self._run: Run = parent._run if parent else begin_run()
        self._conduct: Conduct = parent._conduct if parent else Conduct(self._run)
        self._parking: Parking = parent._parking if parent else Parking(self._run, self._conduct)
        self._undoing: Undoing = parent._undoing if parent else Undoing(self._run, self._conduct, self._parking)
        self._cancelling = Cancelling(self._run)
        self._waiting = Waiting(self._run, self._conduct, self._cancelling)
        if parent is None and not MOUNTING.get():
            self._parking.open(self.cancel, self._cancelling.give_up)

    def within(self, limit: timedelta) -> Self:
        """Give the whole saga a deadline: `async with self.saga.within(timedelta(days=30)) as saga`.

        Args:
            limit: a durable timer from its start; when it passes before the pivot, all is undone.
        """
        self._deadline = limit
        return self

    def instead_of(self, ended: EndedSaga, undos: Iterable[UndoStep], abandoned: Abandon | None) -> Self:
        """Undo in the name of another saga, which was ended from outside.

        Args:
            ended: that saga.
            undos: what it had done, newest first.
            abandoned: that somebody had given it up, so that nothing is undone.
        """
        run = self._run
        run.workflow_id = run.saga_id = ended.saga_id
        run.process, run.started_at, run.run_id = ended.process, ended.started_at, ended.run_id
        run.abandoned = abandoned
        self._undoing.push(undos)
        self.cancel(ended.reason)
        return self

    async def __aenter__(self) -> Self:
        if self._parent is None and workflow.info().typed_search_attributes.get(SAGA_STATUS) is None:
            workflow.upsert_search_attributes([SAGA_STATUS.value_set("Running")])
        if self._deadline is not None:
            self._timer = asyncio.ensure_future(self._expire(self._deadline))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        if self._deadline is not None:
            self._timer.cancel()
        if error is None and self._parent is None:
            error = self._cancelling.asked()
        if error is None and self._parent is None:
            self._run.forward_only = True
            self._undoing.adopt(self._run.handed)
            await close(self._run, self._conduct, self._undoing)
            if self._run.abandoned is not None:
                raise bad_end(self._run, SagaUndone("abandoned", "all its steps were done", None))
        if error is None or not is_failure(error):
            return False  # a bug fails the workflow task, which goes on from here once it is mended
        undone = why_undone(error, self._run.cancelled)
        if self._parent is not None:
            await self._undoing.back(self._path, undone.reason)
            return False
        self._run.failure, self._run.turned_back_at = undone, workflow.now()
        await self._turn_back(undone)
        await close(self._run, self._conduct, self._undoing)
        raise bad_end(self._run, undone) from error

    @property
    def refusal(self) -> Refusal | None:
        """The no that made it turn back, if it was one."""
        return self._run.failure.refusal if self._run.failure else None

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
        return self._run.failure is None and not self._run.forward_only

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

    async def hear(self, update: str) -> None:
        """Let the history know of an update, by its name, before it takes effect."""
        await self._waiting.hear(update)

    def cancel(self, reason: str) -> bool:
        """Stop what the saga is doing and undo what it has done; without effect once it only goes forward.

        Args:
            reason: short code that the undos get to see; the first one counts.

        Returns:
            whether it has an effect.
        """
        if self.can_be_cancelled and self._run.cancelled is None:
            self._cancelling.cancel(reason)
        return self.can_be_cancelled

    @overload
    async def do(
        self, title: str, step: Command, *, undo: Undo | None = None, undo_last: bool = False, pivot: bool = False
    ) -> Receipt: ...
    @overload
    async def do(
        self, title: str, step: Call[R], *, undo: Undo | None = None, undo_last: bool = False, pivot: bool = False
    ) -> R: ...
    async def do(
        self, title: str, step: Step, *, undo: Undo | None = None, undo_last: bool = False, pivot: bool = False
    ) -> Any:
        """Do one step of the saga.

        Args:
            title: what it does, for people.
            step: a command, or a call of an activity that leaves the house.
            undo: what takes it back; registered before the step begins, so it must bear that nothing had happened.
            undo_last: it waits until all that was done later is undone, also what has to be repaired first.
            pivot: from here the saga only goes forward, with no cancellation and retries without end, unless this
                step is refused. Not for processes that are mounted in another.

        Returns:
            the receipt of a command, the result of a call; after the pivot, when somebody has decided to go on without
            the step, a receipt with the outcome "skipped", or None.

        Raises:
            Refused: a rule said no; the step had no effect.
            SagaCancelled: the saga was cancelled, and this is a step at which that is heard: a call that is not local,
                or the pivot.
            ActivityError: the step's deadline passed.
        """
        step_id = self._run.id(self._path + step.step_name)
        if isinstance(step, Call) and step.local and (undo is not None or pivot):
            raise RuntimeError(f"{title!r} only reads: it has nothing to undo, and is no pivot")
        if self._run.abandoned is not None:
            raise given_up()
        if self._run.forward_only:
            going = partial(insist, self._run, self._conduct, self._parking, title, step, step_id)
            return await self._cancelling.durably(going)
        registered: Registered | None = None
        if undo is not None:
            registered = self._undoing.register(title, self._path, step_id, undo, last=undo_last)
        if self._run.memo.cancelled is not None:
            self._cancelling.raise_if_asked()  # nothing was done for it, and nothing is
        if pivot:
            await self._pass_pivot()
        undoing = registered.undo if registered else None
        send = partial(self._conduct.send, title, step, step_id, undo=undoing, pivot=pivot)
        run = partial(self._conduct.step, title, send)
        local = not pivot and (isinstance(step, Command) or step.local)
        try:
            return await (self._cancelling.to_the_end(run()) if local else self._cancelling.durably(run))
        except Exception as error:
            if isinstance(error, Refused):
                self._undoing.forget(registered)
            if pivot:
                self._run.forward_only = False
            known = isinstance(step, Command) and isinstance(error, Refused)
            if local and not known and is_failure(error):
                await on_record(f"{title}: failed")  # the log keeps what a rule refused, but of this it knows nothing
            raise
        finally:
            if pivot and self._run.forward_only:
                self._run.undos.clear()

    async def wait(
        self,
        title: str,
        condition: Callable[[], bool],
        *,
        timeout: timedelta | None = None,
        until: datetime | None = None,
    ) -> bool:
        """Wait until something has become true in this workflow, by a signal or an update.

        Args:
            title: what for, for people.
            condition: looked at whenever something has happened.
            timeout: longest wait; a durable timer.
            until: the same as a moment; without either, it waits for ever.

        Returns:
            whether it became true in time.

        Raises:
            SagaCancelled: the saga was cancelled meanwhile.
        """
        if until is not None:
            timeout = max(until - workflow.now(), timedelta(0))
        return await self._waiting.until(title, condition, timeout)

    async def sleep(self, title: str, duration: timedelta) -> None:
        """Let time pass, by a durable timer.

        Args:
            title: what for, for people.
            duration: how long.

        Raises:
            SagaCancelled: the saga was cancelled meanwhile.
        """
        await self._waiting.sleep(title, duration)

    async def all(self, *steps: Awaitable[R]) -> list[R]:
        """Do steps side by side and wait for all of them; when one fails, the others are undone.

        Args:
            steps: calls of `do`, `sub` or `child`, not yet awaited.

        Returns:
            their results, in the order given.

        Raises:
            the first failure in the order given, when all have ended and are undone.
        """
        group = object()
        within, branch = GROUPS.set(GROUPS.get() | {group}), BRANCH.get()
        running = []
        for number, step in enumerate(steps):
            place = BRANCH.set(f"{branch}.{number}".lstrip(".") if number else branch)
            running.append(asyncio.ensure_future(step))
            BRANCH.reset(place)
        GROUPS.reset(within)
        results = await self._cancelling.to_the_end(asyncio.gather(*running, return_exceptions=True))
        failures = [result for result in results if isinstance(result, BaseException)]
        if not failures:
            return [result for result in results if not isinstance(result, BaseException)]
        for failure in failures:
            if not is_failure(failure):
                raise failure  # a bug, which is to be mended before anything else
        if not self._run.forward_only:
            reason = why_undone(failures[0], self._run.cancelled).reason
            await self._undoing.back(self._path, reason, group)
        raise failures[0]

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
        return await mount(checked(name), process, request)

    async def child(self, name: str, process: type[Process[Request, Result]], request: Request) -> Result:
        """Run another process as a child workflow with a history of its own; otherwise like `sub`."""
        mount = self._inline if self._run.memo.mount == "inline" else self._child
        return await mount(checked(name), process, request)

    async def _inline(self, name: str, process: type[Process[Request, Result]], request: Request) -> Result:
        inside = MOUNTING.set(True)
        mounted = process()
        MOUNTING.reset(inside)
        mounted.saga = Saga(self, f"{self._run.number(self._path + name)}/")
        join_handlers(mounted)
        return await mounted.run(request)

    async def _child(self, name: str, process: type[Process[Request, Result]], request: Request) -> Result:
        run = self._run
        child = f"{workflow.info().workflow_id}/{run.number(self._path + name)}"
        registered = self._undoing.register_child(name, self._path, child)

        async def running(entry: Entry) -> Result:
            return await run_child(run, name, child, process, request)

        try:
            return await self._cancelling.durably(lambda: self._conduct.step(name, running))
        except ChildWorkflowError as error:
            undone = undone_child(error)
            if undone is None:
                raise
            refusal, handed = undone
            self._undoing.forget(registered)
            self._undoing.adopt(handed)
            if refusal is None:
                raise
            raise refusal.error() from error

    async def _turn_back(self, undone: SagaUndone) -> None:
        """Undo the whole saga; past its pivot it can go neither way, and waits for a person."""
        if self._run.abandoned is not None:
            return
        own = self._run.workflow_id == workflow.info().workflow_id
        if own and not self._run.forward_only and not await self._undoing.may_turn_back(undone.reason):
            self._run.forward_only = True
        if self._run.forward_only:
            await self._parking.park(f"{self._run.workflow_id}/end", "the saga", undone.message, kind="saga")
            return
        if self._run.undos:
            if not self._run.parked:  # a part's undo may wait for a person already
                self._conduct.stand("Compensating", self._run.failed_at())
            await self._undoing.back("", undone.reason)

    async def _pass_pivot(self) -> None:
        """From here the saga only goes forward; that is the saga's own to say, not a mounted process's."""
        if self._parent is not None or workflow.info().parent is not None:
            raise RuntimeError("A mounted process has no pivot, for its parent could not undo it; put it in the parent")
        if GROUPS.get():
            raise RuntimeError("A pivot stands alone: what goes on beside it could neither be undone nor be kept")
        stopped = self._cancelling.asked()
        if stopped is not None:
            why = why_undone(stopped, self._run.cancelled)
            if self._run.abandoned is not None or await self._undoing.may_turn_back(why.reason):
                raise stopped  # else it was passed before, in a task that was lost
        self._run.forward_only = True

    async def _expire(self, limit: timedelta) -> None:
        await workflow.sleep(limit, summary="the saga's deadline")
        self.cancel(DEADLINE_PASSED)
