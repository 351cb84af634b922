"""A worker process that holds sagas at the points it is told, until it is killed.

It is started by `python -m amends.testing.faults.victim`. On its standard input it gets one line of JSON, what to hold;
it says `ready`, then `held <saga>` for each. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from temporalio import activity
from temporalio.client import Client

from amends.app import load_app
from amends.connect import connect
from amends.logs import configure_logs
from amends.settings import Settings
from amends.testing.faults.fault import Fault
from amends.testing.faults.injecting import Injector
from amends.testing.faults.injections import arm
from amends.testing.faults.plan import DIES, Meeting
from amends.testing.faults.points import Point
from amends.worker import open_worker

__all__ = ["main"]

BEAT_SECONDS = 0.5


async def main() -> None:
    """Work, and hold what is to be held."""
    settings = Settings()
    configure_logs(settings.model_copy(update={"log_level": "error"}))
    client, injector = await connect(settings), Injector()
    for order in json.loads(sys.stdin.readline()):
        _plan(injector, client, order)
    async with open_worker(load_app(settings.app), settings, client, interceptors=[injector]) as worker, worker:
        _say("ready")
        await asyncio.to_thread(sys.stdin.read)
        os._exit(1)  # whoever has started us is gone


def _plan(injector: Injector, client: Client, order: dict[str, Any]) -> None:
    plan = injector.plan(order["saga_id"], order["key"])
    plan.limits[None] = DIES

    async def cancel() -> None:
        await client.get_workflow_handle(plan.saga_id).cancel()

    async def hold(met: Meeting) -> Any:
        if order["after"]:
            await met.act()
        _say(f"held {plan.saga_id}")
        while True:
            if not activity.info().is_local:
                activity.heartbeat()
            await asyncio.sleep(BEAT_SECONDS)

    plan.cancel = cancel
    for where, undo, fault in order["preludes"]:
        arm(plan, Point(where, undo), Fault[fault])
    plan.faults[Point(*order["point"])] = hold


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
