"""Keeps histories of what has run on a Temporal server: `python -m tests.golden.record localhost:7233`.

One of each way that a workflow has gone: its type, its end, and the kinds of what happened in it. Those that are kept
already stay, for they are what today's code has to replay; new ways are added.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import sys
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

from temporalio.client import Client

HISTORIES = Path(__file__).parent / "histories"

MOST_OF_A_KIND = 6
"""Histories of one workflow type with one end; the rest go much the same way."""

LARGEST = 400
"""Entries; longer ones say nothing that shorter ones don't."""

OF_A_MACHINE = {"identity", "stackTrace", "sourceComponent", "binaryChecksum", "requestId", "links"}
"""Fields that say where and by whom it was run, which no replay asks for."""

WORKER = re.compile(r"\b\d+@[\w.-]+")
"""How workers call themselves, and their queues: process and machine."""


def scrubbed(value: Any) -> Any:
    """A history without what belongs to the machine it ran on."""
    match value:
        case dict():
            return {name: scrubbed(part) for name, part in value.items() if name not in OF_A_MACHINE}
        case list():
            return [scrubbed(part) for part in value]
        case str():
            return WORKER.sub("worker", value)
        case _:
            return value


def way(events: list[dict[str, Any]]) -> str:
    """What kinds of things happened, repetitions as one."""
    kinds = [re.sub(r"^EVENT_TYPE_", "", event["eventType"]) for event in events]
    steps = [
        event.get("markerRecordedEventAttributes", {}).get("markerName")
        or event.get("activityTaskScheduledEventAttributes", {}).get("activityType", {}).get("name")
        or kind
        for event, kind in zip(events, kinds, strict=True)
    ]
    return " ".join(step for step, _ in groupby(steps))


async def record(address: str) -> int:
    """Keep what is new; returns how many that were."""
    client, added = await Client.connect(address), 0
    async for execution in client.list_workflows("WorkflowType != 'RepeatUndos'"):  # of the test harness
        if execution.history_length > LARGEST:
            continue
        handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
        history = scrubbed(json.loads((await handle.fetch_history()).to_json()))
        status = execution.status.name.lower() if execution.status else "unknown"
        kind = f"{execution.workflow_type}-{status}"
        name = f"{kind}-{sha256(way(history['events']).encode()).hexdigest()[:8]}.json.gz"
        there = list(HISTORIES.glob(f"{kind}-*.json.gz"))
        if (HISTORIES / name).exists() or len(there) >= MOST_OF_A_KIND:
            continue
        kept = json.dumps({"workflow_id": execution.id, **history}, separators=(",", ":"), sort_keys=True)
        (HISTORIES / name).write_bytes(gzip.compress(kept.encode(), mtime=0))
        added += 1
    return added


if __name__ == "__main__":
    HISTORIES.mkdir(exist_ok=True)
    sys.stdout.write(f"{asyncio.run(record(sys.argv[1]))} histories added\n")
