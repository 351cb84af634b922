"""Mounting one process in another: inside its workflow, or as a child of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from temporalio import workflow
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import ChildWorkflowError, TerminatedError, TimeoutError, WorkflowAlreadyStartedError

from amends.ending import CHILD_OUTCOME, ChildOutcome
from amends.policies import COMMAND
from amends.saga_state import Run
from amends.steps import result_of
from amends.visibility import MEMO, SAGA_STATUS, business_keys

if TYPE_CHECKING:
    from amends.process import Process

__all__ = ["checked", "join_handlers", "run_child"]

Request = TypeVar("Request")
Result = TypeVar("Result")

_ABANDON = workflow.ChildWorkflowCancellationType.ABANDON
_WAIT = workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED

STILL_RUNNING = timedelta(seconds=2)
"""Pause before a child is started again that has not ended yet, or not by itself."""


def checked(name: str) -> str:
    """A name that no other process's path begins with."""
    if not name or "/" in name:
        raise RuntimeError(f"A mounted process needs a name without a slash, not {name!r}")
    return name


def join_handlers(process: object) -> None:
    """Let the signals, queries and updates of a process mounted inline reach it through this workflow."""
    own = workflow._Definition.must_from_class(type(workflow.instance()))
    definition = workflow._Definition.must_from_class(type(process))
    for signal in definition.signals.values():
        if signal.name is not None and signal.name not in own.signals:
            workflow.set_signal_handler(signal.name, signal.bind_fn(process))
    for query in definition.queries.values():
        if query.name is not None and query.name not in own.queries:
            workflow.set_query_handler(query.name, query.bind_fn(process))
    for update in definition.updates.values():
        if update.name is not None and update.name not in own.updates:
            validator = update.bind_validator(process) if update.validator else None
            workflow.set_update_handler(update.name, update.bind_fn(process), validator=validator)


async def run_child(
    run: Run, name: str, child: str, process: type[Process[Request, Result]], request: Request
) -> Result:
    """Run a process as a child workflow, to its end.

    A child that has run before, under a run of this saga that was ended or reset, is not run again when it came to its
    end and stands: its result is taken. One that did not may have undone itself; only past the pivot, where nothing is
    undone, it goes on, its steps counting as done.

    Args:
        run: state of the saga that it is part of.
        name: its place in the saga.
        child: its workflow id.
        process: its workflow class.
        request: what its `run` takes.
    """
    run.with_children[child] = None
    try:
        return await _to_its_end(run, name, child, process, request)
    finally:
        run.with_children.pop(child)


async def _to_its_end(
    run: Run, name: str, child: str, process: type[Process[Request, Result]], request: Request
) -> Result:
    reuse = WorkflowIDReusePolicy.REJECT_DUPLICATE
    info = workflow.info()
    keys = business_keys(info.typed_search_attributes)
    while True:
        try:
            return await workflow.execute_child_workflow(
                process.run,
                request,
                id=child,
                id_reuse_policy=reuse,
                memo={MEMO: run.memo.model_copy(update={"forward_only": run.forward_only, "mounted": True})},
                search_attributes=TypedSearchAttributes([*keys, SearchAttributePair(SAGA_STATUS, "Running")]),
                static_summary=f"{name} of {info.workflow_id}",
                # past the pivot it hears no cancellation; who gives the parent up does not wait for it
                cancellation_type=_ABANDON if run.forward_only else _WAIT,
                # a parent that is terminated must not take the child's undo with it
                parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
            )
        except WorkflowAlreadyStartedError:
            outcome = await _outcome(name, child)
            if outcome.state == "completed":
                result: Result = result_of(process.run).validate_python(outcome.result)
                return result
            if not run.forward_only:
                raise
            if outcome.state == "lost":
                reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE
                continue
        except ChildWorkflowError as error:
            if not (run.forward_only and isinstance(error.cause, TerminatedError | TimeoutError)):
                raise
            reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE
        await workflow.sleep(STILL_RUNNING, summary=f"{name} has to be started again")


async def _outcome(name: str, child: str) -> ChildOutcome:
    outcome: ChildOutcome = await workflow.execute_activity(
        CHILD_OUTCOME,
        child,
        result_type=ChildOutcome,
        start_to_close_timeout=COMMAND.attempt,
        retry_policy=COMMAND.without_end().retry,
        summary=f"what became of {name}",
    )
    return outcome
