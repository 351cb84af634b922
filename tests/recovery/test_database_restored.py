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

from amends.app import install
from amends.embedded import EmbeddedPostgres, EmbeddedTemporal
from amends.settings import Settings
from app import app
from domain.values import Line
from tests.recovery.clusters import cluster
from tests.recovery.premises import Operator, open_shop
from tests.sagas.given import rows
from tests.sagas.shopping import card, transfer

PROVIDER = ("gateway.payments", "gateway.charges", "gateway.requests")
"""The provider's books: somebody else's, so no restore of ours puts them back."""

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
    """Restore the data folder; the provider keeps its books."""
    kept = {}
    with psycopg.connect(server.url) as connection:
        for table in PROVIDER:
            with connection.cursor().copy(f"copy {table} to stdout".encode()) as copy:
                kept[table] = b"".join(bytes(block) for block in copy)
    server.stop()
    data = server._cluster.data
    shutil.rmtree(data)
    copy_of(folder, data)
    server.start()
    server.wait_ready()
    with psycopg.connect(server.url) as connection:
        for table in PROVIDER:
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
        never_paid = await market.place(transfer("tok_transfer_never"), [Line(sku=await market.product(), quantity=2)])
    [(lost,)] = await rows(server.url, XMAX)
    # when: it is put back
    put_back(server, folder)
    # then: all that is lost is told, and nothing is changed by asking
    before = await rows(server.url, "select count(*) from amends.commands")
    found = await operator.findings()
    told = {each["subject"] for each in found}
    orders = {f"order-{each.order_id}" for each in (completed, declined, refunded, paid_later, never_paid)}
    assert orders <= told
    assert f"order-{paid_later.order_id}/payment" in told
    assert f"order-{early.order_id}" not in told
    assert [each["turn"] for each in found] == sorted(each["turn"] for each in found)
    assert any(each["advice"].startswith("amends advance --past") for each in found)
    assert await rows(server.url, "select count(*) from amends.commands") == before
    # and: once it is followed, the orders are there again, as they were
    async with open_shop(settings) as market:
        await operator.follow_all()
        assert operator.typed[0][0] == "advance"
        assert (await rows(server.url, XMAX))[0][0] >= lost - 100
        await market.balances()
        statuses = {each: (await market.shop.status(each.order_id)).status for each in (early, completed, paid_later)}
        assert set(statuses.values()) == {"completed"}
        assert (await market.shop.status(declined.order_id)).status == "cancelled"
        assert (await market.shop.status(refunded.order_id)).status == "refunded"
        # what was still waited for is undone as a whole
        assert not await rows(server.url, "select from views.order_history where order_id = %s", never_paid.order_id)
        # nothing was charged twice
        for order in (completed, refunded, paid_later):
            assert await market.charges(order.order_id) == 1
