"""Temporal is put back to an earlier moment than the database: whom nobody goes on with is found and mended."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from amends.embedded import EmbeddedTemporal, free_port
from amends.settings import Settings
from amends.visibility import SEARCH_ATTRIBUTES
from app import app
from client import PlacedOrder, Shop
from domain.values import Line
from tests.cli.typing_in import amends
from tests.recovery.premises import Operator, open_shop
from tests.sagas.given import held, rows, until
from tests.sagas.shopping import Market, card, transfer

ROOT = Path(__file__).parents[2]

REACTIONS = "select workflow_id from views.saga_runs where workflow_id like 'leasing-%%'"


class Server:
    """A Temporal server whose data can be copied while it is stopped."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.start()

    def start(self) -> None:
        attributes = {**SEARCH_ATTRIBUTES, **app.search_attributes}
        data = self._folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        self._server = EmbeddedTemporal(
            self._folder, self._port, None, db_path=data / "temporal.db", search_attributes=attributes
        )
        self._server.start()
        self._server.wait_ready()

    @property
    def address(self) -> str:
        return self._server.address

    def copy(self) -> Path:
        """Stop, copy, start."""
        self._server.stop()
        shutil.copytree(self._folder / "data", self._folder / "backup")
        self.start()
        return self._folder / "backup"

    def put_back(self, backup: Path | None) -> None:
        """Restore a copy; or begin with nothing."""
        self._server.stop()
        shutil.rmtree(self._folder / "data")
        if backup is not None:
            shutil.copytree(backup, self._folder / "data")
        self.start()

    def stop(self) -> None:
        self._server.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "temporal")
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def mine(settings: Settings, server: Server) -> Settings:
    """Settings of a Temporal of this test's own."""
    return settings.model_copy(update={"temporal_address": server.address, "task_queue": f"test-{uuid4().hex}"})


@asynccontextmanager
async def doomed_worker(settings: Settings) -> AsyncIterator[None]:
    """A worker of its own process, which is killed in the end."""
    assert settings.database_url is not None
    here = {
        "AMENDS_DATABASE_URL": settings.database_url.get_secret_value(),
        "AMENDS_TEMPORAL_ADDRESS": str(settings.temporal_address),
        "AMENDS_TASK_QUEUE": settings.task_queue,
        "AMENDS_LOG_LEVEL": "error",
    }
    command = (sys.executable, "-m", "amends", "worker")
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env={**os.environ, **here})
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def pending(market: Market) -> PlacedOrder:
    """An order that waits for its money, its goods held by a lease."""
    lines = [Line(sku=await market.product(), quantity=2)]
    placed = await market.place(transfer("tok_transfer_never"), lines)
    await until("it is being charged", lambda: market.charging(placed.order_id))

    async def leased() -> bool:
        held_ones = "select from amends.commands where name = 'stock.lease' and payload ->> 'reservation_id' = %s"
        return bool(await rows(market.url, held_ones, placed.order_id))

    await until("the lease has begun", leased)
    return placed


async def test_given_temporal_put_back_when_the_doctor_is_followed_then_nothing_stays_held_and_the_books_balance(
    server: Server, mine: Settings
) -> None:
    operator = Operator(mine)
    # given: one order that is under way at the time of the copy, and ends after it
    async with open_shop(mine) as market:
        known = await market.place(transfer("tok_transfer"))
    backup = server.copy()
    async with open_shop(mine) as market:
        assert (await market.shop.result(known.order_id)).status == "completed"
        # and: after it, one that waits, and one that dies past its pivot
        waiting = await pending(market)
        customer, sku, past = await market.customer(), await market.product(), uuid4().hex
        lines = [Line(sku=sku, quantity=3)]
    async with (
        held(market.url, f"order-{past}/stock.commit:{sku}") as reached,
        doomed_worker(mine),
        await Shop.connect(mine) as shop,
    ):
        await shop.place_order(customer, lines, card(), request_id=past)
        await reached()
    # when
    server.put_back(backup)
    # then: it is told what nobody goes on with, and that the first goes on by itself
    found = {each["subject"]: each for each in await operator.findings()}
    assert f"amends saga undo order-{waiting.order_id}" in found[f"order-{waiting.order_id}"]["advice"]
    assert "send its request again" in found[f"order-{past}"]["advice"]
    assert "past its pivot" in found[f"order-{past}"]["known"]
    assert found[f"order-{known.order_id}"]["advice"] == ""
    leases = {id for (id,) in await rows(market.url, REACTIONS)}
    assert {id for id in leases if id in found} == {id for id in found if id.startswith("leasing-")} != set()
    # and: the command that can't be right is refused
    wrong = await amends("saga", "undo", f"order-{past}", "--actor", "a", "--reason", "b", settings=mine)
    assert (wrong.exit_code, "past its pivot" in " ".join(wrong.stderr.split())) == (1, True)
    wrong = await amends("saga", "redo", f"order-{past}", "--actor", "a", "--reason", "b", settings=mine)
    assert (wrong.exit_code, "send that again under the same id" in " ".join(wrong.stderr.split())) == (1, True)
    # when: it is followed
    async with open_shop(mine) as market:
        await operator.follow(f"amends saga undo order-{waiting.order_id} --actor … --reason …")
        again = await market.shop.place_order(customer, lines, card(), request_id=past)
        assert (await again.result()).status == "completed"
        assert (await market.shop.result(known.order_id)).status == "completed"
        for each in found.values():
            if each["subject"].startswith("leasing-"):
                await operator.follow(each["advice"])

        async def mended() -> bool:
            return not [each for each in await operator.findings() if each["advice"]]

        await until("all is mended", mended)
        # then
        assert (await market.shop.status(waiting.order_id)).reason == "lost"
        assert await market.charges(past) == await market.charges(known.order_id) == 1
        await market.balances()
