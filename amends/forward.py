"""Going on after the pivot: there is no way back, so what fails for good waits for a person, then is tried again."""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python
from temporalio.exceptions import FailureError

from amends.conduct import Conduct
from amends.errors import EndedFromOutside, Refused
from amends.messages import Command
from amends.outcomes import given_up, told
from amends.parking import Parking, again
from amends.records import START, Receipt
from amends.repair import Abandon, Retry
from amends.saga_state import Run
from amends.steps import Step, with_input
from amends.values import redacted

__all__ = ["insist"]


async def insist(run: Run, conduct: Conduct, parking: Parking, title: str, step: Step, step_id: str) -> Any:
    """Do a step until it is done, or somebody has decided that the saga goes on without it.

    Args:
        run: the saga's state.
        conduct: sends the step.
        parking: where it waits for people.
        title: what it does.
        step: command or call.
        step_id: its identity.

    Returns:
        its result; without it, a receipt with the outcome "skipped", or None for a call.
    """
    while True:
        try:
            return await conduct.step(title, partial(conduct.send, title, step, step_id))
        except (Refused, FailureError) as error:
            if isinstance(error, EndedFromOutside) and run.abandoned is None:
                run.abandoned = Abandon(actor="saga", reason="the saga that it is part of was abandoned")
            if run.abandoned is not None:
                raise given_up() from error
            refused, why = isinstance(error, Refused), told(error)
        command = isinstance(step, Command)
        name = step.message_name if isinstance(step, Command) else step.step_name
        argument = step if isinstance(step, Command) else step.argument
        shown = redacted(argument) if isinstance(argument, BaseModel) else to_jsonable_python(argument)
        parked = await parking.park(
            step_id, title, why, kind="step", name=name, input=shown, call=not command, refused=refused
        )
        repair = parked.repair
        if run.abandoned is not None:
            raise given_up()
        if not isinstance(repair, Retry):
            skipped = Receipt(name=name, outcome="skipped", stream="", version=0, position=START)
            return skipped if command else None
        if refused or repair.input is not None:  # the old id stands for a no, or for other input
            step_id = again(step_id, parked.update)
        if repair.input is not None:
            step = with_input(step, repair.input)
