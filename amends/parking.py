"""Parking: what can't be undone, or not be done after the pivot, waits in the workflow until a person decides."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError

from amends.conduct import Conduct
from amends.errors import AmendsError, BeingCancelled, InvalidInput, NotParked, PastCancelling, Refused, UnknownMessage
from amends.messages import Command
from amends.outcomes import BY_OPERATOR
from amends.records import Refusal, UndoStep
from amends.repair import Abandon, Cancel, ParkedStep, Repair, Resolve, Retry, SagaView, Skip
from amends.saga_log import AbandonSaga, CancelSaga, ParkStep, ResolveStep, RetryStep, SkipStep
from amends.saga_state import Parked, Run
from amends.shield import to_the_end
from amends.steps import check_input, refused, shown_input
from amends.values import bad_texts

__all__ = ["Parking", "again"]

ABANDONED_ABOVE = "saga_abandoned_above"
"""Signal to a child: the saga that it is part of was abandoned."""

AGAIN = "/again/"
"""Stands in an id between what is tried again and who wanted that."""


class Parking:
    """Keeps what is parked, and takes the repairs: updates of the workflow, each checked before it is accepted.

    Args:
        run: the saga's state.
        conduct: writes the log and the timeline.
    """

    def __init__(self, run: Run, conduct: Conduct) -> None:
        self._run, self._conduct = run, conduct
        self._cancelling = False

    def open(self, cancel: Callable[[str], bool], give_up: Callable[[], None]) -> None:
        """Let people ask about the saga, repair it, and cancel it.

        Args:
            cancel: cancels the saga for a reason; False when that can't be any more.
            give_up: stops what it is doing, once it is abandoned.
        """
        self._cancel_saga, self._give_up = cancel, give_up
        workflow.set_query_handler("saga", self.view)
        workflow.set_update_handler(Retry.update, self._retry, validator=self._can_retry)
        workflow.set_update_handler(Skip.update, self._skip, validator=self._can_skip)
        workflow.set_update_handler(Resolve.update, self._resolve, validator=self._can_resolve)
        workflow.set_update_handler(Abandon.update, self._abandon, validator=self._can_abandon)
        workflow.set_update_handler(Cancel.update, self._cancel, validator=self._can_cancel)
        workflow.set_signal_handler(ABANDONED_ABOVE, self._leave)

    def view(self) -> SagaView:
        """The saga as people see it."""
        run = self._run
        parked = tuple(each.step for each in run.parked.values() if not each.taken)
        reason = run.failure.reason if run.failure else None
        return SagaView(workflow_id=workflow.info().workflow_id, status=run.status, reason=reason, parked=parked)

    async def park(
        self,
        step: str,
        title: str,
        why: str,
        *,
        kind: Literal["undo", "step", "saga"],
        name: str = "",
        input: Any = None,
        call: bool = False,
        undo: UndoStep | None = None,
        refused: bool = False,
    ) -> Parked:
        """Wait for somebody's decision, for as long as it takes.

        Args:
            step: id of what can't be done.
            title: of it.
            why: how it failed.
            kind: as `ParkedStep` has it.
            name: of the command or activity.
            input: what it was given.
            call: whether it is an activity that leaves the house.
            undo: what is to be done, for an undo.
            refused: a rule said no.

        Returns:
            the same, with the repair, and for an undo that is to be tried again, what is to be tried.
        """
        run = self._run
        told = ParkedStep(step=step, title=title, kind=kind, name=name, input=input, why=why, since=workflow.now())
        parked = Parked(told, call, undo, refused)
        entry = ParkStep(saga_id=run.workflow_id, step=step, title=title, reason=why)
        await self._conduct.record(entry, f"{run.workflow_id}/park/{run.number(workflow.info().run_id)}")
        run.parked[step] = parked
        self._conduct.note(title, f"parked: {why}", "undo" if kind == "undo" else "step")
        self._conduct.stand("NeedsAttention", title)
        await to_the_end(workflow.wait_condition(lambda: parked.repair is not None or run.abandoned is not None))
        parked.repair = parked.repair or run.abandoned  # given up while this was being written down
        del run.parked[step]
        if not run.parked:
            self._conduct.stand("Compensating" if run.failure else "Running")
        return parked

    async def _retry(self, request: Retry) -> None:
        parked = self._take(request)
        again = self._again(parked, request)
        shown = None if request.input is None else shown_input(parked.step.name, request.input, call=parked.call)
        undo = None if again is None else again.model_dump(mode="json")
        entry = RetryStep(**self._about(parked), reason=request.reason, input=shown, undo=undo)
        await self._decide(parked, request, entry, undoes=None)
        parked.undo = again

    async def _skip(self, request: Skip) -> None:
        parked = self._take(request)
        entry = SkipStep(**self._about(parked), reason=request.reason)
        await self._decide(parked, request, entry, undoes=parked.undo.undoes if parked.undo else None)

    async def _resolve(self, request: Resolve) -> None:
        parked = self._take(request)
        entry = ResolveStep(**self._about(parked), reason=request.reason, done=request.done)
        await self._decide(parked, request, entry, undoes=parked.undo.undoes if parked.undo else None)

    async def _abandon(self, request: Abandon) -> None:
        entry = AbandonSaga(saga_id=self._run.workflow_id, reason=request.reason)
        waiting = [parked for parked in self._run.parked.values() if not parked.taken]
        for parked in waiting:
            parked.taken = True
        try:
            await self._conduct.record(entry, self._id(), aside=True, actor=request.actor)
        except FailureError:
            for parked in waiting:
                parked.taken = False
            raise
        await self._leave(request)

    async def _leave(self, request: Abandon) -> None:
        """Stop whatever is going on; children past the pivot, which hear no cancellation, are told to do the same."""
        self._run.abandoned = request
        self._conduct.note("the saga", f"abandoned by {request.actor}: {request.reason}", "undo")
        for parked in self._run.parked.values():
            parked.taken, parked.repair = True, parked.repair or request
        self._give_up()
        for child in list(self._run.with_children) if self._run.forward_only else []:
            with suppress(FailureError):  # it has ended meanwhile
                await workflow.get_external_workflow_handle(child).signal(ABANDONED_ABOVE, request)

    async def _cancel(self, request: Cancel) -> None:
        self._cancelling = True
        entry = CancelSaga(saga_id=self._run.workflow_id, reason=request.reason)
        try:
            await self._conduct.record(entry, self._id(), aside=True, actor=request.actor)
        finally:
            self._cancelling = False
        if not self._cancel_saga(BY_OPERATOR):
            raise _refusal(PastCancelling(saga=self._run.workflow_id, status=self._run.status))
        self._conduct.note("the saga", f"cancelled by {request.actor}: {request.reason}", "step")

    async def _decide(self, parked: Parked, request: Repair, entry: Command, *, undoes: str | None) -> None:
        """Write the decision down, then let the saga act on it."""
        parked.taken = True
        try:
            await self._conduct.record(entry, self._id(), aside=True, actor=request.actor, undoes=undoes)
        except FailureError:
            parked.taken = False
            raise
        verb = type(request).__name__.lower()
        said = f"{_PAST[verb]} by {request.actor}: {request.reason}"
        if isinstance(request, Resolve):
            said += f" ({request.done})"
        parked.update = _update_id()
        self._conduct.note(parked.step.title, said, "undo" if parked.step.kind == "undo" else "step")
        parked.repair = parked.repair or request

    def _again(self, parked: Parked, request: Retry) -> UndoStep | None:
        """The undo to try next: under a new id where the old one stands for a no or for other input, for that is final.

        Where nobody knows whether the old one acted, its id is kept, so that it acts once.
        """
        undo = parked.undo
        if undo is None or (not parked.refused and request.input is None):
            return undo
        data = undo.data if request.input is None else request.input
        return undo.model_copy(update={"id": again(undo.id, _update_id()), "data": data})

    def _id(self) -> str:
        """A repair is the update that asks for it: it is written down once."""
        return f"{self._run.workflow_id}/repair/{_update_id()}"

    def _about(self, parked: Parked) -> dict[str, str]:
        return {"saga_id": self._run.workflow_id, "step": parked.step.step, "title": parked.step.title}

    def _can_retry(self, request: Retry) -> None:
        parked = self._take(request)
        if parked.step.kind == "saga":
            raise _refusal(NotParked(step=parked.step.step, advice="no step of it can be tried again"))
        if request.input is not None:
            try:
                check_input(parked.step.name, request.input, call=parked.call)
            except (InvalidInput, UnknownMessage) as error:
                raise _rejection(error) from None

    def _can_skip(self, request: Skip) -> None:
        self._take(request)

    def _can_resolve(self, request: Resolve) -> None:
        self._take(request)

    def _can_abandon(self, request: Abandon) -> None:
        _check_words(request)
        if not any(not parked.taken for parked in self._run.parked.values()):
            raise _refusal(NotParked(saga=self._run.workflow_id))

    def _can_cancel(self, request: Cancel) -> None:
        _check_words(request)
        if self._run.failure is not None or self._run.forward_only:
            raise _refusal(PastCancelling(saga=self._run.workflow_id, status=self._run.status))
        if self._cancelling or self._run.cancelled is not None or workflow.cancellation_reason() is not None:
            raise _refusal(BeingCancelled(saga=self._run.workflow_id))

    def _take(self, request: Repair) -> Parked:
        """The one parked step that a repair means, if it waits for one."""
        _check_words(request)
        waiting = {id: each for id, each in self._run.parked.items() if not each.taken}
        if request.step in waiting:
            return waiting[request.step]
        meant = [each for id, each in waiting.items() if request.step is None or id.endswith(request.step)]
        if len(meant) != 1:
            raise _refusal(NotParked(step=request.step or "any", parked=", ".join(waiting) or "nothing"))
        return meant[0]


def again(id: str, update: str) -> str:
    """The id under which something is tried again, because of an update that is like no other."""
    return f"{id.partition(AGAIN)[0]}{AGAIN}{update}"


def _update_id() -> str:
    update = workflow.current_update_info()
    assert update is not None
    return update.id


_PAST = {"retry": "retried", "skip": "skipped", "resolve": "resolved"}


def _check_words(request: Repair) -> None:
    if not isinstance(request, Repair):  # null is let through to here
        raise _rejection(InvalidInput({"actor": "is missing", "reason": "is missing"}))
    if problems := bad_texts(request):
        raise _rejection(InvalidInput(problems))


def _refusal(refusal: Refused) -> ApplicationError:
    return refused(Refusal.of(refusal))


def _rejection(error: AmendsError) -> ApplicationError:
    return ApplicationError(str(error), type=type(error).__name__, non_retryable=True)
