"""Real worker processes, real servers, and what kills them: the saga goes on, money and goods move once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from pydantic import SecretStr

from amends.app import install
from amends.embedded import EmbeddedPostgres, EmbeddedTemporal, free_port
from amends.settings import Settings
from amends.visibility import SEARCH_ATTRIBUTES
from app import app
from client import PlacedOrder, Shop
from tests.conftest import FAST
from tests.sagas.given import rows, saga_status, until, until_true
from tests.sagas.shopping import Market, card, new_database, transfer

ROOT = Path(__file__).parents[2]
TAIL = "select count(*)::int from amends.checkpoints where events > 0"


class Workers:
    """Starts `python worker.py`, and sees to it that none is left."""

    def __init__(self, settings: Settings, log: Path) -> None:
        assert settings.database_url is not None
        assert settings.temporal_address is not None
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AMENDS_")},
            "AMENDS_DATABASE_URL": settings.database_url.get_secret_value(),
            "AMENDS_TEMPORAL_ADDRESS": settings.temporal_address,
            "AMENDS_TASK_QUEUE": settings.task_queue,
            "AMENDS_DRAIN_SECONDS": "10",
            "AMENDS_LOG_FORMAT": "json",
        }
        self.log = log
        self._running: list[subprocess.Popen[bytes]] = []

    async def start(self) -> subprocess.Popen[bytes]:
        """Start one, and wait until it works."""
        number = len(self._running) + 1
        path = self.log / f"worker-{number}.log"
        process = self._launch(path)

        def started() -> bool:
            assert process.poll() is None, path.read_text()
            return "worker_started" in path.read_text()

        await until_true("the worker starts", started, 30)
        return process

    def _launch(self, path: Path) -> subprocess.Popen[bytes]:
        with path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "worker.py"], cwd=ROOT, env=self._environment, stdout=log, stderr=subprocess.STDOUT
            )
        self._running.append(process)
        return process

    async def end(self, process: subprocess.Popen[bytes], number: int) -> int:
        """Send a signal and wait for the exit code."""
        process.send_signal(number)
        await until_true("the worker ends", lambda: process.poll() is not None, 30)
        code = process.poll()
        assert code is not None
        return code

    def stop_all(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def workers(settings: Settings, tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(settings, tmp_path)
    yield workers
    workers.stop_all()


@pytest.fixture
async def market(settings: Settings, workers: Workers) -> AsyncIterator[Market]:
    async with open_market(settings) as market:
        yield market


@asynccontextmanager
async def open_market(settings: Settings) -> AsyncIterator[Market]:
    assert settings.database_url is not None
    async with await Shop.connect(settings, actor="Ada's browser") as shop:
        yield Market(shop, settings.database_url.get_secret_value())


async def slow_order(market: Market) -> PlacedOrder:
    """An order whose charge is under way."""
    placed = await market.place(card("tok_slow"))
    await until("the charge", lambda: market.charging(placed.order_id))
    return placed


async def completed(market: Market, placed: PlacedOrder, seconds: float = 60) -> None:
    """Assert that the order completes and that money and goods have moved once."""
    outcome = await asyncio.wait_for(placed.result(), seconds)
    assert outcome.status == "completed"
    assert await market.charges(placed.order_id) == 1
    assert await saga_status(market.saga(placed.order_id)) == "Completed"
    freshness = await market.shop.at_least(outcome.position, 30)
    assert freshness.fresh, freshness
    await market.balances()


@pytest.fixture(scope="module", autouse=True)
async def orphan(
    postgres_url: str, template: str, temporal: EmbeddedTemporal, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Market, PlacedOrder]]:
    """An order whose worker was killed while it charged, with another worker in its place.

    It begins with the module, for Temporal takes half a minute to notice that nobody charges any more.
    """
    home = tmp_path_factory.mktemp("orphan")
    settings = Settings(
        home=home,
        database_url=SecretStr(new_database(postgres_url, template)),
        temporal_address=temporal.address,
        task_queue=f"test-{uuid4().hex}",
    )
    workers = Workers(settings, home)
    try:
        async with open_market(settings) as market:
            first = await workers.start()
            placed = await slow_order(market)
            assert await workers.end(first, signal.SIGKILL) == -signal.SIGKILL
            await workers.start()
            yield market, placed
    finally:
        workers.stop_all()


async def test_given_work_under_way_when_the_worker_is_told_to_end_then_it_drains_and_the_next_one_goes_on(
    market: Market, workers: Workers
) -> None:
    first = await workers.start()
    placed = await slow_order(market)
    waiting = await market.place(transfer("tok_transfer_never"))
    await until("the charge", lambda: market.charging(waiting.order_id))
    assert await workers.end(first, signal.SIGTERM) == 0
    log = (workers.log / "worker-1.log").read_text()
    assert "worker_draining" in log
    assert "worker_stopped" in log
    assert "Traceback" not in log
    await workers.start()
    await market.shop.cancel(waiting.order_id)
    assert (await asyncio.wait_for(waiting.result(), 60)).status == "cancelled"
    await completed(market, placed)


HELD = "select count(*)::int from amends.events where name = %s and stream = %s"


@pytest.mark.parametrize("lost", ["order.placed", "stock.reserved"])
async def test_given_a_step_of_a_lost_workflow_task_when_cancelled_before_the_next_worker_then_it_is_undone_too(
    market: Market, workers: Workers, lost: str
) -> None:
    """A local step acts before the history knows of it: whoever turns back must not forget what a dead worker did."""
    # given: a worker dies after a step has acted and before its workflow task has ended
    first = await workers.start()
    [held, blocked] = await market.lines(3, 4)
    order_id = f"lost-{uuid4().hex}"
    later = {"order.placed": f"payment-{order_id}", "stock.reserved": f"stock-{blocked.sku}"}[lost]
    acted = {"order.placed": f"order-{order_id}", "stock.reserved": f"stock-{held.sku}"}[lost]
    async with await psycopg.AsyncConnection.connect(market.url) as lock:
        # the step after it has to wait: for the stream, which is locked by the way appends wait for one another
        await lock.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (later,))
        customer = await market.customer()
        placing = asyncio.create_task(market.shop.place_order(customer, [held, blocked], card(), request_id=order_id))

        async def has_acted() -> bool:
            [(count,)] = await rows(market.url, HELD, lost, acted)
            return bool(count)

        await until("the step acts", has_acted, 30)
        await workers.end(first, signal.SIGKILL)
        await market.saga(order_id).cancel()
    # when: the next worker gets the task again, with the cancellation in it
    await workers.start()
    # then: nothing is left of it
    outcome = await asyncio.wait_for(market.shop.result(order_id), 60)
    await asyncio.gather(placing, return_exceptions=True)
    assert outcome.status == "cancelled"
    assert await saga_status(market.saga(order_id)) == "Compensated"
    assert (await market.shop.status(order_id)).status == "cancelled"
    await market.balances()


async def test_given_an_order_is_completed_in_a_lost_workflow_task_when_cancelled_then_it_stays_completed_and_paid(
    market: Market, workers: Workers
) -> None:
    # given: a worker dies when the order is completed and its goods are still to be committed
    first = await workers.start()
    [line] = await market.lines(2)
    order_id = f"late-{uuid4().hex}"
    commits = "select count(*)::int from pg_locks where locktype = 'advisory' and not granted"
    async with await psycopg.AsyncConnection.connect(market.url) as lock:
        placed = await market.shop.place_order(await market.customer(), [line], transfer(), request_id=order_id)
        await until("the charge", lambda: market.charging(placed.order_id))

        async def is_confirmed() -> bool:
            [(count,)] = await rows(market.url, HELD, "stock.confirmed", f"stock-{line.sku}")
            return bool(count)

        await until("the goods are confirmed", is_confirmed, 30)
        await lock.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (f"stock-{line.sku}",))

        async def is_completed() -> bool:
            [(done,)] = await rows(market.url, HELD, "order.completed", f"order-{order_id}")
            [(waiting,)] = await rows(market.url, commits)
            [(committed,)] = await rows(market.url, HELD, "stock.committed", f"stock-{line.sku}")
            return bool(done and (waiting or committed))

        await until("the order is completed", is_completed, 30)
        await workers.end(first, signal.SIGKILL)
        await market.saga(order_id).cancel()
    # when
    await workers.start()
    # then
    await completed(market, placed)


async def test_given_two_workers_when_one_is_killed_then_orders_and_projections_go_on_at_the_other(
    market: Market, workers: Workers
) -> None:
    first = await workers.start()
    await workers.start()
    before = [await market.place(card()) for _ in range(3)]
    for placed in before:
        await placed.result()
    assert await workers.end(first, signal.SIGKILL) == -signal.SIGKILL
    await completed(market, await market.place(card()))


async def test_given_a_charge_under_way_when_temporal_is_killed_and_restarted_then_it_completes(
    settings: Settings, tmp_path: Path
) -> None:
    attributes = {**SEARCH_ATTRIBUTES, **app.search_attributes}
    data, port = tmp_path / "temporal.db", free_port()
    with ExitStack() as ending:

        def serve() -> EmbeddedTemporal:
            server = EmbeddedTemporal(tmp_path / "temporal", port, None, db_path=data, search_attributes=attributes)
            ending.callback(server.stop, 1.0)
            server.start()
            server.wait_ready()
            return server

        server = serve()
        workers = Workers(settings.model_copy(update={"temporal_address": server.address}), tmp_path)
        ending.callback(workers.stop_all)
        async with open_market(settings.model_copy(update={"temporal_address": server.address})) as market:
            await workers.start()
            placed = await slow_order(market)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await until_true("the server is dead", lambda: server.poll() is not None)
            serve()
            await completed(market, placed)


async def test_given_a_charge_under_way_when_postgres_is_restarted_then_it_completes(
    settings: Settings, tmp_path: Path
) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres", free_port(), options=FAST)
    with ExitStack() as ending:
        ending.callback(server.stop)
        server.start()
        server.wait_ready()
        install(app, server.url)
        private = settings.model_copy(update={"database_url": SecretStr(server.url)})
        workers = Workers(private, tmp_path)
        ending.callback(workers.stop_all)
        async with open_market(private) as market:
            await workers.start()
            placed = await slow_order(market)
            waiting = await market.place(transfer("tok_transfer_never"))
            server.stop()
            with pytest.raises(psycopg.OperationalError):
                await rows(server.url, TAIL)
            await market.shop.cancel(waiting.order_id)
            server.start()
            server.wait_ready()
            assert (await asyncio.wait_for(waiting.result(), 60)).status == "cancelled"
            await completed(market, placed)


async def test_given_a_charge_under_way_when_the_worker_is_killed_then_the_next_one_completes_it(
    orphan: tuple[Market, PlacedOrder],
) -> None:
    market, placed = orphan
    await completed(market, placed)
