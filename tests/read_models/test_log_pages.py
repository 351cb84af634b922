"""Pages of what happened, event by event: whoever walks them misses nothing that becomes visible behind the cursor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from amends import Event
from amends.database import open_pool
from amends.paging import Page
from amends.projection import Projection
from amends.projector import Projector
from amends.query import Query
from amends.reader import Reader
from domain.payment import PaymentAuthorised
from domain.stock import StockReceived
from read_models.inventory_movements import inventory_movements, movements
from read_models.order_history import history, timeline_page
from read_models.payments_ledger import ledger_page, payments
from tests.engine.readside_shop import append, connect
from tests.read_models.past import asked, eur

held = PaymentAuthorised(payment_id="o1", order_id="o1", amount=eur(900), provider_ref="au_1")
goods = StockReceived(sku="TEA", quantity=1)


class Log(NamedTuple):
    """A view of what happened, an event that makes a row of it, and how it is walked."""

    projection: Projection
    event: Event
    page: Callable[..., Query[Page[Any]]]


LOGS = {
    "timeline": Log(history, held, lambda **page: timeline_page("o1", event="payment.authorised", **page)),
    "ledger": Log(payments, held, ledger_page),
    "ledger of a payment": Log(payments, held, lambda **page: ledger_page(payment_id="o1", **page)),
    "movements": Log(movements, goods, inventory_movements),
    "movements of a product": Log(movements, goods, lambda **page: inventory_movements(sku="TEA", **page)),
}


@pytest.mark.parametrize("log", LOGS.values(), ids=LOGS.keys())
async def test_given_a_transaction_that_commits_late_when_its_rows_are_walked_then_those_of_another_are_not_missed(
    database_url: str, log: Log
) -> None:
    # given: a transaction that began first writes events before and after those of one that commits earlier
    async with connect(database_url) as quick, connect(database_url, autocommit=False) as slow:
        await append(quick, "payment", 0, asked("o1", eur(900)))
        before = await append(slow, "a", 0, log.event)
        between = await append(quick, "b", 0, log.event)
        after = [await append(slow, stream, 0, log.event) for stream in ("c", "d")]
        await slow.commit()
    in_feed = [before, *after, between]
    assert in_feed == sorted(in_feed)
    assert before.number < between.number < after[0].number
    # when: the feed has come to the end of the late one, and somebody walks along
    async with open_pool(database_url, "projector", 2) as pool, Reader(database_url, 1) as reader:
        projector = Projector(log.projection, pool, database_url, batch=1)
        await projector.catch_up(after[-1])
        first = await reader.query(log.page(limit=2))
        assert first.next is not None
        await projector.catch_up(between)
        second = await reader.query(log.page(after=first.next))
    # then: all of it, once, in the order of the feed
    assert second.next is None
    seen = [row.position for row in (*first.items, *second.items)]
    assert seen == [each.number for each in in_feed]
