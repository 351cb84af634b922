"""Histories that released code has written are replayed by this code: sagas under way survive its deployment."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from amends.app import App
from amends.checking.verdict import Checked, Failure
from amends.encryption import converter
from amends.errors import InvalidInput
from amends.runner import RUNNER
from amends.settings import Settings
from amends.worker import LASTING

__all__ = ["KeptHistory", "check_histories", "kept_histories"]

NAME = "histories replay"

GOOD = {"COMPLETED", "CONTINUED_AS_NEW"}
BAD = {"FAILED", "CANCELED", "TERMINATED", "TIMED_OUT"}

MEND = (
    "Put the change behind workflow.patched(…), or take it back; docs/versions.md tells how. The old workers may also "
    "stay until the sagas that need them have ended: then take this history out"
)

RECORD = (
    "Let one end that way and keep its history there: temporal workflow show --workflow-id ID --output json > FILE.json"
)


class KeptHistory(NamedTuple):
    """A history in a file.

    Args:
        path: the file.
        type: of its workflow.
        end: how it ended, e.g. COMPLETED; RUNNING while it had not.
        history: to replay.
    """

    path: Path
    type: str
    end: str
    history: WorkflowHistory


def kept_histories(folder: Path) -> Iterator[KeptHistory]:
    """The histories in a folder, in `*.json` as Temporal's command line writes them, or `*.json.gz`.

    Args:
        folder: where they are.

    Raises:
        InvalidInput: a file is no history.
    """
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.json.gz")]):
        try:
            raw = path.read_bytes()
            said = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
            started, last = said["events"][0], said["events"][-1]
            id = said.pop("workflow_id", path.name)
            type_ = started["workflowExecutionStartedEventAttributes"]["workflowType"]["name"]
            history = WorkflowHistory.from_json(str(id), json.dumps(said))
        except (OSError, EOFError, ValueError, LookupError, TypeError) as error:
            raise InvalidInput({str(path): f"is no history of a workflow: {error!r}"}) from None
        yield KeptHistory(path, type_, _end(last), history)


async def check_histories(app: App, folder: Path, settings: Settings) -> Checked:
    """Replay every history of a folder, and see that of each workflow a good and a bad end is kept.

    Args:
        app: whose workflows.
        folder: of histories.
        settings: hold the keys, where the histories are encrypted.
    """
    kept = list(kept_histories(folder))
    if not kept:
        told = f"none in {folder}: nothing says whether sagas under way survive this code. {RECORD}"
        return Checked(name=NAME, looked_at=told)
    failures: list[Failure] = []
    # all with one replayer, for setting one up takes longer than replaying
    replayer = Replayer(
        workflows=[*app.workflows, *LASTING], workflow_runner=RUNNER, data_converter=converter(settings)
    )
    ends: dict[str, set[str]] = defaultdict(set)
    for each in kept:
        ends[each.type].add(each.end)
        result = await replayer.replay_workflow(each.history, raise_on_replay_failure=False)
        if result.replay_failure is not None:
            told = f"{each.path.name}: {each.type} no longer goes this way: {_reason(result.replay_failure)}"
            failures.append(Failure(what=told, mend=MEND))
    failures += _missing(app, ends, folder)
    types = len(ends)
    return Checked(name=NAME, looked_at=f"{len(kept)} of {types} workflows in {folder}", failures=tuple(failures))


def _missing(app: App, ends: dict[str, set[str]], folder: Path) -> Iterator[Failure]:
    for process in app.workflows:
        name = str(workflow._Definition.must_from_class(process).name)
        for wanted, told in ((GOOD, "ended well"), (BAD, "failed or was ended")):
            if not ends[name] & wanted:
                yield Failure(what=f"{name}: {folder} has no history that {told}", mend=RECORD)


def _end(last: dict[str, Any]) -> str:
    name = str(last["eventType"]).removeprefix("EVENT_TYPE_WORKFLOW_EXECUTION_")
    return name if name in GOOD | BAD else "RUNNING"


def _reason(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
