"""Shops whose servers can be put back to an earlier moment, and an operator who does what `amends doctor` says."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from amends.compensation import compensation_id
from amends.connect import connect
from amends.doctor.disagreement import Turn
from amends.settings import Settings
from amends.worker import open_worker, start_followers
from app import app
from client import Shop
from tests.cli.typing_in import amends
from tests.sagas.given import until
from tests.sagas.shopping import Market

__all__ = ["Operator", "open_shop"]

WHO = {"…": "restored"}

WAIT = {Turn.WORK: 60, Turn.REACTIONS: 0}
"""Reactions are not waited for: a lease lasts for days."""


@asynccontextmanager
async def open_shop(settings: Settings) -> AsyncIterator[Market]:
    """The shop with a worker in this process, and all that follows the feed."""
    assert settings.database_url is not None
    client = await connect(settings)
    async with open_worker(app, settings, client) as worker:
        running = asyncio.create_task(worker.run())
        try:
            await start_followers(app, settings, client)
            async with await Shop.connect(settings, actor="Ada's browser") as shop:
                yield Market(shop, settings.database_url.get_secret_value())
        finally:
            await worker.shutdown()
            await running


@dataclass
class Operator:
    """Somebody who reads what `amends doctor --reconcile` says, and types it in.

    Args:
        settings: whose servers.
        typed: what was typed in, in order.
    """

    settings: Settings
    typed: list[list[str]] = field(default_factory=list)

    async def findings(self) -> list[dict[str, Any]]:
        """What the log and Temporal tell differently now."""
        done = await amends("doctor", "--reconcile", "--json", settings=self.settings)
        assert isinstance(done.exception, SystemExit | None), repr(done.exception)
        found: list[dict[str, Any]] = json.loads(done.stdout)
        assert done.exit_code == int(any(each["advice"] for each in found)), done.stderr
        return found

    async def follow(self, advice: str) -> None:
        """Type a command in as it is advised."""
        words = [WHO.get(word, word) for word in shlex.split(advice)]
        assert words[0] == "amends", advice
        done = await amends(*words[1:], settings=self.settings)
        assert done.exit_code == 0, (advice, done.stderr, done.exception)
        self.typed.append(words[1:])

    async def follow_all(self, rounds: int = 8) -> None:
        """Round by round, do what comes first, wait until that has ended, and look again."""
        for _ in range(rounds):
            found = [each for each in await self.findings() if each["advice"]]
            if not found:
                return
            turn = min(each["turn"] for each in found)
            now = [each for each in found if each["turn"] == turn]
            again = [each["subject"] for each in now if each["advice"].startswith("amends saga redo ")]
            for each in now:
                if each["subject"] not in again:
                    await self.follow(each["advice"])
            if again:
                await self.follow(f"amends saga redo {' '.join(again)} --actor … --reason … --wait {WAIT[turn]}")
            if turn != Turn.REACTIONS:  # those have a life of their own
                await self._ended([each["subject"] for each in now if each["subject"] != "the log"])
        raise AssertionError(f"after {rounds} rounds: {await self.findings()}")

    async def _ended(self, ids: list[str]) -> None:
        """Wait until these workflows, or their compensations, have come to an end."""
        client = await connect(self.settings)

        async def ended(id: str) -> bool:
            for workflow_id in (id, compensation_id(id)):
                try:
                    described = await client.get_workflow_handle(workflow_id).describe()
                except RPCError as error:
                    if error.status == RPCStatusCode.NOT_FOUND:
                        continue
                    raise
                return described.status != WorkflowExecutionStatus.RUNNING
            return False

        for id in ids:
            await until(f"{id} has ended", partial(ended, id))
