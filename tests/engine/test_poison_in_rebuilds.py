"""What is parked or skipped is so in the next build too, and says nothing of whether that one is broken."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from amends.building import Builder
from amends.database import Pool, open_pool
from amends.errors import Broken
from amends.feed import Feed
from amends.installation import begin_build
from amends.projection import Projection
from amends.projection_operator import open_operator
from amends.projector import Projector
from amends.rebuild_request import RebuildRequest
from amends.rebuilding import rebuild
from amends.schema import owner_engine
from amends.swapping import roll_back
from tests.engine.accounts import COUNTED, ROWS, WHO, Noted, Paid, Parser, accounts, happens
from tests.engine.readside_shop import fetch, install


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, "projector", 6) as pool:
        yield pool


def asked(version: int = 1, **options: Any) -> RebuildRequest:
    return RebuildRequest(name="accounts", version=version, actor="Grace", reason="to see", **options)


async def parked_one_by_one(url: str, pool: Pool, keys: int) -> None:
    """Each of some keys has a note that can't be read, and nobody reads one meanwhile."""
    install(url, accounts(Parser("ü")))
    at = await happens(url, *(Noted(account=f"k{n:03}", note="ü") for n in range(keys)))
    await Projector(accounts(Parser("ü")), pool, url, batch=1).catch_up(at)
    assert await fetch(url, COUNTED) == [(keys,)]


async def test_given_keys_parked_one_by_one_when_rebuilt_then_they_are_again_and_it_is_swapped(
    database_url: str, pool: Pool
) -> None:
    await parked_one_by_one(database_url, pool, 12)
    for version, generation in ((1, 2), (2, 1)):
        # when
        done = await rebuild(accounts(Parser("ü"), version=version), database_url, asked(version))
        # then
        assert (done.outcome, done.generation) == ("swapped", generation)
        assert await fetch(database_url, COUNTED) == [(12,)]


async def test_given_keys_parked_one_by_one_when_other_keys_fail_in_a_build_for_the_first_time_then_it_stops(
    database_url: str, pool: Pool
) -> None:
    await parked_one_by_one(database_url, pool, 12)
    at = await happens(database_url, *(Noted(account=f"other{n}", note="x") for n in range(10)))
    await Projector(accounts(Parser("ü")), pool, database_url).catch_up(at)
    # when
    with pytest.raises(Broken, match=r"every 'letters\.noted' of 10 keys.*can't read x"):
        await rebuild(accounts(Parser("ü", "x")), database_url, asked())
    # then
    assert await fetch(database_url, COUNTED) == [(12,), (0,)]
    state = "select state, problem from views.projection_status where projection = 'accounts' and not served"
    [(told, problem)] = await fetch(database_url, state)
    assert (told, problem.split(" Projection")[0]) == ("stopped", "stopped: Broken:")


async def test_given_as_many_keys_parked_as_can_be_when_one_more_fails_in_a_build_then_it_is_one_more(
    database_url: str, pool: Pool
) -> None:
    await parked_one_by_one(database_url, pool, 100)
    at = await happens(database_url, Noted(account="other", note="x"), Noted(account="another", note="y"))
    await Projector(accounts(Parser("ü")), pool, database_url).catch_up(at)
    # when
    done = await rebuild(accounts(Parser("ü", "x")), database_url, asked())
    # then
    assert done.outcome == "differs"
    assert done.report is not None
    assert len(done.report.newly_parked) == 1


async def test_given_an_event_the_database_refuses_for_many_keys_when_another_is_looked_for_then_all_of_it_is_judged(
    database_url: str, pool: Pool
) -> None:
    install(database_url, accounts())
    refused = [Paid(account=f"k{n}", amount=5000) for n in range(11)]
    at = await happens(database_url, *refused, *(Paid(account=f"fine{n}", amount=1) for n in range(9)))
    # when: it takes a look at the first ten alone to find the eleventh
    await Projector(accounts(), pool, database_url).catch_up(at)
    # then
    assert await fetch(database_url, COUNTED) == [(11,)]
    assert len(await fetch(database_url, ROWS)) == 9


async def test_given_parked_keys_when_rebuilt_then_those_that_only_the_new_one_has_are_a_difference(
    database_url: str, pool: Pool
) -> None:
    async def rebuilt(projection: Projection, **options: Any) -> Any:
        request = RebuildRequest(name="accounts", version=1, actor="Grace", reason="to see", **options)
        return await rebuild(projection, database_url, request)

    parser = Parser("ü")
    projection = accounts(parser)
    install(database_url, projection)
    await happens(database_url, Noted(account="a", note="ü"), Paid(account="b", amount=1))
    await Projector(projection, pool, database_url).catch_up(await Feed(pool).head())
    # when: both have the same
    done = await rebuilt(projection)
    assert done.outcome == "swapped"
    assert await fetch(database_url, COUNTED) == [(1,)]
    # when: a parked event of the build has nobody else parked it
    parser.unreadable = {"ü", "x"}
    await happens(database_url, Noted(account="b", note="x"))
    await Projector(accounts(Parser("ü")), pool, database_url).catch_up(await Feed(pool).head())
    done = await rebuilt(projection)
    # then
    assert done.outcome == "differs"
    assert len(done.report.newly_parked) == 1
    # when: retried, it is so for both builds
    async with open_operator(database_url) as operator:
        assert await operator.retry("accounts", "a", *WHO) == 2
    parser.unreadable = set()
    done = await rebuilt(projection, accept=True)
    assert done.outcome == "swapped"
    await Projector(projection, pool, database_url).redrive()
    assert await fetch(database_url, ROWS) == [("a", 0, ["…", "ü"]), ("b", 1, [])]


async def test_given_poison_that_a_stale_view_has_not_met_when_a_version_is_raised_then_it_is_swapped_all_the_same(
    database_url: str, pool: Pool
) -> None:
    served, raised = accounts(Parser("ü")), accounts(Parser("ü"), version=2)
    install(database_url, served)
    at = await happens(database_url, Noted(account="a", note="ü"), Paid(account="b", amount=1))
    await Projector(served, pool, database_url).catch_up(at)
    # given: nobody follows the old version any more
    await happens(database_url, Noted(account="c", note="ü"), Paid(account="d", amount=1))
    request = RebuildRequest(name="accounts", version=2, actor="amends", reason="raised", auto=True)
    # when
    done = await rebuild(raised, database_url, request)
    # then
    assert (done.outcome, done.report and done.report.newly_parked) == ("swapped", [])
    assert await fetch(database_url, COUNTED) == [(2,)]
    # but: what the view shows and the next version can't is for a person to look at
    worse = accounts(Parser("ü", "x"), version=3)
    at = await happens(database_url, Noted(account="d", note="x"))
    await Projector(raised, pool, database_url).catch_up(at)
    done = await rebuild(worse, database_url, request.model_copy(update={"version": 3}))
    assert (done.outcome, done.report and done.report.newly_parked) == ("differs", [str(at)])


async def test_given_a_skipped_event_when_its_version_is_rebuilt_then_it_stays_out_and_the_rows_agree(
    database_url: str, pool: Pool
) -> None:
    install(database_url, accounts(Parser("ü")))
    at = await happens(database_url, *(Noted(account="a", note=text) for text in ("x", "ü", "y", "z")))
    projector = Projector(accounts(Parser("ü")), pool, database_url)
    await projector.catch_up(at)
    async with open_operator(database_url) as operator:
        await operator.skip("accounts", 2, *WHO)
    await projector.redrive()
    shown = await fetch(database_url, ROWS)
    assert shown == [("a", 0, ["…", "x", "…", "y", "…", "z"])]
    # when: by code that still can't read it, and by code that could
    for generation, projection in ((2, accounts(Parser("ü"))), (3, accounts())):
        request = RebuildRequest(name="accounts", version=1, actor="Grace", reason="to see")
        done = await rebuild(projection, database_url, request)
        # then
        assert (done.outcome, done.generation) == ("swapped", generation)
        assert await fetch(database_url, ROWS) == shown
        kept = "select key, position, state, actor, reason from views.dead_letters where generation = %s"
        assert await fetch(database_url, kept, generation) == [("a", 2, "skipped", *WHO)]
        assert await fetch(database_url, COUNTED) == [(0,)]
    # and: another version has another meaning, so it is asked again
    raised = accounts(version=2)
    await rebuild(raised, database_url, request.model_copy(update={"version": 2}))
    assert await fetch(database_url, ROWS) == [("a", 0, ["…", "x", "…", "ü", "…", "y", "…", "z"])]


SKIPPED = "select generation, state, actor, reason from views.dead_letters where position = 2 order by generation"


async def parked_in_the_middle(url: str, pool: Pool) -> None:
    """An account with four notes, of which the second can't be read."""
    install(url, accounts(Parser("ü")))
    at = await happens(url, *(Noted(account="a", note=text) for text in ("x", "ü", "y", "z")))
    await Projector(accounts(Parser("ü")), pool, url).catch_up(at)


async def skip_second(url: str, pool: Pool) -> None:
    async with open_operator(url) as operator:
        await operator.skip("accounts", 2, *WHO)
    await Projector(accounts(Parser("ü")), pool, url).redrive()
    assert await fetch(url, ROWS) == WITHOUT_IT


WITHOUT_IT = [("a", 0, ["…", "x", "…", "y", "…", "z"])]


def begun(url: str, projection: Projection) -> None:
    with owner_engine(url).begin() as connection:
        begin_build(connection, projection, "Grace", "to see")


@pytest.mark.parametrize("parser", [Parser("ü"), Parser()], ids=["still fails", "mended"])
async def test_given_a_build_that_has_not_come_to_it_when_an_event_is_skipped_then_it_stays_out_after_the_swap(
    database_url: str, pool: Pool, parser: Parser
) -> None:
    await parked_in_the_middle(database_url, pool)
    begun(database_url, accounts(parser))
    # when
    await skip_second(database_url, pool)
    done = await rebuild(accounts(parser), database_url, asked())
    # then
    assert (done.outcome, done.generation) == ("swapped", 2)
    assert await fetch(database_url, ROWS) == WITHOUT_IT
    assert await fetch(database_url, SKIPPED) == [(1, "skipped", *WHO), (2, "skipped", *WHO)]
    assert await fetch(database_url, COUNTED) == [(0,)]


class Interrupted(Builder):
    """Builds event by event; after the first, when the second is read and folded already, something happens."""

    def __init__(self, *arguments: Any, meanwhile: Callable[[], Awaitable[None]]) -> None:
        super().__init__(*arguments, batch=1)
        self._meanwhile: Callable[[], Awaitable[None]] | None = meanwhile

    async def _rest(self, events: int) -> None:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            assert self._ahead is not None
            await self._ahead[1]
            await meanwhile()


async def test_given_a_build_that_has_read_it_when_an_event_is_skipped_then_it_is_left_out_all_the_same(
    database_url: str, pool: Pool
) -> None:
    await parked_in_the_middle(database_url, pool)
    begun(database_url, accounts())
    builder = Interrupted(accounts(), pool, database_url, meanwhile=lambda: skip_second(database_url, pool))
    # when
    assert await builder.up_to(await Feed(pool).head()) == 4
    # then
    built = "select account, total, notes from read_models.accounts_v1_g2"
    assert await fetch(database_url, built) == WITHOUT_IT
    assert await fetch(database_url, SKIPPED) == [(1, "skipped", *WHO), (2, "skipped", *WHO)]


async def test_given_a_build_that_has_applied_it_when_an_event_is_skipped_then_the_rows_differ_and_a_new_build_agrees(
    database_url: str, pool: Pool
) -> None:
    await parked_in_the_middle(database_url, pool)
    begun(database_url, accounts())
    await Builder(accounts(), pool, database_url).up_to(await Feed(pool).head())
    await skip_second(database_url, pool)
    # when
    assert (await rebuild(accounts(), database_url, asked())).outcome == "differs"
    # then
    assert await fetch(database_url, ROWS) == WITHOUT_IT
    assert (await rebuild(accounts(), database_url, asked())).outcome == "swapped"
    assert await fetch(database_url, ROWS) == WITHOUT_IT


async def test_given_an_event_skipped_after_a_swap_when_rolled_back_then_it_stays_out_there_too(
    database_url: str, pool: Pool
) -> None:
    projection = accounts(Parser("ü"))
    install(database_url, projection)
    await happens(database_url, Noted(account="a", note="x"))
    assert (await rebuild(projection, database_url, asked())).outcome == "swapped"
    at = await happens(database_url, *(Noted(account="a", note=text) for text in ("ü", "y", "z")))
    await Projector(projection, pool, database_url).catch_up(at)
    await skip_second(database_url, pool)
    # when
    await roll_back(database_url, "accounts", *WHO)
    await Projector(accounts(), pool, database_url).catch_up(at)
    # then
    assert await fetch(database_url, ROWS) == WITHOUT_IT
    assert await fetch(database_url, SKIPPED) == [(1, "skipped", *WHO), (2, "skipped", *WHO)]


async def test_given_an_event_that_is_parked_in_both_builds_when_skipped_and_rolled_back_then_it_is_skipped_there_too(
    database_url: str, pool: Pool
) -> None:
    await parked_in_the_middle(database_url, pool)
    assert (await rebuild(accounts(Parser("ü")), database_url, asked())).outcome == "swapped"
    await skip_second(database_url, pool)
    # when
    await roll_back(database_url, "accounts", *WHO)
    projector = Projector(accounts(Parser("ü")), pool, database_url)
    await projector.redrive()
    # then
    assert await fetch(database_url, ROWS) == WITHOUT_IT
    assert await fetch(database_url, SKIPPED) == [(1, "skipped", *WHO), (2, "skipped", *WHO)]
    # and: forward and back again
    for _ in range(2):
        await roll_back(database_url, "accounts", *WHO)
    assert await fetch(database_url, COUNTED) == [(0,)]
