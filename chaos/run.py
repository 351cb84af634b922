"""One run: a shop is opened, the storm breaks over it, everything settles, the books are checked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from app import app
from chaos.arena import Arena
from chaos.client_book import ClientBook
from chaos.faults import Fault, make_faults
from chaos.injectors.disk import small_disk, unmount
from chaos.load import Clients
from chaos.oracles import check_leases, check_money, check_orders, check_runs, check_sagas, check_stock, check_views
from chaos.orders import make_errands, make_orders
from chaos.progress import Progress
from chaos.quiesce import ParkedSaga, leases, open_sagas, parked_sagas, quiesce
from chaos.reading import read_history, read_ledger, read_levels, read_runs, replayed, served
from chaos.storm import rage
from chaos.timeline import Timeline
from client import Shop

__all__ = ["Outcome", "Wanted", "run"]

ORACLES = {
    "money": "money moved once, as agreed, by the provider's ledger",
    "stock": "goods went out once, by the load's own count",
    "orders": "every accepted order can be seen, in the one state its client was told",
    "sagas": "every saga has an end, or waits for a person and says why",
    "runs": "every order's saga can be seen with the end it had",
    "leases": "what was held for a time has one lease, started by an event once",
    "views": "every view equals a fresh replay",
}
"""Oracle → what it vouches for."""


@dataclass(frozen=True)
class Wanted:
    """What to run.

    Args:
        seed: decides what goes wrong and what is ordered.
        minutes: how long the storm lasts.
        orders: how many are placed in it.
        settle_minutes: how long everything may take afterwards to come to its end.
        home: folder for data, logs and the timeline.
    """

    seed: int
    minutes: float
    orders: int
    settle_minutes: float
    home: Path


@dataclass
class Outcome:
    """How it went.

    Args:
        wanted: what was to be run.
        timeline: what was done to whom, when.
        broken: oracle → promises that did not hold.
        faults: planned.
        effective: how many of them took effect.
        book: of the clients.
        parked: sagas that wait for a person.
        settled: seconds from the storm's end until nothing was under way; None: it did not come to that.
        waiting: clients that had no answer then.
        seconds: all of the run.
    """

    wanted: Wanted
    timeline: Timeline
    broken: dict[str, list[str]] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    effective: int = 0
    book: ClientBook = field(default_factory=ClientBook)
    parked: list[ParkedSaga] = field(default_factory=list)
    settled: float | None = None
    waiting: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def held(self) -> bool:
        """Whether every promise held."""
        return not any(self.broken.values())


async def run(wanted: Wanted, progress: Progress) -> Outcome:
    """Do it.

    Args:
        wanted: what.
        progress: is shown to people.

    Raises:
        ServerFailed: a server did not start, or did not come back when its fault was over.
    """
    begun = monotonic()
    timeline = Timeline(wanted.home / "timeline.txt")
    timeline.watch = progress.entry
    outcome = Outcome(wanted, timeline)
    try:
        async with Arena(wanted.home, timeline) as arena, AsyncExitStack() as stack:
            await stack.enter_async_context(small_disk(arena))
            shop = await stack.enter_async_context(await Shop.connect(arena.settings, actor="chaos"))
            await _storm(wanted, arena, shop, outcome, progress)
            await _judge(arena, shop, outcome, progress)
            for oracle, promises in outcome.broken.items():
                for promise in promises:
                    timeline.note(f"BROKEN: {oracle}", promise)
    finally:
        unmount(wanted.home.resolve())
    outcome.seconds = monotonic() - begun
    return outcome


async def _storm(wanted: Wanted, arena: Arena, shop: Shop, outcome: Outcome, progress: Progress) -> None:
    """Load and faults at the same time, then quiet."""
    storm, settle = wanted.minutes * 60, wanted.settle_minutes * 60
    book, timeline = outcome.book, outcome.timeline
    clients = Clients(shop, arena.postgres.url, book, timeline, monotonic() + storm + settle)
    progress.doing("filling the shop")
    await clients.fill_the_shop(wanted.seed)
    outcome.faults = make_faults(wanted.seed, storm)
    orders = make_orders(wanted.seed, wanted.orders, storm)
    timeline.begin()
    progress.begin(len(orders), lambda: clients.ended)
    working = [asyncio.create_task(clients.order(plan)) for plan in orders]
    working.append(asyncio.create_task(clients.restock_and_price(make_errands(wanted.seed, storm))))
    supplying = asyncio.create_task(clients.supply())
    try:
        outcome.effective = await rage(arena, outcome.faults)
        await asyncio.sleep(max(0.0, storm - timeline.now))
        timeline.note("everything", "the storm is over")
        outcome.settled = await quiesce(arena, shop, lambda: clients.waiting(working[-1].done()), settle)
        how = "did not come to rest" if outcome.settled is None else f"at rest after {outcome.settled:.1f} s"
        timeline.note("everything", how)
        outcome.waiting = clients.waiting(working[-1].done())
    finally:
        for task in (*working, supplying):
            task.cancel()
        ends = await asyncio.gather(*working, supplying, return_exceptions=True)
    errands = ends[-2]
    if isinstance(errands, Exception):
        timeline.note("the shop's people", f"could not do their errands: {errands!r}")


async def _judge(arena: Arena, shop: Shop, outcome: Outcome, progress: Progress) -> None:
    """Ask every oracle."""
    progress.doing("checking the books")
    url, temporal = arena.postgres.url, shop.client.temporal
    ledger, history, levels = await read_ledger(url), await read_history(url), await read_levels(url)
    left = await open_sagas(temporal)
    outcome.parked = await parked_sagas(temporal, left)
    if outcome.settled is None:  # books of sagas that are under way can't balance
        still = check_sagas(left, outcome.parked) + [f"{who} has no answer" for who in outcome.waiting]
        outcome.broken["sagas"] = [f"nothing has come to rest in {outcome.wanted.settle_minutes:g} min", *still]
        return
    progress.doing("projecting the log anew")
    found: Mapping[str, list[str]] = {
        "money": check_money(outcome.book, ledger),
        "stock": check_stock(outcome.book, ledger, levels),
        "orders": check_orders(outcome.book, ledger, history),
        "sagas": check_sagas(left, outcome.parked),
        "runs": check_runs(outcome.book, ledger, await read_runs(url)),
        "leases": check_leases(outcome.book, await leases(temporal)),
        "views": check_views(await served(url, app), await replayed(url, app)),
    }
    outcome.broken.update(found)
