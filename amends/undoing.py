"""Undoing: the stack of what takes steps back, run newest first; what can't be done is parked, and the rest goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from contextvars import ContextVar
from typing import Any

from temporalio import workflow
from temporalio.exceptions import FailureError

from amends.conduct import Conduct
from amends.ending import END_SAGA, Ended, EndSaga
from amends.errors import Refused
from amends.outcomes import HandedOver, told
from amends.parking import Parking
from amends.policies import COMMAND
from amends.records import UndoStep
from amends.repair import Retry
from amends.saga_state import Registered, Run
from amends.shield import to_the_end
from amends.steps import Undo, undo_step

__all__ = ["GROUPS", "Undoing"]

GROUPS: ContextVar[frozenset[object]] = ContextVar("amends_groups", default=frozenset())
"""The parallel groups that the code which runs is in."""


class Undoing:
    """Registers undos and runs them.

    Args:
        run: the saga's state.
        conduct: sends them.
        parking: keeps what can't be done.
    """

    def __init__(self, run: Run, conduct: Conduct, parking: Parking) -> None:
        self._run, self._conduct, self._parking = run, conduct, parking

    def register(self, title: str, path: str, step_id: str, undo: Undo, *, last: bool) -> Registered:
        """Put the undo of a step on the stack, before the step begins.

        Args:
            title: of the step.
            path: the sub-process it belongs to.
            step_id: identity of the step.
            undo: what takes it back.
            last: waits until all that was done later is undone.

        Raises:
            InvalidInput: it carries personal data.
        """

        def identify(name: str) -> str:
            return self._run.id(f"{path}undo/{name}")

        step = undo_step(undo, undoes=step_id, title=title, last=last, identify=identify)
        return self._push(Registered(title, path, undo=step, groups=GROUPS.get()))

    def register_child(self, title: str, path: str, child: str) -> Registered:
        """Put the undoing of a child workflow on the stack: of whatever it will have done, by its records."""
        return self._push(Registered(title, path, child=child, groups=GROUPS.get()))

    def push(self, undos: Iterable[UndoStep]) -> None:
        """Put undos on the stack that another workflow had registered, newest first as they come."""
        for undo in reversed(list(undos)):
            self._push(Registered(undo.title, "", undo=undo))

    def forget(self, registered: Registered | None) -> None:
        """Take an undo off the stack whose step certainly had no effect."""
        if registered in self._run.undos:
            self._run.undos.remove(registered)
            if registered.undo is not None:  # an earlier run may have done it all the same, by the log
                self._run.registered.discard(registered.undo.undoes)

    async def may_turn_back(self, reason: str) -> bool:
        """Ask the log whether the saga may still turn back, and what else it has done; nothing new is done after that.

        A local step acts before the history knows of it. Where its task was lost, and what came meanwhile made the saga
        go another way, only the log tells what stands: it is undone first. And that may have been the pivot.

        Args:
            reason: why.

        Returns:
            False where the pivot is on record: the saga has to go forward.
        """
        run = self._run
        ended = await self._end(run.workflow_id, reason, run.run_id)
        lost = [undo for undo in ended.undos if not self._knows(undo)]
        self.push(lost)
        for undo in lost:
            self._conduct.note(undo.title, "was done in a task that was lost", "step")
        return not ended.forward

    def _knows(self, undo: UndoStep) -> bool:
        children = any(undo.undoes.startswith(f"{child}/") for child in self._run.children)
        return undo.undoes in self._run.registered or children

    async def back(self, path: str, reason: str, group: object | None = None) -> None:
        """Undo a part of the saga, newest first.

        Args:
            path: the sub-process.
            reason: why.
            group: only the steps of this parallel group.
        """
        mine = [each for each in self._run.undos if each.path.startswith(path) and (not group or group in each.groups)]
        self._run.undos = [each for each in self._run.undos if each not in mine]
        for registered in reversed(mine):
            if self._run.abandoned is not None:
                return
            if registered.undo is not None:
                await self._take_back(registered.undo, reason)
            elif registered.child is not None:
                for undo in (await self._end(registered.child, reason)).undos:
                    await self._take_back(undo, reason)

    def adopt(self, handed: Iterable[HandedOver]) -> None:
        """See to what a child could not undo, as if it had been this saga's own: park it, or hand it on."""
        if self._run.memo.mounted and not self._run.forward_only:
            self._run.handed += handed
            return
        for each in handed:
            if each.why is None:
                self._later(self._after(self._open(), each.undo, each.reason))
            else:
                self._later(self._settle(each.undo, each.reason, each.why, refused=each.refused))

    async def settle(self) -> None:
        """Wait until nothing is parked any more, and nothing waits for what was."""
        while waiting := self._open():
            await to_the_end(asyncio.gather(*waiting))
        for each in self._run.settling:
            each.result()

    async def _take_back(self, undo: UndoStep, reason: str) -> None:
        if self._run.abandoned is not None:
            return
        mounted = self._run.memo.mounted and not self._run.forward_only
        if undo.last and mounted and self._run.handed:
            self._run.handed.append(HandedOver(undo=undo, why=None, refused=False, reason=reason))
            return
        if undo.last and self._open():
            self._later(self._after(self._open(), undo, reason))
            return
        try:
            await self._conduct.undo(undo, reason)
        except (Refused, FailureError) as error:
            refused = isinstance(error, Refused)
            if mounted:
                self._run.handed.append(HandedOver(undo=undo, why=told(error), refused=refused, reason=reason))
            else:
                self._later(self._settle(undo, reason, told(error), refused=refused))

    async def _settle(self, undo: UndoStep, reason: str, why: str, *, refused: bool) -> None:
        """Leave an undo to people until it is done, or somebody has decided that it need not be."""
        while self._run.abandoned is None:
            parked = await self._parking.park(
                undo.id,
                undo.title,
                why,
                kind="undo",
                name=undo.name,
                input=undo.input(reason),
                call=undo.call,
                undo=undo,
                refused=refused,
            )
            if parked.undo is None or not isinstance(parked.repair, Retry):
                return
            undo = parked.undo
            try:
                return await self._conduct.undo(undo, reason)
            except (Refused, FailureError) as error:
                why, refused = told(error), isinstance(error, Refused)

    async def _after(self, others: Iterable[asyncio.Future[None]], undo: UndoStep, reason: str) -> None:
        """Undo what waits for other undos, which are parked."""
        await to_the_end(asyncio.gather(*others))
        if self._run.abandoned is None:
            await self._take_back(undo.model_copy(update={"last": False}), reason)

    async def _end(self, workflow_id: str, reason: str, run_id: str | None = None) -> Ended:
        """End a child for good, or the saga's own steps, and learn what was done."""
        run = self._run
        ended: Ended = await to_the_end(
            run.turns.after(
                workflow.execute_local_activity(
                    END_SAGA,
                    EndSaga(
                        saga_id=run.saga_id,
                        workflow_id=workflow_id,
                        actor=run.memo.actor,
                        reason=reason,
                        run_id=run_id,
                    ),
                    result_type=Ended,
                    start_to_close_timeout=COMMAND.attempt,
                    retry_policy=COMMAND.without_end().retry,
                )
            )
        )
        return ended

    def _push(self, registered: Registered) -> Registered:
        self._run.undos.append(registered)
        if registered.undo is not None:
            self._run.registered.add(registered.undo.undoes)
        if registered.child is not None:
            self._run.children.add(registered.child)
        return registered

    def _open(self) -> list[asyncio.Future[None]]:
        return [each for each in self._run.settling if not each.done()]

    def _later(self, settling: Coroutine[Any, Any, None]) -> None:
        self._run.settling.append(asyncio.ensure_future(settling))
