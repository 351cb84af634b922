"""How the steps of a saga are sent, shown and recorded: what all its parts share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Literal, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception

from amends.errors import Refused
from amends.messages import Command
from amends.outcomes import given_up, told
from amends.policies import CALL, COMMAND, Policy
from amends.records import Context, Receipt, UndoStep
from amends.saga_state import Run
from amends.shield import to_the_end
from amends.steps import Call, Step, dispatch, dispatch_undo
from amends.visibility import SAGA_STATUS, SAGA_STEP, Entry, SagaStatus, keyword, timeline

__all__ = ["Conduct", "on_record"]

R = TypeVar("R")

MOMENT = timedelta(milliseconds=1)
"""A timer ends the workflow task; how long it runs does not matter."""


async def on_record(what: str) -> None:
    """Wait until the history knows all that this workflow task has come to, so that no lost task forgets it.

    Args:
        what: is to be known, for people who look at the history.
    """
    await to_the_end(workflow.sleep(MOMENT, summary=what))


class Conduct:
    """Sends steps and undos, keeps the timeline, writes the saga's own log.

    Args:
        run: the saga's state.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    async def step(
        self, title: str, begin: Callable[[Entry], Awaitable[R]], kind: Literal["step", "undo"] = "step"
    ) -> R:
        """Run a step or an undo and keep its line of the timeline."""
        entry = Entry(title, workflow.now(), kind)
        self._run.entries.append(entry)
        self.show()
        try:
            result = await begin(entry)
        except (Exception, asyncio.CancelledError) as error:  # not GeneratorExit: that is the workflow's eviction
            entry.end(told(error), workflow.now())
            self.show()
            raise
        entry.end("done" if kind == "step" else "undone", workflow.now())
        self.show()
        return result

    def note(self, title: str, result: str, kind: Literal["step", "undo"]) -> None:
        """A line of the timeline about something that takes no time."""
        now = workflow.now()
        self._run.entries.append(Entry(title, now, kind, result, now, note=True))
        self.show()

    async def send(
        self,
        title: str,
        step: Step,
        step_id: str,
        entry: Entry,
        *,
        undo: UndoStep | None = None,
        pivot: bool = False,
    ) -> Any:
        """Send a step; when nobody knows what became of a call, ask.

        Args:
            title: what it does.
            step: command or call.
            step_id: its identity.
            entry: its line of the timeline.
            undo: what takes it back, for the log.
            pivot: the saga only goes forward after it; an activity of its own, for a saga that is ended past it goes on
                from the last thing that its history knows, and must not do again what came before.
        """
        policy = _policy_of(step)
        if self._run.forward_only:
            policy = policy.without_end()
        context = self.context(step_id, step=title, kind="step", undo=undo, pivot=pivot, guarded=True)
        try:
            result, entry.attempts = await dispatch(title, step, context, policy, self._run.turns, aside=pivot)
        except ActivityError as error:
            if not isinstance(step, Call) or step.ask is None or is_cancelled_exception(error):
                raise
            return await self._ask(title, step.ask, f"{step_id}/ask", error)
        self._saw(result)
        return result

    async def _ask(self, title: str, ask: Call[Any], step_id: str, unknown: ActivityError) -> Any:
        """Find out what became of a call; what had no effect counts as failed."""
        title = f"ask what became of: {title}"

        async def asking(entry: Entry) -> Any:
            context = self.context(step_id, step=title, kind="step", guarded=True)
            answer, entry.attempts = await dispatch(title, ask, context, _policy_of(ask), self._run.turns)
            return answer

        try:
            answer = await self.step(title, asking)
        except (Refused, FailureError) as error:
            if is_cancelled_exception(error):
                raise
            raise unknown from error
        if answer is None:
            raise unknown
        return answer

    async def undo(self, undo: UndoStep, reason: str) -> None:
        """Take a step back, whatever cancellations arrive meanwhile."""

        async def undoing(entry: Entry) -> None:
            context = self.context(undo.id, step=undo.title, kind="undo", undoes=undo.undoes)
            calling = asyncio.ensure_future(dispatch_undo(undo, reason, context, self._run.turns))
            self._run.taking_back[calling] = None
            try:
                result, entry.attempts = await to_the_end(calling)
            except asyncio.CancelledError:
                if self._run.abandoned is None:
                    raise
                raise given_up() from None  # between two attempts, or about to be begun
            finally:
                self._run.taking_back.pop(calling, None)
            self._saw(result)

        await self.step(undo.title, undoing, "undo")

    async def record(self, entry: Command, entry_id: str, *, aside: bool = False, **changes: Any) -> None:
        """Write an entry of the saga's own log; retried until the database has it.

        Args:
            entry: what is to be written.
            entry_id: its identity.
            aside: by an activity of its own, so that the saga hears others meanwhile, however long it takes.
            changes: of the context.
        """
        context, policy = self.context(entry_id, **changes), COMMAND.without_end()
        await to_the_end(dispatch(entry.message_name, entry, context, policy, self._run.turns, aside=aside))

    def context(self, command_id: str, **changes: Any) -> Context:
        """Who asks, on whose behalf, under which id."""
        run, info = self._run, workflow.info()
        fields: dict[str, Any] = {
            "command_id": command_id,
            "actor": run.memo.actor,
            "correlation_id": run.saga_id,
            "causation_id": run.memo.causation or info.workflow_id,
            "workflow_id": run.workflow_id,
            "run_id": info.run_id,
            "trace": run.memo.trace,
            "labels": run.memo.labels,
        }
        return Context(**(fields | changes))

    def stand(self, status: SagaStatus, step: str | None = None) -> None:
        """Let lists show where the saga stands, and at which step."""
        if status == self._run.status:
            return
        self._run.status = status
        updates: list[Any] = [SAGA_STATUS.value_set(status)]
        if step is not None:
            updates.append(SAGA_STEP.value_set(keyword(step)))
        workflow.upsert_search_attributes(updates)
        self.show()

    def show(self) -> None:
        """Renew the current details."""
        workflow.set_current_details(timeline(self._run.status, self._run.entries))

    def _saw(self, result: Any) -> None:
        if isinstance(result, Receipt):
            self._run.position = max(self._run.position, result.position)


def _policy_of(step: Step) -> Policy:
    """The limits of a step, its own or those of its kind."""
    if isinstance(step, Command):
        return COMMAND
    return step.policy or (COMMAND if step.local else CALL)
