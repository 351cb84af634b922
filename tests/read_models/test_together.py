"""All views together, after real orders in all their endings: what they tell is what the domain's own states tell."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from activities import sandbox_gateway
from amends import Money, Recorded
from amends.database import open_pool
from amends.embedded import EmbeddedTemporal
from amends.feed import Feed
from amends.paging import Page
from amends.query import Query
from amends.records import START
from app import app
from domain.customer import Customer, CustomerRegistered, RecordLogin, RegisterCustomer
from domain.order import Order, OrderCompleted, OrderPlaced, ReturnCompleted
from domain.payment import Payment, PaymentRefunded
from domain.product import AddProduct, ChangePrice, DiscontinueProduct
from domain.stock import LapseStock, ReceiveStock, ReserveStock, StockCommitted, StockItem
from domain.values import Line
from read_models.customer_orders import orders_of_customer
from read_models.customer_profile import profile_page
from read_models.daily_registrations import daily_registrations
from read_models.daily_revenue import revenue_by_day
from read_models.inventory_levels import level_page
from read_models.inventory_movements import inventory_movements
from read_models.inventory_report import report
from read_models.order_history import order_page, timeline_page
from read_models.payments_ledger import ledger_page
from read_models.product_catalog import product_page
from read_models.sales_by_product import sales_of_products
from tests.sagas.shopping import card, name, transfer
from tests.sagas.till import Till, open_till
from workflows import payment
from workflows.payment import PaymentMethod

ENDINGS = [
    ("cancelled", "OutOfStock", 1),
    ("cancelled", "PaymentDeclined", 3),
    ("cancelled", "ReservationLapsed", 1),
    ("completed", None, 4),
    ("refunded", None, 2),
]
"""How the orders of `Business.day` end: status, reason, how many."""


@pytest.fixture
async def till(
    postgres_url: str,
    template: str,
    temporal: EmbeddedTemporal,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Till]:
    """A shop of this test, at a provider who settles soon."""
    monkeypatch.setattr(sandbox_gateway, "SETTLING_SECONDS", 0.2)
    monkeypatch.setattr(payment, "FIRST_LOOK", timedelta(seconds=0.3))
    async with open_till(app, postgres_url, template, temporal, tmp_path / "amends") as till:
        yield till


@dataclass
class Truth:
    """What the log says, by the domain's own states and events; the days are those of UTC."""

    facts: list[Recorded] = field(default_factory=list)
    states: dict[str, Any] = field(default_factory=dict)

    @classmethod
    async def of(cls, url: str) -> Truth:
        truth, kinds = cls(), {each.category: each for each in (Order, Payment, StockItem, Customer)}
        async with open_pool(url, "projector", 1) as pool:
            for row in await Feed(pool).read(START, 100_000):
                kind = kinds.get(row.stream.partition("-")[0])
                if kind is not None:
                    fact = row.recorded()
                    truth.facts.append(fact)
                    truth.states[row.stream] = truth.states.get(row.stream, kind()).evolve(fact.event)
        return truth

    def state(self, kind: type[Any], key: str) -> Any:
        return self.states[kind.stream(key)]

    def of_kind(self, event: type[Any]) -> list[tuple[Any, date]]:
        return [
            (fact.event, fact.recorded_at.astimezone(UTC).date())
            for fact in self.facts
            if isinstance(fact.event, event)
        ]


async def everything(till: Till, ask: Callable[..., Query[Page[Any]]], **filters: Any) -> list[Any]:
    """All rows of a page function, in small pages."""
    rows: list[Any] = []
    after = None
    while not rows or after is not None:
        page = await till.shop.query(ask(limit=3, after=after, **filters))
        rows, after = rows + page.items, page.next
        if not page.items:
            break
    return rows


@dataclass
class Business:
    """What is done to the shop: two customers, products in two currencies."""

    till: Till
    ada: str
    bob: str
    tea: str
    cup: str
    book: str

    @classmethod
    async def opened(cls, till: Till) -> Business:
        names = [name(kind) for kind in ("ada", "bob", "tea", "cup", "book")]
        ada, bob, tea, cup, book = names
        execute = till.shop.execute
        for customer in (ada, bob):
            await execute(RegisterCustomer(customer_id=customer, name="Somebody", email=f"{customer}@example.org"))
        await execute(RecordLogin(customer_id=ada, at=datetime(2026, 5, 1, tzinfo=UTC)))
        for sku, price, currency in ((tea, 450, "EUR"), (cup, 1250, "EUR"), (book, 1695, "USD")):
            await execute(AddProduct(sku=sku, name=f"The {sku}", price=Money(amount=price, currency=currency)))
            await execute(ReceiveStock(sku=sku, quantity=50))
        return cls(till, *names)

    async def order(self, customer: str, method: PaymentMethod, **pieces: int) -> str:
        """Place an order, and wait for its end."""
        placed = await self.placed(customer, method, **pieces)
        await self.till.shop.result(placed)
        return placed

    async def placed(self, customer: str, method: PaymentMethod, **pieces: int) -> str:
        lines = [Line(sku=getattr(self, product), quantity=quantity) for product, quantity in pieces.items()]
        return (await self.till.shop.place_order(customer, lines, method)).order_id

    async def back(self, order_id: str, **pieces: int) -> None:
        """Bring goods back; all of them when none are named."""
        lines = [Line(sku=getattr(self, product), quantity=quantity) for product, quantity in pieces.items()]
        await (await self.till.shop.refund_order(order_id, lines or None)).result()

    async def late(self, customer: str) -> None:
        """A transfer that comes when the goods held for it are gone."""
        order_id = await self.placed(customer, transfer("tok_transfer_never"), tea=2)
        await self.till.waiting(await self.till.taker(order_id))
        await self.till.shop.execute(LapseStock(sku=self.tea, reservation_id=order_id))
        await self.till.gateway.settle(order_id)
        await self.till.webhook(order_id)
        await self.till.shop.result(order_id)

    async def day(self) -> None:
        """All that can happen."""
        ada, bob, shop = self.ada, self.bob, self.till.shop
        await self.order(ada, card(), tea=2, cup=1)
        await self.order(ada, card(mode="authorise"), book=2)
        await self.order(bob, transfer(), tea=5)
        await shop.execute(ChangePrice(sku=self.tea, price=Money(amount=500, currency="EUR")))
        await self.order(ada, card("tok_declined"), tea=1)
        await self.order(bob, card("tok_capture_declined", "authorise"), cup=1)
        await self.order(ada, card(), tea=999)  # paid, then out of stock: given back
        await self.order(bob, transfer("tok_transfer_fails"), book=1)
        await self.late(bob)
        part = await self.order(ada, card(), tea=3, cup=2)
        await self.back(part, tea=1, cup=1)
        whole = await self.order(bob, card(), book=1)
        await self.back(whole)
        bits = await self.order(bob, card(), tea=2)
        await self.back(bits, tea=1)
        await self.back(bits)
        lapsed = ReserveStock(sku=self.cup, reservation_id=name("walk-in"), quantity=4, hold=3600)
        await shop.execute(lapsed)
        await shop.execute(LapseStock(sku=self.cup, reservation_id=lapsed.reservation_id))
        await shop.execute(DiscontinueProduct(sku=self.book))


async def test_given_real_orders_in_all_their_endings_when_all_is_over_then_every_view_tells_what_the_domain_tells(
    till: Till,
) -> None:
    # given, when
    business = await Business.opened(till)
    await business.day()
    await till.shop.require(await till.shop.client.reader.head())
    truth = await Truth.of(till.url)
    feed = [fact.position.number for fact in truth.facts]

    # then: orders, how each ended, and what happened to it
    orders = await everything(till, order_page)
    endings = Counter((order.status, order.reason) for order in orders)
    assert sorted(((*ending, count) for ending, count in endings.items()), key=str) == ENDINGS
    assert {order.order_id for order in orders} == {event.order_id for event, _ in truth.of_kind(OrderPlaced)}
    for order in orders:
        state, paid = truth.state(Order, order.order_id), truth.state(Payment, order.order_id)
        assert state.status == ("completed" if order.status == "refunded" else order.status)
        assert (order.paid, order.refunded) == (paid.taken, paid.refunded)
        assert order.returned == sum(
            event.amount.amount for event, _ in truth.of_kind(ReturnCompleted) if event.order_id == order.order_id
        )
        happened = await everything(till, lambda **page: timeline_page(order.order_id, **page))  # noqa: B023
        assert happened[0].event == "order.placed"
        assert {row.event for row in happened} >= {"payment.requested", f"order.{state.status}"}
        assert [row.position for row in happened] == sorted((row.position for row in happened), key=feed.index)

    # and: the ledger, movement by movement, agrees with orders, payments and the provider's own books
    ledger = await everything(till, ledger_page)
    amounts: defaultdict[str, list[int]] = defaultdict(list)
    for move in ledger:
        amounts[move.order_id].append(move.amount)
    for order in orders:
        moved = amounts.pop(order.order_id)
        assert (sum(a for a in moved if a > 0), -sum(a for a in moved if a < 0)) == (order.paid, order.refunded)
    assert not amounts
    for currency in ("EUR", "USD"):
        totals = await till.gateway.totals(currency)
        moved = [move.amount for move in ledger if move.currency == currency]
        assert sum(moved) == totals.taken.amount - totals.refunded.amount
    assert {move.kind for move in ledger} == {"authorised", "processed", "refunded", "failed"}
    assert {move.method for move in ledger} == {"card", "transfer"}

    # and: revenue by day is that of completed orders, less what went back for them
    sold = {event.order_id: day for event, day in truth.of_kind(OrderCompleted)}
    expected: Counter[tuple[date, str, str]] = Counter()
    for event, _ in truth.of_kind(OrderPlaced):
        if event.order_id in sold:
            expected[sold[event.order_id], event.total.currency, "revenue"] += event.total.amount
            expected[sold[event.order_id], event.total.currency, "orders"] += 1
    for event, day in truth.of_kind(PaymentRefunded):
        if event.order_id in sold:
            expected[day, event.amount.currency, "refunds"] += event.amount.amount
    revenues = await everything(till, revenue_by_day)
    figures = [(r, name, getattr(r, name)) for r in revenues for name in ("orders", "revenue", "refunds")]
    assert {(row.day, row.currency, name): value for row, name, value in figures if value} == expected
    for currency in ("EUR", "USD"):
        totals = await till.gateway.totals(currency)
        net = sum(row.net for row in revenues if row.currency == currency)
        assert net == totals.taken.amount - totals.refunded.amount

    # and: sales by product add up to the same, and their pieces are those that left
    sales = await everything(till, sales_of_products)
    for currency in ("EUR", "USD"):
        rows, days = [r for r in sales if r.currency == currency], [r for r in revenues if r.currency == currency]
        assert sum(r.revenue for r in rows) == sum(r.revenue for r in days) > 0
        assert sum(r.returned_amount for r in rows) == sum(r.refunds for r in days) > 0
    units, back = Counter[str](), Counter[str]()
    for row in sales:
        units[row.sku] += row.units
        back[row.sku] += row.returned_units

    # and: stock, by levels, movements, report and catalogue, is what lies on the shelf
    levels = {row.sku: row for row in await everything(till, level_page)}
    moves = await everything(till, inventory_movements)
    reported = {row.sku: row for row in await everything(till, report)}
    catalogue = {row.sku: row for row in await everything(till, product_page)}
    assert levels.keys() == reported.keys() == catalogue.keys() == {business.tea, business.cup, business.book}
    left = Counter[str]()
    for event, _ in truth.of_kind(StockCommitted):
        left[event.sku] += event.quantity
    for sku, level in levels.items():
        item, own = truth.state(StockItem, sku), [move for move in moves if move.sku == sku]
        assert (level.on_hand, level.reserved, level.available) == (item.on_hand, item.reserved, item.available)
        assert (sum(m.on_hand for m in own), sum(m.reserved for m in own)) == (item.on_hand, item.reserved)
        assert catalogue[sku].available == reported[sku].available == item.available
        assert units[sku] == left[sku] == level.committed
        assert level.received == 50 + back[sku]
        assert float(reported[sku].days_of_cover) == pytest.approx(item.available * 28 / left[sku], abs=0.05)
    assert {move.kind for move in moves} == {"received", "reserved", "confirmed", "released", "lapsed", "committed"}
    assert [sku for sku, product in catalogue.items() if product.discontinued] == [business.book]

    # and: customers are told by what they have kept, which is what the shop has earned
    profiles = await everything(till, profile_page)
    spent: Counter[str] = Counter()
    for known in profiles:
        spent.update(known.total_spent)
        own = await everything(till, lambda **page: orders_of_customer(known.customer_id, **page))  # noqa: B023
        assert known.total_orders == sum(order.status in ("completed", "refunded") for order in own)
        assert known.last_login == truth.state(Customer, known.customer_id).last_login
    assert {known.customer_id for known in profiles} == {business.ada, business.bob}
    assert sum(known.total_orders for known in profiles) == len(sold) == 6
    assert spent == {
        currency: sum(row.net for row in revenues if row.currency == currency) for currency in ("EUR", "USD")
    }
    registrations = await everything(till, daily_registrations)
    assert sum(row.registrations for row in registrations) == len(truth.of_kind(CustomerRegistered)) == 2
