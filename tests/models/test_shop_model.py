"""Whatever a web backend and an operator ask of the shop: it answers, sells and accounts as plain dictionaries would.

Real servers and a worker; between two steps everything comes to rest, and the views at the head of the log and the
payment provider's own books are compared with the model's. Two things wait meanwhile: transfers for their money, and
orders whose undoing is stuck for a person, because the provider is made to refuse to give money back.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, invariant, precondition, rule

from activities.sandbox_gateway import SandboxGateway
from amends import Money
from amends.database import Pool, open_pool
from amends.errors import AmendsError, CommandIdReused, InvalidInput, NotParked, SagaEnded
from amends.messages import Command
from amends.operator import Operator
from amends.repair import Repair, Resolve, Retry, Skip
from amends.settings import Settings
from client import OrderRefund, Shop, TooLate
from domain.customer import CustomerExists, EmailTaken, RegisterCustomer
from domain.order import OrderNotCompleted, TooManyReturned, UnknownOrder
from domain.product import AddProduct, ChangePrice, CurrencyFixed, ProductExists, UnknownProduct
from domain.stock import ReceiveStock
from domain.values import Line
from read_models import inventory_levels, order_history, product_catalog
from tests.conftest import RunWorker
from tests.models.machines import SHRINKING, LoopedMachine, run_machine
from tests.models.shop_books import CANCELLED, Books, Goods, Method, Order, Product
from tests.models.shop_books import Money as InBooks
from tests.models.stuck_shop import Jam, app_with
from tests.sagas.given import until
from workflows.payment import PaymentMethod

PROGRAMS, STEPS = 8, 12
"""How much is tried in the suite."""

LEDGER = "select payment_id, status, amount, refunded from gateway.charges where payment_id like %s"
EVENTS = "select count(*)::int from amends.events"
CHARGED = "select count(*)::int from gateway.charges where payment_id = %s"

PARKED = """
select (select count(*)::int from views.saga_repairs where saga_id = s.id and action = 'park'),
       (select count(*)::int from views.saga_steps
        where saga_id = s.id and kind = 'undo' and name = 'stock.release' and outcome = 'done')
from (values (%s)) as s (id)
"""
"""How often an order has been parked, and of how many products its pieces have gone back."""

WHO = {"actor": "Grace", "reason": "to see"}

OK, DECLINED, HELD = Method("card", "tok_ok"), Method("card", "tok_declined"), Method("card", "tok_ok", "authorise")
TRANSFER = Method("transfer", "tok_transfer_never")
"""It comes when a step says so."""

FEW = st.integers(1, 3)
PRICES = st.sampled_from((100, 250, 999))
METHODS = st.sampled_from((OK, OK, HELD, TRANSFER, TRANSFER, DECLINED))
WRONGS = 15
"""Things that can be asked in vain, whatever has happened."""

WHICH = st.integers(0, 3)
"""Of those that are there."""


def some(products: Bundle) -> st.SearchStrategy[Goods]:
    return st.dictionaries(products, FEW, min_size=1, max_size=2)


def euros(amount: int) -> Money:
    return Money(amount=amount, currency="EUR")


@dataclass
class Place:
    """A running shop, and ways to look at it from outside."""

    shop: Shop
    operator: Operator
    gateway: SandboxGateway
    pool: Pool
    jam: Jam
    seen: Tally[str] = field(default_factory=Tally)


class ShopMachine(LoopedMachine):
    """The shop's client and operator."""

    customers, products, orders = (Bundle(name) for name in ("customers", "products", "orders"))

    def __init__(self, loop: asyncio.AbstractEventLoop, place: Place) -> None:
        super().__init__(loop)
        self._place, self._shop, self._books = place, place.shop, Books()
        self._prefix, self._numbers = uuid4().hex[:8], count(1)  # other tests have the same Temporal server

    # Customers and products

    @initialize(target=orders, pieces=FEW, wanted=FEW, method=METHODS, stuck=st.booleans())
    def the_first_order(self, pieces: int, wanted: int, method: Method, stuck: bool) -> str:
        """Every program has one to go on with, whichever rules it may use."""
        return self._place_order(self._register(), {self._add_product(100, pieces): wanted}, method, stuck=stuck)

    @initialize(target=customers)
    def a_customer(self) -> str:
        return self._register()

    @initialize(target=products)
    def a_product(self) -> str:
        return self._add_product(250, 3)

    @rule(target=customers)
    def register(self) -> str:
        return self._register()

    @rule(target=products, price=PRICES, pieces=st.integers(0, 4))
    def add_product(self, price: int, pieces: int) -> str:
        return self._add_product(price, pieces)

    @rule(sku=products, quantity=FEW, price=PRICES)
    def restock(self, sku: str, quantity: int, price: int) -> None:
        """More comes in, at a new price, which orders that are placed do not see. Told twice it counts once."""
        id, command = self._new("receipt"), ReceiveStock(sku=sku, quantity=quantity)
        self._books.receive(sku, quantity)
        self._books.products[sku].price = price
        self._do(ChangePrice(sku=sku, price=euros(price)))
        assert self._do(command, id) == self._do(command, id)
        self._fails(CommandIdReused, self._shop.execute(ReceiveStock(sku=sku, quantity=quantity + 1), request_id=id))

    # Orders

    @rule(target=orders, customer=customers, goods=some(products), method=METHODS, stuck=st.booleans())
    def place(self, customer: str, goods: Goods, method: Method, stuck: bool) -> str:
        """An order; when it has to be undone, the provider may be stuck."""
        return self._place_order(customer, goods, method, stuck=stuck)

    @precondition(lambda self: self._all("waiting"))
    @rule(which=WHICH, money_comes=st.booleans(), stuck=st.booleans())
    def end_waiting(self, which: int, money_comes: bool, stuck: bool) -> None:
        """The money of a transfer comes, or the order is called off; told twice, that counts once."""
        id = self._one("waiting", which)
        order = self._books.orders[id]
        with self._jammed(stuck):
            if money_comes:
                self._books.settle(id)
                self.wait(self._settled(id))
            else:
                self._books.cancel(id, stuck=stuck)
                self.wait(self._shop.cancel(id))
                self.wait(self._at_rest(id, order))
                self.wait(self._shop.cancel(id))
        self._place.seen[f"ended waiting: {order.status}"] += 1

    @precondition(lambda self: self._all("parked"))
    @rule(which=WHICH, how=st.sampled_from(("retry", "skip", "resolve")), stuck=st.booleans())
    def repair(self, which: int, how: str, stuck: bool) -> None:
        """A person sees to what is parked; to try again is in vain while the provider is still stuck."""
        id = self._one("parked", which)
        with self._jammed(stuck):
            self._books.repair(id, by_itself=how == "retry", stuck=stuck)
            self.wait(self._place.operator.repair(f"order-{id}", _repair(how)))
            self.wait(self._at_rest(id, self._books.orders[id]))
        self._place.seen[f"{how}, {self._books.orders[id].status}"] += 1

    @precondition(lambda self: self._all("completed"))
    @rule(which=WHICH, part=st.one_of(st.none(), FEW), restock=st.booleans())
    def refund(self, which: int, part: int | None, restock: bool) -> None:
        """All that is left comes back, or some of each product, never more than that; and again."""
        refund_id, id = self._new("refund"), self._one("completed", which)
        order = self._books.orders[id]
        goods = None if part is None else dict.fromkeys(order.goods, part)
        taken = order.left if goods is None else goods
        asked = self._refund(refund_id, id, goods, restock=restock)
        if not order.left or any(quantity > order.left.get(sku, 0) for sku, quantity in taken.items()):
            self._fails(TooManyReturned, asked)
            return
        amount = self._books.take_back(id, taken, restock=restock)
        self.wait(self._refunded(asked, amount))
        self.wait(self._refunded(self._refund(refund_id, id, goods, restock=restock), amount))
        self._fails(CommandIdReused, self._refund(refund_id, id, goods, restock=not restock))

    # What is refused

    @rule(customer=customers, sku=products, which=st.integers(0, WRONGS - 1))
    def ask_what_is_wrong(self, customer: str, sku: str, which: int) -> None:
        """It is refused by a name of its own, and nothing changes."""
        shop, goods = self._shop, _lines({sku: 1})
        price, email = euros(self._books.products[sku].price), self._books.customers[customer]
        never = self._new("never")

        def place(who: str = customer, lines: list[Line] = goods, id: str = never) -> Coroutine[Any, Any, Any]:
            return shop.place_order(who, lines, _paid(OK), request_id=id)

        wrong: list[tuple[type[AmendsError], Callable[[], Awaitable[Any]]]] = [
            (InvalidInput, lambda: place(who=never)),
            (InvalidInput, lambda: place(lines=[])),
            (InvalidInput, lambda: place(lines=goods * 2)),
            (InvalidInput, lambda: place(lines=_lines({sku: 1, never: 1}))),
            (InvalidInput, lambda: place(lines=_lines({sku: 0}))),
            (InvalidInput, lambda: place(id="")),
            (InvalidInput, lambda: shop.execute(ReceiveStock(sku=sku, quantity=0))),
            (InvalidInput, lambda: shop.execute(ChangePrice(sku=sku, price=euros(0)))),
            (CurrencyFixed, lambda: shop.execute(ChangePrice(sku=sku, price=Money(amount=1, currency="USD")))),
            (UnknownProduct, lambda: shop.execute(ChangePrice(sku=never, price=price))),
            (ProductExists, lambda: shop.execute(AddProduct(sku=sku, name="Again", price=price))),
            (CustomerExists, lambda: shop.execute(RegisterCustomer(customer_id=customer, name="Eve", email="e@x.org"))),
            (EmailTaken, lambda: shop.execute(RegisterCustomer(customer_id=never, name="Eve", email=email))),
            (UnknownOrder, lambda: shop.cancel(never)),
            (UnknownOrder, lambda: shop.refund_order(never)),
        ]
        assert len(wrong) == WRONGS
        refusal, ask = wrong[which]
        self._fails(refusal, _asked(ask))
        self._place.seen["asked what is wrong"] += 1

    @rule(id=orders)
    def ask_again(self, id: str) -> None:
        """A repeat gets the order as it was placed, whatever has changed since; what can't be done to it is refused."""
        order, method = self._books.orders[id], _paid(self._books.orders[id].method)
        same, other = _lines(order.goods), _lines({sku: quantity + 1 for sku, quantity in order.goods.items()})
        again = self.wait(self._shop.place_order(order.customer, same, method, request_id=id))
        assert again.order_id == id
        self._fails(CommandIdReused, self._shop.place_order(order.customer, other, method, request_id=id))
        if order.status != "parked":  # and what is, is to be repaired
            ended = NotParked if order.status == "waiting" else SagaEnded
            self._fails(ended, self._place.operator.repair(f"order-{id}", _repair("skip")))
        if order.status != "waiting" and order.reason != CANCELLED:
            self._fails(TooLate, self._shop.cancel(id))
        too_many = {sku: quantity + 1 for sku, quantity in order.goods.items()}
        refusal = TooManyReturned if order.status == "completed" else OrderNotCompleted
        self._fails(refusal, self._refund(self._new("never"), id, too_many, restock=True))

    # What is true after each step

    @invariant()
    def views_and_books_are_as_in_the_model(self) -> None:
        levels, prices, orders, ledger = self.wait(self._looked_up())
        assert levels == {
            sku: (p.received, p.on_hand, p.reserved, p.committed, p.available)
            for sku, p in self._books.products.items()
        }
        assert prices == {sku: product.price for sku, product in self._books.products.items()}
        assert orders == {id: _shown(order) for id, order in self._books.orders.items()}
        assert ledger == {id: order.money for id, order in self._books.orders.items() if order.money is not None}

    # How

    def _register(self) -> str:
        id = self._new("customer")
        self._books.customers[id] = email = f"{id}@example.org"
        self._do(RegisterCustomer(customer_id=id, name="Ada", email=email))
        return id

    def _add_product(self, price: int, pieces: int) -> str:
        sku = self._new("sku")
        self._books.products[sku] = Product(price)
        commands: list[Command] = [AddProduct(sku=sku, name="A thing", price=euros(price))]
        if pieces:
            self._books.receive(sku, pieces)
            commands.append(ReceiveStock(sku=sku, quantity=pieces))
        self._do_all(commands)
        return sku

    def _place_order(self, customer: str, goods: Goods, method: Method, *, stuck: bool) -> str:
        id = self._new("order")
        order = self._books.place(id, customer, goods, method, stuck=stuck)
        with self._jammed(stuck):
            placed = self.wait(self._shop.place_order(customer, _lines(goods), _paid(method), request_id=id))
            assert placed.order_id == id
            self.wait(self._at_rest(id, order))
        self._place.seen[f"{order.status} {order.reason or method.token}"] += 1
        return id

    async def _looked_up(self) -> tuple[Any, ...]:
        """What can be seen of this program, no staler than now."""
        ask = self._shop.client.query
        freshness = await self._shop.at_least(await self._shop.client.reader.head())
        assert freshness.fresh, freshness
        skus, prefix = list(self._books.products), f"{self._prefix}-%"
        levels = {
            row.sku: (row.received, row.on_hand, row.reserved, row.committed, row.available)
            for row in await ask(inventory_levels.levels(skus))
        }
        prices = {row.sku: row.price for row in await ask(product_catalog.products(skus))}
        orders = {
            row.order_id: (
                row.status,
                row.reason,
                row.total,
                row.returned,
                {x["sku"]: x["quantity"] for x in row.lines},
            )
            for customer in self._books.customers
            for row in await ask(order_history.orders_of(customer))
        }
        never_stocked = dict.fromkeys(skus, (0, 0, 0, 0, 0))
        ledger = {id: InBooks(*money) for id, *money in await self._rows(LEDGER, prefix)}
        return never_stocked | levels, prices, orders, ledger

    @contextmanager
    def _jammed(self, stuck: bool) -> Iterator[None]:
        self._place.jam.on = stuck
        try:
            yield
        finally:
            self._place.jam.on = False

    def _all(self, status: str) -> list[str]:
        return [id for id, order in self._books.orders.items() if order.status == status]

    def _one(self, status: str, which: int) -> str:
        found = self._all(status)
        return found[which % len(found)]

    def _refund(
        self, refund_id: str, id: str, goods: Goods | None, *, restock: bool
    ) -> Coroutine[Any, Any, OrderRefund]:
        lines = None if goods is None else _lines(goods)
        return self._shop.refund_order(id, lines, request_id=refund_id, restock=restock)

    async def _at_rest(self, id: str, order: Order) -> None:
        """Wait until an order has come as far as it gets by itself."""
        match order.status:
            case "waiting":

                async def charged() -> bool:
                    return await self._rows(CHARGED, id) == [(1,)]

                await until(f"{id} waits for its money", charged)
            case "parked":

                async def parked() -> bool:
                    if await self._rows(PARKED, f"order-{id}") != [(order.parked, order.released)]:
                        return False
                    return len((await self._place.operator.view(f"order-{id}")).parked) == 1

                await until(f"{id} is parked, and all else is undone", parked)
            case _:
                await self._ended(id)

    async def _ended(self, id: str) -> None:
        outcome, order = await self._shop.result(id), self._books.orders[id]
        assert (outcome.status, outcome.reason) == (order.status, order.reason)

    async def _settled(self, id: str) -> None:
        await self._place.gateway.settle(id)
        await self._shop.payment_settled(id)
        await self._ended(id)

    async def _refunded(self, asked: Awaitable[OrderRefund], amount: int) -> None:
        refund = await asked
        outcome = await refund.result()
        assert (refund.amount, outcome.status, outcome.amount) == (euros(amount), "refunded", euros(amount))
        self._place.seen["refunded"] += 1

    async def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What the database says, asked past everything."""
        async with self._place.pool.connection() as connection:
            return await (await connection.execute(query.encode(), values)).fetchall()

    def _do(self, command: Command, request_id: str | None = None) -> Any:
        return self.wait(self._shop.execute(command, request_id=request_id))

    def _do_all(self, commands: list[Command]) -> None:
        async def all_at_once() -> None:
            await asyncio.gather(*map(self._shop.execute, commands))

        self.wait(all_at_once())

    def _fails(self, error: type[AmendsError], asked: Coroutine[Any, Any, Any]) -> None:
        """It is refused by this name, and not one event comes of it."""

        async def counted() -> None:
            before = await self._rows(EVENTS)
            with pytest.raises(AmendsError) as refusal:
                await asked
            assert type(refusal.value) is error, refusal.value
            assert await self._rows(EVENTS) == before

        self.wait(counted())
        self._place.seen[error.__name__] += 1

    def _new(self, what: str) -> str:
        return f"{self._prefix}-{what}-{next(self._numbers)}"


async def _asked(ask: Callable[[], Awaitable[Any]]) -> Any:
    return await ask()


def _lines(goods: Goods) -> list[Line]:
    return [Line(sku=sku, quantity=quantity) for sku, quantity in goods.items()]


def _paid(method: Method) -> PaymentMethod:
    return PaymentMethod(kind=method.kind, token=method.token, mode=method.mode)


def _repair(how: str) -> Repair:
    match how:
        case "retry":
            return Retry(**WHO)
        case "skip":
            return Skip(**WHO)
        case _:
            return Resolve(**WHO, done="given back by hand")


def _shown(order: Order) -> tuple[Any, ...]:
    """As `views.order_history` tells it: one that waits, for its money or a person, is placed."""
    status: str = order.status if order.status in ("completed", "cancelled") else "placed"
    status = "refunded" if order.returned and not order.left else status
    reason = order.reason if order.status == "cancelled" else None
    return status, reason, order.total, order.worth(order.returned), order.goods


@pytest.fixture
async def place(settings: Settings, run_worker: RunWorker, database_url: str) -> AsyncIterator[Place]:
    jam = Jam()
    async with (
        run_worker(app_with(jam)),
        await Shop.connect(settings, actor="web") as shop,
        open_pool(database_url, "writer", 1) as pool,
    ):
        operator = Operator(shop.client.temporal, settings.task_queue)
        yield Place(shop, operator, SandboxGateway(pool), pool, jam)


def everything(shop: ShopMachine) -> Iterator[None]:
    """A program in which each thing happens that can; pauses where what is true is to be looked at."""
    ann, cup, pot = shop.a_customer(), shop.a_product(), shop.add_product(price=999, pieces=4)
    paid = [shop.place(ann, {cup: 1, pot: 1}, method, stuck=False) for method in (OK, HELD)]
    yield
    for method, goods in ((DECLINED, {cup: 1}), (OK, {cup: 3, pot: 1}), (HELD, {cup: 3}), (TRANSFER, {pot: 9})):
        shop.ask_again(shop.place(ann, goods, method, stuck=False))
        yield
    shop.restock(cup, 3, 100)
    awaited = [shop.place(ann, {cup: 1}, TRANSFER, stuck=False) for _ in range(3)]
    shop.ask_again(awaited[0])
    yield
    shop.end_waiting(0, money_comes=True, stuck=False)
    shop.end_waiting(0, money_comes=False, stuck=False)
    shop.end_waiting(0, money_comes=False, stuck=True)
    yield
    for method, goods in ((DECLINED, {cup: 1}), (OK, {cup: 9, pot: 1}), (HELD, {cup: 9})):
        shop.ask_again(shop.place(ann, goods, method, stuck=True))
        yield
    for how, stuck in (("retry", True), ("retry", False), ("skip", False), ("resolve", True), ("retry", False)):
        shop.repair(0, how, stuck)
        yield
    shop.refund(0, 1, restock=True)
    shop.refund(0, None, restock=True)
    shop.refund(1, None, restock=False)
    shop.refund(2, 2, restock=True)
    yield
    for id in paid + awaited:
        shop.ask_again(id)
    for which in range(WRONGS):
        shop.ask_what_is_wrong(ann, cup, which)
    yield


async def test_given_everything_a_client_and_an_operator_can_ask_when_done_then_it_is_as_in_plain_books(
    place: Place,
) -> None:
    def one_program(loop: asyncio.AbstractEventLoop) -> None:
        shop = ShopMachine(loop, place)
        for _ in everything(shop):
            shop.views_and_books_are_as_in_the_model()

    await asyncio.to_thread(one_program, asyncio.get_running_loop())


@pytest.mark.timeout(SHRINKING)
async def test_given_anything_a_client_and_an_operator_ask_when_the_shop_has_done_it_then_it_is_as_in_plain_books(
    place: Place,
) -> None:
    await run_machine(lambda loop: ShopMachine(loop, place), programs=PROGRAMS, steps=STEPS)
    # then: what it is about has come up
    happened = " ".join(place.seen)
    for what in ("completed", "waiting", "parked", "refunded", "CommandIdReused", "TooLate", "asked what is wrong"):
        assert what in happened, place.seen
