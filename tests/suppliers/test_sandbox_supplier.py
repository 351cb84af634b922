"""The pretend supplier: real books, honest keys, and every mishap it promises."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from psycopg import AsyncConnection

from activities.sandbox_supplier import LEAD_DAYS, LEAD_DAYS_CHASED, BookedOrder, SandboxSupplier, install
from activities.suppliers import AlreadyDelivered, NotSupplied, Promise, SupplierUnavailable, SupplyOrder
from amends import Context, InvalidInput
from amends.database import open_pool
from amends.schema import owner_engine


def key(id: str) -> Context:
    return Context(command_id=id, actor="test", correlation_id=id, causation_id=id)


def order(order_id: str = "o1", sku: str = "tea", quantity: int = 50) -> SupplyOrder:
    return SupplyOrder(order_id=order_id, sku=sku, quantity=quantity)


@pytest.fixture
async def supplier(database_url: str) -> AsyncIterator[SandboxSupplier]:
    with owner_engine(database_url).begin() as connection:
        install(connection)  # safe to repeat
    async with open_pool(database_url, "writer", 8) as pool:
        yield SandboxSupplier(pool)


def booked(status: str = "open", delivered: int = 0, chased: int = 0) -> BookedOrder:
    return BookedOrder("o1", "tea", 50, status, delivered, chased)


async def keys(url: str) -> int:
    async with await AsyncConnection.connect(url) as connection:
        row = await (await connection.execute(b"select count(*)::int from supplier.requests")).fetchone()
    assert row is not None
    return int(row[0])


async def test_an_order_is_taken_and_promised(supplier: SandboxSupplier) -> None:
    assert await supplier.order(order(), key("k1")) == Promise(days=LEAD_DAYS)
    assert await supplier.status("o1", key("k2")) == Promise(days=LEAD_DAYS)
    assert await supplier.orders_of(["tea"]) == [booked()]


async def test_what_was_never_ordered_has_no_status_and_is_not_chased(supplier: SandboxSupplier) -> None:
    assert await supplier.status("o1", key("k1")) is None
    with pytest.raises(NotSupplied):
        await supplier.chase("o1", key("k2"))


async def test_the_same_key_gets_the_same_answer_and_acts_once(supplier: SandboxSupplier) -> None:
    orders = await asyncio.gather(*(supplier.order(order(), key("k1")) for _ in range(5)))
    chases = await asyncio.gather(*(supplier.chase("o1", key("k2")) for _ in range(5)))
    assert orders == [Promise(days=LEAD_DAYS)] * 5
    assert chases == [Promise(days=LEAD_DAYS_CHASED)] * 5
    assert await supplier.orders_of(["tea"]) == [booked(chased=1)]


@pytest.mark.parametrize("other", [order("o2"), order(sku="salt"), order(quantity=51)])
async def test_the_same_key_for_another_request_is_an_error(supplier: SandboxSupplier, other: SupplyOrder) -> None:
    await supplier.order(order(), key("k1"))
    with pytest.raises(InvalidInput, match="key: stands for another request"):
        await supplier.order(other, key("k1"))
    with pytest.raises(InvalidInput, match="key"):
        await supplier.cancel("o1", key("k1"))
    assert await supplier.orders_of(["tea", "salt"]) == [booked()]


async def test_an_order_is_taken_once_whatever_its_key(supplier: SandboxSupplier) -> None:
    await supplier.order(order(), key("k1"))
    with pytest.raises(NotSupplied):
        await supplier.order(order(), key("k2"))


async def test_a_refused_product_is_not_booked_and_leaves_the_key_unused(
    supplier: SandboxSupplier, database_url: str
) -> None:
    await supplier.refuse("tea")
    with pytest.raises(NotSupplied) as refusal:
        await supplier.order(order(), key("k1"))
    assert refusal.value.facts == {"order_id": "o1", "sku": "tea"}
    assert (await supplier.orders_of(["tea"]), await keys(database_url)) == ([], 0)
    await supplier.refuse("tea", False)
    await supplier.order(order(), key("k1"))
    assert await supplier.orders_of(["tea"]) == [booked()]


async def test_an_answer_that_gets_lost_is_about_something_that_was_done(supplier: SandboxSupplier) -> None:
    await supplier.lose_answers("tea", 2)
    for _ in range(2):
        with pytest.raises(SupplierUnavailable):
            await supplier.order(order(), key("k1"))
        assert await supplier.orders_of(["tea"]) == [booked()]
    assert await supplier.order(order(), key("k1")) == Promise(days=LEAD_DAYS)
    assert await supplier.orders_of(["tea"]) == [booked()]


async def test_it_delivers_what_was_ordered_or_what_it_is_told_to_but_once(supplier: SandboxSupplier) -> None:
    await supplier.order(order(), key("k1"))
    await supplier.order(order("o2"), key("k2"))
    assert await supplier.deliver("o1") == 50
    assert await supplier.deliver("o2", 20) == 20
    assert [each.delivered for each in await supplier.orders_of(["tea"])] == [50, 20]
    with pytest.raises(NotSupplied):
        await supplier.deliver("o1")


async def test_a_cancelled_order_is_not_delivered_any_more(supplier: SandboxSupplier) -> None:
    await supplier.order(order(), key("k1"))
    await supplier.cancel("o1", key("k2"))
    await supplier.cancel("o1", key("k3"))
    assert await supplier.orders_of(["tea"]) == [booked("cancelled")]
    assert await supplier.status("o1", key("k4")) is None
    with pytest.raises(NotSupplied):
        await supplier.deliver("o1")
    with pytest.raises(NotSupplied):
        await supplier.chase("o1", key("k5"))


async def test_an_order_that_is_cancelled_before_it_comes_can_not_come_later(supplier: SandboxSupplier) -> None:
    await supplier.cancel("o1", key("k1"))
    with pytest.raises(NotSupplied):
        await supplier.order(order(), key("k2"))
    assert await supplier.status("o1", key("k3")) is None


async def test_what_was_delivered_is_not_cancelled(supplier: SandboxSupplier) -> None:
    await supplier.order(order(), key("k1"))
    await supplier.deliver("o1")
    with pytest.raises(AlreadyDelivered):
        await supplier.cancel("o1", key("k2"))
    assert await supplier.orders_of(["tea"]) == [booked("delivered", delivered=50)]
