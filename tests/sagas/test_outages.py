"""PostgreSQL or Temporal is away: whoever uses the shop is told which, where, and what may have come of a command."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from activities.webhooks import sign
from amends.embedded import free_port
from amends.errors import NoAnswer, Unavailable
from amends.records import Position
from amends.settings import Settings
from chaos.links import Link
from client import PlacedOrder, Shop
from domain.stock import ReceiveStock
from domain.values import Line
from read_models import order_history
from tests.cli.typing_in import amends
from tests.conftest import RunWorker
from tests.engine.readside_shop import fetch
from tests.sagas.shopping import Market, card, name

SECRET = "whsec_outages"
GOODS = ReceiveStock(sku="TEA", quantity=7)

Call = Callable[[Shop, PlacedOrder, str], Coroutine[Any, Any, Any]]


async def watched(shop: Shop, order: PlacedOrder, sku: str) -> list[object]:
    return [change async for change in shop.watch(order.order_id)]


async def placed(shop: Shop, order: PlacedOrder, sku: str) -> PlacedOrder:
    row = await shop.client.query(order_history.order(order.order_id))
    assert row is not None
    return await shop.place_order(row.customer_id, [Line(sku=sku, quantity=1)], card())


def news(order_id: str) -> tuple[bytes, str]:
    body = b'{"type": "payment.changed", "payment_id": "%s"}' % order_id.encode()
    return body, sign(body, SECRET, datetime.now(UTC))


TEMPORAL: dict[str, Call] = {
    "execute": lambda shop, order, sku: shop.execute(GOODS),
    "place_order": placed,
    "result": lambda shop, order, sku: shop.result(order.order_id),
    "cancel": lambda shop, order, sku: shop.cancel(order.order_id),
    "refund_order": lambda shop, order, sku: shop.refund_order(order.order_id),
    "refund_result": lambda shop, order, sku: shop.refund_result(order.order_id),
    "forget": lambda shop, order, sku: shop.forget("nobody", "asked"),
    "payment_settled": lambda shop, order, sku: shop.payment_settled(order.order_id),
    "webhook": lambda shop, order, sku: shop.webhook(*news(order.order_id)),
    "delivery_arrived": lambda shop, order, sku: shop.delivery_arrived(order.order_id, 1),
}
"""What needs Temporal."""

POSTGRES: dict[str, Call] = {
    "query": lambda shop, order, sku: shop.query(order_history.order(order.order_id)),
    "status": lambda shop, order, sku: shop.status(order.order_id),
    "at_least": lambda shop, order, sku: shop.at_least(Position(1 << 40, 1), 1),
    "require": lambda shop, order, sku: shop.require(Position(1 << 40, 1), 1),
    "watch": watched,
    "place_order": lambda shop, order, sku: shop.place_order("ann", [Line(sku=sku, quantity=1)], card()),
}
"""What needs PostgreSQL."""


class Ways:
    """Ways of a client to its servers, which can be shut; the worker has others."""

    def __init__(self, settings: Settings) -> None:
        assert settings.database_url is not None
        assert settings.temporal_address is not None
        self.url = settings.database_url.get_secret_value()
        self.postgres = Link("postgres", int(str(conninfo_to_dict(self.url)["port"])))
        self.temporal = Link("temporal", int(settings.temporal_address.rpartition(":")[2]))

    def through(self, settings: Settings) -> Settings:
        url = make_conninfo(self.url, port=self.postgres.port, sslmode="disable", gssencmode="disable")
        address = f"127.0.0.1:{self.temporal.port}"
        through = {"database_url": SecretStr(url), "temporal_address": address, "webhook_secret": SecretStr(SECRET)}
        return settings.model_copy(update=through)


@pytest.fixture
async def ways(settings: Settings) -> AsyncIterator[Ways]:
    ways = Ways(settings)
    for link in (ways.postgres, ways.temporal):
        await link.open()
    yield ways
    for link in (ways.postgres, ways.temporal):
        await link.close()


@pytest.fixture
async def market(settings: Settings, run_worker: RunWorker, ways: Ways) -> AsyncIterator[Market]:
    async with run_worker(), await Shop.connect(ways.through(settings)) as shop:
        yield Market(shop, ways.url)


def test_every_verb_of_the_shop_is_tried() -> None:
    verbs = {verb for verb, _ in inspect.getmembers(Shop, inspect.isfunction) if not verb.startswith("_")}
    assert verbs == TEMPORAL.keys() | POSTGRES.keys()


async def outcomes(calls: Sequence[Coroutine[Any, Any, Any]]) -> list[object]:
    async with asyncio.timeout(100):
        return list(await asyncio.gather(*calls, return_exceptions=True))


async def test_given_temporal_dies_when_the_shop_is_used_then_each_verb_says_so_and_what_is_not_known(
    market: Market, ways: Ways
) -> None:
    # given
    sku = await market.product()
    order = await market.place(card(), [Line(sku=sku, quantity=1)])
    await order.result()
    await market.shop.status(order.order_id)
    # when
    ways.temporal.refuse()
    found = await outcomes([call(market.shop, order, sku) for call in TEMPORAL.values()])
    # then
    for verb, error in zip(TEMPORAL, found, strict=True):
        if isinstance(error, NoAnswer):  # the last attempt of an update was broken off: gRPC tells it as a time-out
            assert "ask again" in str(error) or "tell it again" in str(error)
            continue
        assert isinstance(error, Unavailable), (verb, error)
        assert error.server == "Temporal"
        assert f"Temporal at 127.0.0.1:{ways.temporal.port} does not answer" in str(error)
        asking = verb in ("result", "refund_result")
        assert error.maybe_done is not asking
        assert ("It is not known" in str(error)) is not asking
        assert "Nothing" not in str(error), "of a command nobody knows"
    assert {Unavailable} <= {type(error) for error in found} <= {Unavailable, NoAnswer}
    # and: it comes back
    ways.temporal.restore()
    assert (await market.shop.result(order.order_id)).status == "completed"


async def test_given_postgres_dies_when_the_shop_is_used_then_each_verb_says_so_without_the_password(
    market: Market, ways: Ways
) -> None:
    order = await market.place(card())
    await order.result()
    password = conninfo_to_dict(ways.url)["password"]
    ways.postgres.refuse()
    found = await outcomes([call(market.shop, order, "TEA") for call in POSTGRES.values()])
    for verb, error in zip(POSTGRES, found, strict=True):
        assert isinstance(error, Unavailable), (verb, error)
        assert (error.server, error.maybe_done) == ("PostgreSQL", False)
        assert f"PostgreSQL at 127.0.0.1:{ways.postgres.port}/" in str(error)
        assert str(password) not in str(error)
        assert "\n" not in str(error)
    ways.postgres.restore()
    assert (await market.shop.status(order.order_id)).status == "completed"


async def test_given_the_connection_lost_after_a_command_was_sent_when_told_then_not_as_if_nothing_was_stored(
    market: Market, ways: Ways
) -> None:
    # given: no answer of Temporal arrives any more, while requests do
    request_id = name("goods")
    ways.temporal.lose_answers((b"",), 1 << 30)
    # when
    with pytest.raises(Unavailable) as lost:
        await market.shop.execute(GOODS, request_id=request_id)
    # then
    assert lost.value.maybe_done
    assert f"ask again with the request id {request_id!r}" in str(lost.value)
    # and: asked again, it is done, and once
    ways.temporal.restore()
    receipt = await market.shop.execute(GOODS, request_id=request_id)
    assert receipt.position is not None
    assert await fetch(ways.url, "select count(*) from amends.events where name = 'stock.received'") == [(1,)]


async def test_given_nobody_listens_when_the_shop_is_asked_then_it_says_so(settings: Settings) -> None:
    address = {"database_url": SecretStr(f"postgresql://ann:secret@127.0.0.1:{free_port()}/shop")}
    async with await Shop.connect(settings.model_copy(update=address)) as shop:
        with pytest.raises(Unavailable, match=r"PostgreSQL at 127\.0\.0\.1:[0-9]+/shop does not answer: ") as refused:
            await shop.query(order_history.order("o1"))
    assert "secret" not in str(refused.value)


COMMANDS = [
    ["saga", "list"],
    ["saga", "show", "order-1"],
    ["saga", "retry", "order-1", "--actor", "ann", "--reason", "test"],
    ["saga", "cancel", "order-1", "--actor", "ann", "--reason", "test"],
    ["saga", "sweep"],
    ["views", "list"],
    ["views", "status"],
    ["views", "pause", "order_history", "--actor", "ann", "--reason", "test"],
    ["views", "rebuild", "order_history", "--actor", "ann", "--reason", "test"],
    ["views", "rollback", "order_history", "--actor", "ann", "--reason", "test"],
    ["views", "check"],
    ["views", "dead-letters", "list"],
    ["show", "order-1"],
    ["trace", "order-1"],
    ["versions"],
    ["deploy", "b1"],
    ["migrate"],
    ["export", "-"],
    ["sql", "check", "tests/golden/views.json"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_given_nobody_listens_when_a_command_is_typed_then_a_sentence_says_so(
    command: list[str], settings: Settings
) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    url = SecretStr(f"postgresql://ann:secret@{nowhere}/shop")
    done = await amends(
        *command, settings=settings.model_copy(update={"database_url": url, "temporal_address": nowhere})
    )
    assert done.exit_code in (1, 2), done.exception
    assert isinstance(done.exception, SystemExit), done.exception
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
    assert nowhere.rpartition(":")[2] in done.stderr
