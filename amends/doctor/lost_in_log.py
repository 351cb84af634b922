"""What Temporal knows and the log does not: the database was restored to an earlier point."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from amends.doctor.disagreement import Disagreement, Turn
from amends.doctor.histories import told_by
from amends.doctor.knowledge import Log
from amends.records import START, Position
from amends.visibility import FINAL, MEMO, SAGA_STATUS, UNDONE, SagaMemo, quoted

__all__ = ["lost_in_log"]

COMMAND = "ExecuteCommand"
"""The workflow of a command that needs no saga."""

PAGE = 200
"""Workflows that are looked up together."""


async def lost_in_log(
    log: Log, client: Client, task_queue: str, processes: Sequence[str], since: datetime
) -> AsyncIterator[Disagreement]:
    """Find workflows whose steps the log does not know; arguments as for `reconcile`."""
    latest, advised = START, set[str]()
    names = ", ".join(map(quoted, [*processes, COMMAND]))
    query = f"TaskQueue = {quoted(task_queue)} and WorkflowType in ({names})"
    if since > datetime.min.replace(tzinfo=UTC):
        query += f" and (ExecutionStatus = 'Running' or CloseTime >= '{since.astimezone(UTC).isoformat()}')"
    async for page in _pages(client, query):
        async for each, position in _compared(log, client, page):
            latest = max(latest, position)
            if not each.advice or each.advice not in advised:  # a saga and its children are cancelled once
                yield each
            advised.add(each.advice)
    ids = await log.ids()
    if latest.xid >= ids.next:
        yield Disagreement(
            "the log",
            Turn.POSITIONS,
            f"positions up to {latest} were handed out",
            f"the database is at transaction {ids.next}: what comes now would be before places that readers hold",
            f"amends advance --past {latest.xid}",
        )


async def _pages(client: Client, query: str) -> AsyncIterator[list[WorkflowExecution]]:
    """The latest runs of the workflows that are found, by the page."""
    page: list[WorkflowExecution] = []
    seen = set[str]()
    async for found in client.list_workflows(query):
        if found.id not in seen:  # the latest run of each comes first
            seen.add(found.id)
            page.append(found)
        if len(page) == PAGE:
            yield page
            page = []
    yield page


async def _compared(
    log: Log, client: Client, page: Sequence[WorkflowExecution]
) -> AsyncIterator[tuple[Disagreement, Position]]:
    """A page of workflows against the log, each with the latest place that its history tells of."""
    commands = [each for each in page if each.workflow_type == COMMAND]
    on_record = await log.commands([each.id for each in commands])
    for each in commands:
        if each.status == WorkflowExecutionStatus.COMPLETED and each.id not in on_record:
            told = await told_by(client, each.id, each.run_id)
            missing = "the log does not know the command"
            yield _again(each, Turn.WORK, f"done at {_at(each)}", missing), told.latest
    sagas = [each for each in page if each.workflow_type != COMMAND]
    ends = await log.closed({id for each in sagas for id in (each.id, _root(each))})
    for each in sagas:
        root = await _described(client, each)
        if each.status == WorkflowExecutionStatus.RUNNING:
            compared = await _running(log, client, each, root, ends)
        elif _status(each) in FINAL and not _ended(each, ends):
            compared = await _lost_end(log, client, each, root)
        else:
            continue
        if compared is not None:
            yield compared


async def _lost_end(
    log: Log, client: Client, saga: WorkflowExecution, root: WorkflowExecution
) -> tuple[Disagreement, Position] | None:
    """A saga, or a part of one, that has ended in Temporal alone."""
    told = await told_by(client, saga.id, saga.run_id)
    known, missing = f"ended as {_status(saga)} at {_at(saga)}", "the log does not know its end"
    if _status(root) not in UNDONE and _status(saga) not in UNDONE:
        return _again(saga, await _turn(saga), known, missing, root), told.latest
    # done again it might go forward, for what it was refused by may be no more; what it did outside was taken back
    if saga.id != root.id or not any(open_.saga_id == saga.id for open_ in await log.open()):
        return None
    advice = f"amends saga undo {saga.id} --actor … --reason …"
    missing = "the log knows some of its steps, and not that they were undone"
    return Disagreement(saga.id, Turn.WORK, known, missing, advice, root.start_time), told.latest


async def _running(
    log: Log, client: Client, saga: WorkflowExecution, root: WorkflowExecution, ends: dict[str, set[str]]
) -> tuple[Disagreement, Position] | None:
    told = await told_by(client, saga.id, saga.run_id)
    lacking = await log.lacking(_root(saga), told)
    if not lacking:
        if not _ended(saga, ends) or (await client.get_workflow_handle(saga.id).describe()).close_time:
            return None
        missing = "Temporal knows an earlier moment of it, and goes through the rest once more"
        return Disagreement(saga.id, Turn.NOTHING, "the log knows its end", missing), told.latest
    known = f"running, with {len(told.commands) + len(told.ids)} steps done"
    missing = f"the log does not know {', '.join(lacking[:3])}{' …' if lacking[3:] else ''}"
    if (told.children or saga.id != root.id) and not told.forward:
        # what became of a child is told to the run that has started it, so these are undone as a whole
        advice = f"amends saga cancel {root.id} --actor … --reason …"
        return Disagreement(root.id, Turn.WORK, known, missing, advice, root.start_time), told.latest
    return _again(saga, await _turn(saga), known, missing, root), told.latest


def _again(
    workflow: WorkflowExecution, turn: Turn, known: str, missing: str, root: WorkflowExecution | None = None
) -> Disagreement:
    advice, begun = f"amends saga redo {workflow.id} --actor … --reason …", (root or workflow).start_time
    part = root is not None and root.id != workflow.id
    return Disagreement(workflow.id, turn, known, missing, advice, begun, part)


async def _turn(saga: WorkflowExecution) -> Turn:
    memo = await saga.memo_value(MEMO, default=SagaMemo(), type_hint=SagaMemo)
    return Turn.WORK if memo.causation is None or saga.id != _root(saga) else Turn.REACTIONS


async def _described(client: Client, saga: WorkflowExecution) -> WorkflowExecution:
    """The saga itself, or of a part of one, the whole; itself too where that is gone."""
    if saga.id == _root(saga):
        return saga
    try:
        return await client.get_workflow_handle(_root(saga)).describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return saga


def _ended(saga: WorkflowExecution, ends: dict[str, set[str]]) -> bool:
    """Whether the log knows its end: its own, or, of a child, that of its saga."""
    own = ends.get(saga.id, set())
    return bool(own & {saga.run_id, ""}) or (saga.id != _root(saga) and _root(saga) in ends)


def _status(saga: WorkflowExecution) -> str:
    return saga.typed_search_attributes.get(SAGA_STATUS) or ""


def _root(saga: WorkflowExecution) -> str:
    return saga.root_id or saga.id


def _at(workflow: WorkflowExecution) -> str:
    return "?" if workflow.close_time is None else f"{workflow.close_time:%F %T} UTC"
