"""The story of a year of the shop, the same each time it is told: command after command, each with what it led to."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import heappop, heappush
from itertools import count

from amends import Command, Event, Money, Refused
from bench.rebuild import shopkeeping
from bench.rebuild.orders import DAY, KINDS, Basket, Tale
from bench.rebuild.world import World
from domain.stock import StockRanLow
from domain.values import PricedLine

__all__ = ["Story", "Told"]

YEAR = 365 * DAY
"""What is told takes this long, however many events it has."""

EVENTS_OF_AN_ORDER = 7.5
"""Hardly fewer, those of the products and customers around it included; so the year is over before `until`."""

PIECES_OF_AN_ORDER = 3
"""About so many."""

STEP = 0.2
"""Seconds between two commands of a tale, without its waits."""

SHARED = ("product-", "stock-", "customer-")
"""Streams that outlive the tale that began them begin like this."""

CURRENCIES = ("EUR", "EUR", "EUR", "USD", "GBP")
"""Of one product after the other."""


@dataclass(frozen=True, slots=True)
class Told:
    """A command and what it led to.

    Args:
        at: when.
        number: of the command, from 1.
        about: what it belongs to: the correlation id.
        command: as it was sent.
        stream: where its events go.
        version: of the stream after them.
        events: at least one.
    """

    at: datetime
    number: int
    about: str
    command: Command
    stream: str
    version: int
    events: list[Event]


@dataclass(slots=True)
class _Running:
    about: str
    tale: Tale
    streams: set[str] = field(default_factory=set)


class Story:
    """A year of the shop.

    Args:
        world: decides.
        events: that the year is to have, about; it goes on after them.
        until: when the year ends.
    """

    def __init__(self, world: World, events: int, until: datetime) -> None:
        self._world, self._dice = world, random.Random(events)
        self._begin = until - timedelta(seconds=YEAR)
        self._interval = YEAR / max(1.0, events / EVENTS_OF_AN_ORDER)
        self._running: list[tuple[float, int, _Running]] = []
        self._numbers, self._told = count(1), count(1)
        self._orders, self._customers, self._products, self._replenishments = 0, 0, 0, 0
        self._prices: dict[str, dict[str, int]] = {}
        wares = max(20, min(400, events // 2500))
        demand = DAY / self._interval * PIECES_OF_AN_ORDER / wares
        self._reorder_at, self._quantity = int(20 * demand) + 20, int(60 * demand) + 80
        for _ in range(wares):
            self._add_product(0.0)
        for _ in range(max(20, wares)):
            self._add_customer(0.0)

    def __iter__(self) -> Iterator[Told]:
        """What happens, without end."""
        order_at = 1.0
        while True:
            if not self._running or order_at <= self._running[0][0]:
                self._order(order_at)
                order_at += self._interval
                continue
            now, _, running = heappop(self._running)
            yield from self._go_on(now, running)

    def _go_on(self, now: float, running: _Running) -> Iterator[Told]:
        """Tell a tale up to its next wait, or to its end."""
        answer: list[Event] | Refused | None = None
        while True:
            try:
                said = running.tale.send(answer) if answer is not None else next(running.tale)
            except StopIteration:
                self._world.forget(stream for stream in running.streams if not stream.startswith(SHARED))
                return
            if isinstance(said, float):
                heappush(self._running, (now + said, next(self._numbers), running))
                return
            try:
                stream, version, answer = self._world.decide(said)
            except Refused as refused:
                answer = refused
                continue
            running.streams.add(stream)
            if answer:
                yield Told(self._moment(now), next(self._told), running.about, said, stream, version, answer)
                now += STEP
                for event in answer:
                    if isinstance(event, StockRanLow):
                        self._replenish(now, event)

    def _moment(self, seconds: float) -> datetime:
        return self._begin + timedelta(seconds=seconds)

    def _start(self, at: float, about: str, tale: Tale) -> None:
        heappush(self._running, (at, next(self._numbers), _Running(about, tale)))

    def _order(self, at: float) -> None:
        """The next order, and what happens around it."""
        self._orders += 1
        number, dice, moment = self._orders, self._dice, self._moment(at)
        if number % 9 == 0:
            self._add_customer(at - STEP)
        customer = f"c-{dice.randint(1, self._customers)}"
        if number % 4 == 1:
            self._start(at - STEP, customer, shopkeeping.logged_in(customer, moment))
        if number % 45 == 7:
            self._start(at, customer, shopkeeping.moved(customer, number))
        if number % 200 == 150:
            self._start(at, customer, shopkeeping.forgotten(customer, moment))
        currency = dice.choice([currency for currency, prices in self._prices.items() if prices])
        prices = self._prices[currency]
        if number % 30 == 11:
            self._reprice(at, currency)
        if number % 160 == 80:
            self._add_product(at)
            if len(prices) > 2:
                sku = dice.choice(list(prices))
                del prices[sku]
                self._start(at, sku, shopkeeping.gone(sku))
        known, wanted = list(prices), 1 + (number % 5 > 2) + (number % 7 > 4)
        # the first of the list are bought most
        skus = {known[int(len(known) * dice.random() ** 1.4)] for _ in range(wanted)}
        lines = tuple(
            PricedLine(sku=sku, quantity=dice.randint(1, 3), unit_price=Money(amount=prices[sku], currency=currency))
            for sku in sorted(skus)
        )
        basket = Basket(number, customer, lines, moment)
        self._start(at, basket.id, KINDS[number % len(KINDS)](basket))

    def _add_customer(self, at: float) -> None:
        self._customers += 1
        since = self._moment(at) - timedelta(days=self._customers) if self._customers % 6 == 0 else None
        self._start(max(at, 0.0), f"c-{self._customers}", shopkeeping.joined(self._customers, since))

    def _add_product(self, at: float) -> None:
        self._products += 1
        sku, currency = f"SKU-{self._products}", CURRENCIES[self._products % len(CURRENCIES)]
        price = self._dice.randint(199, 9999)
        self._prices.setdefault(currency, {})[sku] = price
        priced = Money(amount=price, currency=currency)
        tale = shopkeeping.on_sale(sku, self._products, priced, self._reorder_at, self._quantity)
        self._start(at, sku, tale)

    def _reprice(self, at: float, currency: str) -> None:
        sku = self._dice.choice(list(self._prices[currency]))
        price = self._prices[currency][sku] = self._dice.randint(199, 9999)
        self._start(at, sku, shopkeeping.repriced(sku, Money(amount=price, currency=currency)))

    def _replenish(self, at: float, low: StockRanLow) -> None:
        self._replenishments += 1
        tale = shopkeeping.replenished(low.sku, self._replenishments, low.quantity)
        self._start(at, f"n-{self._replenishments}", tale)
