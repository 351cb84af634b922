"""What a person should see to is kept, shown and sent, once and not at each retry."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from psycopg import AsyncConnection, sql

from amends.alerts import ALERTS
from amends.database import Pool, conninfo, open_pool
from amends.errors import Broken
from amends.feed import Feed
from amends.projection import Projection
from amends.projection_operator import open_operator
from amends.projector import Projector
from amends.rebuild_request import RebuildRequest
from amends.rebuilding import rebuild
from tests.engine.accounts import WHO, Noted, Paid, Parser, accounts, happens
from tests.engine.readside_shop import connect, fetch, install

LOG = """
select number, projection, reason, detail -> 'keys' from views.projection_log where action = 'alert' order by number
"""
PROBLEM = "select healthy, problem from views.projection_status where projection = 'accounts' and served"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, "projector", 6) as pool:
        yield pool


@pytest.fixture
async def pager(database_url: str) -> AsyncIterator[AsyncConnection[Any]]:
    """Somebody who listens, with no more rights than a reader."""
    async with connect(conninfo(database_url, "reader")) as connection:
        await connection.execute(sql.SQL("listen {}").format(sql.Identifier(ALERTS)))
        yield connection


async def heard(pager: AsyncConnection[Any]) -> list[tuple[str, str]]:
    """What has been sent since the last time."""
    await pager.execute("select 1")
    found = [json.loads(note.payload) async for note in pager.notifies(timeout=0)]
    kept = {number: (projection, reason) async for number, projection, reason, _ in await pager.execute(LOG.encode())}
    told = [(each["projection"], each["problem"]) for each in found]
    assert told == [kept[each["number"]] for each in found], "what is sent is kept"
    return told


async def test_given_an_event_that_fails_when_parked_and_retried_then_told_at_first_and_at_the_third_time_and_shown(
    database_url: str, pool: Pool, pager: AsyncConnection[Any]
) -> None:
    install(database_url, accounts())
    at = await happens(database_url, *(Noted(account=key, note="ü") for key in "ab"), Paid(account="a", amount=1))
    projector = Projector(accounts(Parser("ü")), pool, database_url)
    # when
    await projector.catch_up(at)
    # then
    assert await heard(pager) == [
        ("accounts", "letters.noted at 1 is parked, of key a and 1 more: see views.dead_letters")
    ]
    assert [keys for *_, keys in await fetch(database_url, LOG)] == [["a", "b"]]
    # and: an event that only waits is no news
    await projector.catch_up(await happens(database_url, Paid(account="a", amount=1)))
    assert await heard(pager) == []
    # when
    async with open_operator(database_url) as operator:
        told = []
        for _ in range(4):
            await operator.retry("accounts", "a", *WHO)
            await projector.redrive()
            told.append(await heard(pager))
    # then
    third = ("accounts", "letters.noted at 1, of key a, has failed 3 times: see views.dead_letters")
    assert told == [[], [third], [], []]
    # and: it can be seen for as long as it is so
    await fetch(database_url, "update amends.dead_letters set parked_at = '2026-11-25 16:20:30+00' returning 1")
    await fetch(database_url, "update amends.checkpoints set beat_at = clock_timestamp() returning 1")
    assert await fetch(database_url, PROBLEM) == [
        (
            False,
            "parked: 4 events of 2 keys, since 2026-11-25 16:20 UTC; the first: key a (letters.noted, attempts: 5), "
            "key b (letters.noted, attempts: 1); see views.dead_letters",
        )
    ]


async def stops(projection: Projection, pool: Pool, url: str) -> None:
    with suppress(Broken):
        await Projector(projection, pool, url).run(asyncio.Event(), lambda _: None)
        raise AssertionError("it went on")


async def test_given_a_projection_that_is_broken_when_it_stops_again_and_again_then_told_once_until_it_has_gone_on(
    database_url: str, pool: Pool, pager: AsyncConnection[Any]
) -> None:
    install(database_url, accounts())
    await happens(database_url, *(Noted(account=f"k{n}", note="ü") for n in range(10)))
    for _ in range(3):
        await stops(accounts(Parser("ü")), pool, database_url)
    [(_, problem)] = await heard(pager)
    assert problem.startswith("stopped: Broken: Projection 'accounts' fails for every 'letters.noted' of 10 keys")
    # when: mended, and broken another time
    await Projector(accounts(), pool, database_url).catch_up(await Feed(pool).head())
    await happens(database_url, *(Noted(account=f"k{n}", note="x") for n in range(10)))
    await stops(accounts(Parser("x")), pool, database_url)
    # then
    assert len(await heard(pager)) == 1


async def test_given_parked_keys_when_rebuilt_then_told_of_what_is_new_only(
    database_url: str, pool: Pool, pager: AsyncConnection[Any]
) -> None:
    install(database_url, accounts())
    at = await happens(database_url, Noted(account="a", note="ü"), Noted(account="b", note="x"))
    await Projector(accounts(Parser("ü")), pool, database_url).catch_up(at)
    assert len(await heard(pager)) == 1
    request = RebuildRequest(name="accounts", version=1, actor="Grace", reason="to see")
    # when: nothing is new
    assert (await rebuild(accounts(Parser("ü")), database_url, request)).outcome == "swapped"
    assert await heard(pager) == []
    # when
    assert (await rebuild(accounts(Parser("ü", "x")), database_url, request)).outcome == "differs"
    # then
    differs = "a build differs from what is served, and waits for somebody to look: amends views status"
    assert await heard(pager) == [("accounts", differs)]
