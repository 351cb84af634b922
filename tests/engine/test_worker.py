"""A worker process: what it does when it can't begin, and when it is told to end before it has."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio.worker import Worker

from amends.settings import Settings
from amends.worker import run_worker
from app import app


@pytest.fixture
async def workers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Worker]]:
    """The SDK's workers that are made; signals are afterwards as they were."""
    made: list[Worker] = []

    class Noted(Worker):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            made.append(self)

    monkeypatch.setattr("amends.worker.Worker", Noted)
    yield made
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(number)


async def test_given_a_server_that_fails_while_it_begins_when_run_then_it_takes_no_work_any_more_and_says_why(
    settings: Settings, workers: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: Any) -> None:
        raise ConnectionError("no answer about the projections")

    monkeypatch.setattr("amends.worker.start_followers", fails)
    with pytest.raises(ConnectionError, match="no answer"):
        await asyncio.wait_for(run_worker(app, settings), 60)
    assert [worker.is_running for worker in workers] == [False]


async def test_given_a_server_that_does_not_answer_while_it_begins_when_told_to_end_then_it_ends(
    settings: Settings, workers: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def hangs(*_: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("amends.worker.start_followers", hangs)
    running = asyncio.create_task(run_worker(app, settings))
    await asyncio.wait_for(begun.wait(), 60)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, 60)
    assert [worker.is_running for worker in workers] == [False]
