"""A raised version is compared with what is served, row by row, where both stand at the same event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, Text

from amends.building import Builder
from amends.changes import Rows
from amends.database import Pool, open_pool
from amends.errors import NotServed
from amends.feed import Feed
from amends.installation import begin_build
from amends.messages import Event
from amends.projection import Projection
from amends.projector import Projector
from amends.rebuild_request import RebuildRequest, Rebuilt
from amends.rebuilding import rebuild
from amends.records import Recorded
from amends.schema import owner_engine
from tests.engine.readside_shop import append, connect, fetch, install, running

SHARES = "select holder, shares from views.verify_share order by holder"


class Bought(Event, name="verifying.bought"):
    holder: str
    shares: int
    price: int


def shares(
    version: int, *, since: int | None = None, factor: int = 1, cents: int = 1, dear: bool = False, **options: Any
) -> Projection:
    """Who holds how much, and what was paid: two tables, of which a version may change the one or the other."""
    projection = Projection("verify", version=version, **options)
    extra = [Column("dearest", BigInteger, comment="Highest price.")] if dear else []
    held = projection.table(
        "verify_share",
        Column("holder", Text, primary_key=True, comment="Who."),
        *extra,
        Column("shares", BigInteger, nullable=False, default=0, comment="How many."),
        comment="One row a holder.",
        since=since,
    )
    paid = projection.table(
        "verify_paid",
        Column("holder", Text, primary_key=True, comment="Who."),
        Column("paid", BigInteger, nullable=False, default=0, comment="In all."),
        comment="One row a holder.",
    )

    @projection.on(Bought, key="holder")
    def bought(event: Bought, fact: Recorded, rows: Rows) -> None:
        change = rows(held, event.holder).add(shares=factor * event.shares)
        if dear:
            change.greatest(dearest=event.price)
        rows(paid, event.holder).add(paid=cents * event.price)

    return projection


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, "projector", 6) as pool:
        yield pool


async def buy(url: str, times: int, *, prefix: str = "h") -> None:
    async with connect(url) as connection:
        for n in range(times):
            await append(connection, f"{prefix}{n}", 0, Bought(holder=f"{prefix}{n}", shares=n, price=n + 1))


async def follow(url: str, pool: Pool, projection: Projection) -> None:
    for partition in range(projection.partitions):
        await Projector(projection, pool, url, partition=partition).catch_up(await Feed(pool).head())


async def raised(url: str, projection: Projection, **options: Any) -> Rebuilt:
    request = RebuildRequest(
        name="verify", version=projection.version, actor="Grace", reason="a new version", auto=True, **options
    )
    return await rebuild(projection, url, request)


def told(done: Rebuilt) -> list[tuple[Any, ...]]:
    assert done.report is not None
    return [(each.table, each.same, each.compared, each.differing) for each in done.report.tables]


async def test_given_a_version_that_changes_one_table_when_raised_then_both_are_compared_and_it_is_swapped(
    database_url: str, pool: Pool
) -> None:
    install(database_url, shares(1))
    await buy(database_url, 20)
    await follow(database_url, pool, shares(1))
    # when
    done = await raised(database_url, shares(2, since=1, cents=100))
    # then: what is to be the same is, and what else has changed is told
    assert done.outcome == "swapped"
    assert told(done) == [
        ("verify_share", True, ["holder", "shares"], {}),
        ("verify_paid", False, ["holder", "paid"], {"different": 20}),
    ]
    assert done.report is not None
    assert done.report.tables[1].first == {"different": [["h0"], ["h1"], *([f"h1{n}"] for n in range(8))]}
    # and: it counts from the version that changed it last, however many have come since
    await raised(database_url, shares(3, since=1))
    done = await raised(database_url, shares(4, since=1))
    assert told(done)[0] == ("verify_share", True, ["holder", "shares"], {})


async def test_given_a_table_that_is_to_be_the_same_when_its_rows_differ_then_nothing_is_swapped_until_accepted(
    database_url: str, pool: Pool
) -> None:
    install(database_url, shares(1))
    await buy(database_url, 3)
    await follow(database_url, pool, shares(1))
    shown = await fetch(database_url, SHARES)
    # when: a mistake
    done = await raised(database_url, shares(2, since=1, factor=2))
    # then
    assert done.outcome == "differs"
    assert told(done)[0] == ("verify_share", True, ["holder", "shares"], {"different": 2})
    assert await fetch(database_url, SHARES) == shown
    # but: where the version says that it means another thing, or somebody accepts it
    assert (await raised(database_url, shares(2, since=1, factor=2), accept=True)).outcome == "swapped"
    done = await raised(database_url, shares(3, since=3))
    assert (done.outcome, told(done)[0]) == (
        "swapped",
        ("verify_share", False, ["holder", "shares"], {"different": 2}),
    )


async def test_given_a_column_more_when_raised_then_those_are_compared_that_both_have(
    database_url: str, pool: Pool
) -> None:
    install(database_url, shares(1))
    await buy(database_url, 3)
    await follow(database_url, pool, shares(1))
    done = await raised(database_url, shares(2, since=1, dear=True))
    assert (done.outcome, told(done)[0]) == ("swapped", ("verify_share", True, ["holder", "shares"], {}))


async def test_given_writers_when_a_version_is_raised_then_both_are_compared_at_the_same_event(
    database_url: str, pool: Pool
) -> None:
    install(database_url, shares(1))
    await buy(database_url, 50)
    over = asyncio.Event()

    async def write() -> int:
        rounds = 0
        while not over.is_set():
            rounds += 1
            await buy(database_url, 5, prefix=f"w{rounds}-")
        return rounds

    with suppress(NotServed):  # the old one ends with the swap, soon
        async with running(Projector(shares(1), pool, database_url, poll=0.01)):
            writing = asyncio.create_task(write())
            try:
                done = await raised(database_url, shares(2, since=1, cents=100))
            finally:
                over.set()
                rounds = await writing
    assert (done.outcome, told(done)[0]) == ("swapped", ("verify_share", True, ["holder", "shares"], {}))
    await follow(database_url, pool, shares(2))
    assert len(await fetch(database_url, SHARES)) == 50 + 5 * rounds


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (3, 3)])
async def test_given_a_view_that_nobody_follows_any_more_when_raised_then_compared_there_and_swapped_at_the_end(
    database_url: str, pool: Pool, before: int, after: int
) -> None:
    install(database_url, shares(1, partitions=before))
    await buy(database_url, 10)
    await follow(database_url, pool, shares(1, partitions=before))
    await buy(database_url, 10, prefix="later")
    # when
    done = await raised(database_url, shares(2, since=1, partitions=after))
    # then
    assert (done.outcome, done.events) == ("swapped", 20)
    assert done.report is not None
    assert [(each.old_rows, each.new_rows, each.compared) for each in done.report.tables] == [
        (10, 10, ["holder", "shares"]),
        (10, 10, ["holder", "paid"]),
    ]
    assert len(await fetch(database_url, SHARES)) == 20


async def test_given_a_build_that_is_ahead_of_what_is_served_when_compared_then_rows_are_only_counted(
    database_url: str, pool: Pool
) -> None:
    install(database_url, shares(1))
    await buy(database_url, 2)
    with owner_engine(database_url).begin() as connection:
        begin_build(connection, shares(2), "Grace", "a new version")
    await Builder(shares(2), pool, database_url).up_to(await Feed(pool).head())
    done = await raised(database_url, shares(2, since=1))
    assert done.report is not None
    assert [(each.old_rows, each.new_rows, each.compared) for each in done.report.tables] == [(0, 2, [])] * 2
    assert done.outcome == "swapped"


def test_given_a_version_that_is_none_of_the_projections_when_declared_then_told_so() -> None:
    for since in (0, 3):
        with pytest.raises(TypeError, match=r"since=.* is a version of the projection, from 1 to 2"):
            shares(2, since=since)
