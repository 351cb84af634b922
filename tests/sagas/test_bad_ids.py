"""Ids that can't be any: each verb of the shop says so by the argument's name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from amends.errors import InvalidInput
from amends.records import START
from amends.settings import Settings
from client import Shop

IDS: list[Any] = ["", "a\x00b", "\ud800", "a b", "x" * 65, "x" * 100_000, 5, None]

Call = Callable[[Shop, Any], Coroutine[Any, Any, Any]]

VERBS: dict[str, Call] = {
    "result": lambda shop, id: shop.result(id),
    "cancel": lambda shop, id: shop.cancel(id),
    "refund_order": lambda shop, id: shop.refund_order(id),
    "refund_result": lambda shop, id: shop.refund_result(id),
    "payment_settled": lambda shop, id: shop.payment_settled(id),
    "delivery_arrived": lambda shop, id: shop.delivery_arrived(id, 1),
}


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with await Shop.connect(settings) as shop:
        yield shop


@pytest.mark.parametrize("verb", VERBS)
async def test_given_an_id_that_none_can_have_when_the_shop_is_asked_then_the_error_names_it(
    shop: Shop, verb: str
) -> None:
    for id in IDS:
        with pytest.raises(InvalidInput) as refused:
            await VERBS[verb](shop, id)
        assert set(refused.value.problems) <= {"order_id", "refund_id", "replenishment_id"}, id


@pytest.mark.parametrize("id", ["a\x00b", "\ud800", 5])
async def test_given_an_id_that_can_not_be_told_to_the_database_when_watched_then_the_error_names_it(
    shop: Shop, id: Any
) -> None:
    for asked in (shop.status(id), anext(shop.watch(id, START))):
        with pytest.raises(InvalidInput, match="order_id: "):
            await asked
