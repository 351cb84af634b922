"""The database is put back to an earlier moment than Temporal: what is lost is found, and comes to be again."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from pydantic import SecretStr

from activities.sandbox_gateway import SandboxGateway
from amends import Money
from amends.app import install
from amends.database import open_pool
from amends.embedded import EmbeddedPostgres, EmbeddedTemporal
from amends.settings import Settings
from app import app
from domain.product import ChangePrice
from domain.stock import ReceiveStock
from domain.values import Line
from read_models import inventory_levels, order_history
from tests.recovery.clusters import cluster
from tests.recovery.premises import Operator, open_shop
from tests.sagas.given import rows
from tests.sagas.shopping import card, transfer

KEPT = ("gateway.payments", "gateway.charges", "gateway.requests", "amends.personal_keys")
"""The provider's books, which no restore of ours puts back, and the keys of persons, of which there is a newer copy."""

CUSTOMERS = "select customer_id, name, email from views.customers order by 1"
XMAX = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    with cluster(tmp_path / "home") as server:
        install(app, server.url)
        yield server


@pytest.fixture
def settings(server: EmbeddedPostgres, temporal: EmbeddedTemporal, tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path / "home",
        database_url=SecretStr(server.url),
        temporal_address=temporal.address,
        task_queue=f"test-{uuid4().hex}",
        drain_seconds=5,
    )


def copy_of(source: Path, target: Path) -> None:
    """`cp -a`: files of whoever owns them stay theirs."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def copied(server: EmbeddedPostgres, folder: Path) -> Path:
    """The data folder, as it is while the server is stopped."""
    server.stop()
    copy_of(server._cluster.data, folder)
    server.start()
    server.wait_ready()
    return folder


def put_back(server: EmbeddedPostgres, folder: Path) -> None:
    """Restore the data folder, and the newer copy of the keys; the provider keeps its books."""
    kept = {}
    with psycopg.connect(server.url) as connection:
        for table in KEPT:
            with connection.cursor().copy(f"copy {table} to stdout".encode()) as copy:
                kept[table] = b"".join(bytes(block) for block in copy)
    server.stop()
    data = server._cluster.data
    shutil.rmtree(data)
    copy_of(folder, data)
    server.start()
    server.wait_ready()
    with psycopg.connect(server.url) as connection:
        for table in KEPT:
            connection.execute(f"truncate {table} cascade".encode())
            with connection.cursor().copy(f"copy {table} from stdin".encode()) as copy:
                copy.write(kept[table])


async def test_given_a_database_put_back_when_the_doctor_is_followed_then_every_order_is_there_and_the_books_balance(
    server: EmbeddedPostgres, settings: Settings, tmp_path: Path
) -> None:
    operator = Operator(settings)
    # given: an order from before
    async with open_shop(settings) as market:
        early = await market.place(card())
        await early.result()
        assert await operator.findings() == []
    folder = copied(server, tmp_path / "backup")
    # and: products, stock, customers and orders from after
    async with open_shop(settings) as market:
        completed, declined = await market.place(card()), await market.place(card("tok_declined"))
        refunded = await market.place(card())
        paid_later = await market.place(transfer())
        for placed in (completed, declined, refunded, paid_later):
            await placed.result()
        await (await market.shop.refund_order(refunded.order_id)).result()
        # one that goods were missing for, and what changed after them: stock and a price
        scarce, dear = await market.product(), await market.product()
        short = await market.place(card(), [Line(sku=scarce, quantity=20)])
        assert (await short.result()).status == "cancelled"
        await market.shop.execute(ReceiveStock(sku=scarce, quantity=50))
        cheap = await market.place(card(), [Line(sku=dear, quantity=2)])
        await cheap.result()
        await market.shop.execute(ChangePrice(sku=dear, price=Money(amount=999, currency="EUR")))
        never_paid = await market.place(transfer("tok_transfer_never"), [Line(sku=await market.product(), quantity=2)])
        assert (await market.shop.at_least(await market.shop.client.reader.head())).fresh
    customers = await rows(server.url, CUSTOMERS)
    [(lost,)] = await rows(server.url, XMAX)
    # when: it is put back
    put_back(server, folder)
    # then: all that is lost is told, and nothing is changed by asking
    before = await rows(server.url, "select count(*) from amends.commands")
    found = await operator.findings()
    told = {each["subject"] for each in found}
    orders = {f"order-{each.order_id}" for each in (completed, refunded, paid_later, cheap, never_paid)}
    assert orders <= told
    assert f"order-{paid_later.order_id}/payment" in told
    assert f"order-{early.order_id}" not in told
    # what was undone has left nothing behind, and must not be tried again: what it was refused by may be no more
    assert not {f"order-{declined.order_id}", f"order-{short.order_id}"} & told
    assert [each["turn"] for each in found] == sorted(each["turn"] for each in found)
    assert any(each["advice"].startswith("amends advance --past") for each in found)
    assert await rows(server.url, "select count(*) from amends.commands") == before
    # and: once it is followed, the orders are there again, as they were
    async with open_shop(settings) as market:
        await operator.follow_all()
        assert operator.typed[0][0] == "advance"
        assert (await rows(server.url, XMAX))[0][0] >= lost - 100
        # money is kept for what is completed; of what was undone, the provider alone knows that it came and went
        async with open_pool(server.url, "writer", 1) as pool:
            taken, back = await SandboxGateway(pool).totals("EUR")
        [shown] = await market.shop.query(order_history.money())
        assert taken.amount - back.amount == shown.completed - shown.returned == shown.taken - shown.refunded
        for level in await market.shop.query(inventory_levels.levels()):
            assert (level.received, level.reserved) == (level.on_hand + level.committed, 0), level
        statuses = {each: (await market.shop.status(each.order_id)).status for each in (early, completed, paid_later)}
        assert set(statuses.values()) == {"completed"}
        [(paid,)] = await rows(server.url, "select paid from views.order_history where order_id = %s", cheap.order_id)
        assert paid == 500
        assert await market.charges(short.order_id) == 1
        assert not await rows(server.url, "select from views.order_history where order_id = %s", short.order_id)
        assert await rows(server.url, CUSTOMERS) == customers
        assert (await market.shop.status(refunded.order_id)).status == "refunded"
        # what was still waited for is undone as a whole
        assert not await rows(server.url, "select from views.order_history where order_id = %s", never_paid.order_id)
        # nothing was charged twice
        for order in (completed, refunded, paid_later):
            assert await market.charges(order.order_id) == 1
