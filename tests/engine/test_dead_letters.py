"""An event that can't be applied is parked with the later ones of its key; other keys go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from psycopg import errors as pg
from structlog.testing import capture_logs

from amends.database import Pool, conninfo, open_pool
from amends.errors import Broken, InvalidInput, NothingToDo
from amends.feed import Feed
from amends.messages import Event, upcast
from amends.projection import Projection
from amends.projection_operator import open_operator
from amends.projector import Projector
from amends.rebuild_request import RebuildRequest
from amends.rebuilding import rebuild
from amends.testing.logged import logged
from tests.engine.accounts import COUNTED, LETTERS, ROWS, STATUS, WHO, Noted, Paid, Parser, accounts, happens
from tests.engine.readside_shop import connect, fetch, install, running, until


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, "projector", 6) as pool:
        yield pool


async def test_given_an_event_that_fails_when_projected_then_it_and_the_later_ones_of_its_key_wait_and_others_go_on(
    database_url: str, pool: Pool
) -> None:
    projection = accounts(Parser("ü"))
    install(database_url, projection)
    at = await happens(
        database_url,
        Paid(account="a", amount=1),
        Noted(account="a", note="ü"),
        Paid(account="b", amount=2),
        Paid(account="a", amount=4),
        Noted(account="b", note="fine"),
    )
    with capture_logs() as logs:
        assert await Projector(projection, pool, database_url).catch_up(at) == at
    assert await fetch(database_url, ROWS) == [("a", 1, []), ("b", 2, ["…", "fine"])]
    assert await fetch(database_url, LETTERS) == [
        ("a", "letters.noted", True, 1, "parked"),
        ("a", "letters.paid", False, 0, "parked"),
    ]
    [alarm] = [log for log in logs if log["event"] == "event_parked"]
    assert (alarm["log_level"], alarm["key"], alarm["error"]) == ("error", "a", "ValueError: can't read ü")
    # and: what comes later waits too, in batches to come
    at = await happens(database_url, Paid(account="a", amount=8), Paid(account="b", amount=8))
    await Projector(projection, pool, database_url).catch_up(at)
    assert await fetch(database_url, ROWS) == [("a", 1, []), ("b", 10, ["…", "fine"])]
    assert await fetch(database_url, COUNTED) == [(3,)]


async def test_given_rows_that_the_database_refuses_when_projected_then_the_event_is_found_by_bisecting(
    database_url: str, pool: Pool
) -> None:
    projection = accounts()
    install(database_url, projection)
    bad = {13: Paid(account="k3", amount=5000), 40: Paid(account="k0", amount=1000)}
    events = [bad.get(n, Paid(account=f"k{n % 10}", amount=1)) for n in range(64)]
    at = await happens(database_url, *events)
    await Projector(projection, pool, database_url).catch_up(at)
    totals = {account: total for account, total, _ in await fetch(database_url, ROWS)}
    assert totals == {"k0": 4, "k1": 7, "k2": 7, "k3": 1, **{f"k{n}": 6 for n in range(4, 10)}}
    failed = "select key, position, error from views.dead_letters where error is not null order by position"
    found = await fetch(database_url, failed)
    assert [(key, position) for key, position, _ in found] == [("k3", 14), ("k0", 41)]
    assert all(error.startswith("CheckViolation: new row for relation") for _, _, error in found)


async def test_given_a_mended_handler_when_retried_then_the_keys_events_are_applied_in_order_and_it_flows_again(
    database_url: str, pool: Pool
) -> None:
    broken, mended = accounts(Parser("ü")), accounts()
    install(database_url, broken)
    notes = [Noted(account="a", note=text) for text in ("ä", "ü", "ö", "ü", "ß")]
    at = await happens(database_url, *notes)
    await Projector(broken, pool, database_url).catch_up(at)
    assert await fetch(database_url, ROWS) == [("a", 0, ["…", "ä"])]
    async with open_operator(database_url) as operator, running(Projector(mended, pool, database_url, poll=60)):
        assert await operator.retry("accounts", "a", *WHO) == 4

        async def settled() -> bool:
            return await fetch(database_url, LETTERS) == []

        await until(settled, 5)  # by the notification, for the poll is far off
        assert await fetch(database_url, ROWS) == [("a", 0, ["…", "ä", "…", "ü", "…", "ö", "…", "ü", "…", "ß"])]
        assert await fetch(database_url, COUNTED) == [(0,)]
    at = await happens(database_url, Paid(account="a", amount=3))
    await Projector(mended, pool, database_url).catch_up(at)
    assert (await fetch(database_url, ROWS))[0][1] == 3
    assert await fetch(database_url, LETTERS) == []


async def test_given_a_handler_that_still_fails_when_retried_then_counted_kept_in_order_and_loud_once(
    database_url: str, pool: Pool
) -> None:
    parser = Parser("ü", "ö")
    projection = accounts(parser)
    install(database_url, projection)
    await happens(database_url, *(Noted(account="a", note=text) for text in ("ü", "x", "ö", "y")))
    projector = Projector(projection, pool, database_url)
    await projector.catch_up(await Feed(pool).head())
    async with open_operator(database_url) as operator:
        with capture_logs() as logs:
            for _ in range(3):
                await operator.retry("accounts", "a", *WHO)
                await projector.redrive()
        levels = [(log["log_level"], log["attempts"]) for log in logs if log["event"] == "dead_letter_fails_again"]
        assert levels == [("error", 2), ("critical", 3), ("error", 4)]
        assert [letter.state for letter in await operator.dead_letters("accounts")] == ["parked"] * 4
        # when: the first is mended, the third is not
        parser.unreadable.remove("ü")
        await operator.retry("accounts", "a", *WHO)
        await projector.redrive()
        # then: as far as it goes
        assert await fetch(database_url, ROWS) == [("a", 0, ["…", "ü", "…", "x"])]
        left = [(letter.position, letter.error, letter.attempts) for letter in await operator.dead_letters("accounts")]
        assert left == [(3, "ValueError: can't read ö", 1), (4, None, 0)]


async def test_given_a_parked_event_when_skipped_then_those_behind_it_are_applied_and_the_record_stays(
    database_url: str, pool: Pool
) -> None:
    projection = accounts(Parser("ü"))
    install(database_url, projection)
    await happens(database_url, *(Noted(account="a", note=text) for text in ("ü", "x", "ü", "y")))
    projector = Projector(projection, pool, database_url)
    await projector.catch_up(await Feed(pool).head())
    async with open_operator(database_url) as operator:
        await operator.skip("accounts", 1, *WHO)
        await projector.redrive()
        assert await fetch(database_url, ROWS) == [("a", 0, ["…", "x"])]
        await operator.skip("accounts", 3, *WHO)
        await projector.redrive()
        assert await fetch(database_url, ROWS) == [("a", 0, ["…", "x", "…", "y"])]
        assert await operator.dead_letters("accounts") == []
        kept = await operator.dead_letters("accounts", skipped=True)
        assert [(one.position, one.state, one.actor, one.reason) for one in kept] == [
            (1, "skipped", *WHO),
            (3, "skipped", *WHO),
        ]
        with pytest.raises(NothingToDo, match="No event at 3 is parked"):
            await operator.skip("accounts", 3, *WHO)
    log = "select action, actor, detail ->> 'position' from views.projection_log where action <> 'alert'"
    assert await fetch(database_url, log) == [("skip", "Grace", "1"), ("skip", "Grace", "3")]


async def test_given_events_that_go_on_when_retried_meanwhile_then_none_is_lost_or_doubled(
    database_url: str, pool: Pool
) -> None:
    parser = Parser("ü")
    projection = accounts(parser)
    install(database_url, projection)
    await happens(database_url, Noted(account="a", note="ü"))
    async with open_operator(database_url) as operator, running(Projector(projection, pool, database_url, poll=0.005)):

        async def parked() -> bool:
            return bool(await fetch(database_url, LETTERS))

        await until(parked)

        async def write() -> None:
            for n in range(60):
                await happens(database_url, Noted(account="a", note=str(n)), Noted(account="b", note=str(n)))

        async def retry() -> None:
            for n in range(30):
                if n == 10:
                    parser.unreadable.clear()
                try:
                    await operator.retry("accounts", "a", *WHO)
                except NothingToDo:
                    return
                await asyncio.sleep(0)

        await asyncio.gather(write(), retry())
        with suppress(NothingToDo):  # then all is applied already
            await operator.retry("accounts", "a", *WHO)

        async def done() -> bool:
            [(at,)] = await fetch(database_url, "select max(position) from amends.events")
            passed = (
                "select position = %s and dead_letters = 0 from views.projection_status where projection = 'accounts'"
            )
            return await fetch(database_url, passed, at) == [(True,)]

        await until(done)
    numbers = [text for n in range(60) for text in ("…", str(n))]
    assert await fetch(database_url, ROWS) == [("a", 0, ["…", "ü", *numbers]), ("b", 0, numbers)]


async def test_given_nobody_who_signs_or_nothing_parked_when_asked_then_refused_clearly_also_in_sql(
    database_url: str,
) -> None:
    install(database_url, accounts())
    async with open_operator(database_url) as operator:
        with pytest.raises(InvalidInput, match="actor: say who you are"):
            await operator.retry("accounts", "a", " ", "because")
        with pytest.raises(InvalidInput, match="reason: say why"):
            await operator.skip("accounts", 1, "Grace", "")
        with pytest.raises(NothingToDo, match="No events of key a are parked in projection accounts"):
            await operator.retry("accounts", "a", *WHO)
    async with connect(conninfo(database_url, "reader")) as reader:
        with pytest.raises(pg.InsufficientPrivilege):
            await reader.execute("select amends.retry_dead_letters('accounts', 'a', 'me', 'why not')")
    async with connect(conninfo(database_url, "projector")) as projector:
        with pytest.raises(pg.Error, match=r"no events of key a are parked"):
            await projector.execute("select amends.retry_dead_letters('accounts', 'a', 'me', 'why not')")


async def test_given_every_key_fails_when_projected_then_it_stops_loudly_and_parks_nobody(
    database_url: str, pool: Pool
) -> None:
    broken = accounts(Parser("ü"))
    install(database_url, broken)
    at = await happens(
        database_url, *(Noted(account=f"k{n}", note="ü") for n in range(10)), Paid(account="a", amount=1)
    )
    with pytest.raises(Broken, match=r"every 'letters\.noted' of 10 keys.*can't read ü"):
        await Projector(broken, pool, database_url).run(asyncio.Event(), lambda _: None)
    assert await fetch(database_url, LETTERS) == []
    [(_, state, healthy, problem, told, position, _)] = await fetch(database_url, STATUS)
    assert (state, healthy, told, position) == ("stopped", False, True, 0)
    assert problem.startswith("stopped: Broken: Projection 'accounts' fails for every")
    # when: mended
    await Projector(accounts(), pool, database_url).catch_up(at)
    # then
    assert (await fetch(database_url, STATUS))[0][1] == "live"


async def test_given_more_keys_than_can_be_single_cases_when_parked_then_it_stops(
    database_url: str, pool: Pool
) -> None:
    broken = accounts(Parser("ü"))
    install(database_url, broken)
    at = await happens(database_url, *(Noted(account=f"k{n}", note="ü") for n in range(102)))
    with pytest.raises(Broken, match="events of 102 keys to park"):
        await Projector(broken, pool, database_url, batch=4).catch_up(at)
    assert await fetch(database_url, COUNTED) == [(100,)]


async def test_given_a_table_that_refuses_every_row_when_projected_then_it_stops_before_all_are_looked_for(
    database_url: str, pool: Pool
) -> None:
    install(database_url, accounts())
    at = await happens(database_url, *(Paid(account=f"k{n}", amount=5000) for n in range(150)))
    with pytest.raises(Broken, match="events of 101 keys to park"):
        await Projector(accounts(), pool, database_url).catch_up(at)
    assert await fetch(database_url, LETTERS) == []


@pytest.mark.parametrize(
    "breaking",
    ["drop table read_models.accounts_v1 cascade", "revoke all on read_models.accounts_v1 from amends_projector"],
)
async def test_given_tables_that_are_gone_or_closed_when_projected_then_it_stops_and_parks_nobody(
    database_url: str, pool: Pool, breaking: str
) -> None:
    projection = accounts()
    install(database_url, projection)
    async with connect(database_url) as connection:
        await connection.execute(breaking.encode())
    await happens(database_url, Paid(account="a", amount=1))
    with pytest.raises((pg.UndefinedTable, pg.InsufficientPrivilege)):
        await Projector(projection, pool, database_url).run(asyncio.Event(), lambda _: None)
    state = "select state, dead_letters from views.projection_status where projection = 'accounts'"
    assert await fetch(database_url, state) == [("stopped", 0)]


async def test_given_an_event_of_unknown_shape_when_projected_then_parked_under_its_stream(
    database_url: str, pool: Pool
) -> None:
    projection = accounts()
    install(database_url, projection)
    at = await happens(database_url, Paid(account="a", amount=1))
    async with connect(database_url) as connection:
        await connection.execute("alter table amends.events disable trigger user")
        await connection.execute("update amends.events set data = '{\"colour\": 1}'")
    await Projector(projection, pool, database_url).catch_up(at)
    [(key, error)] = await fetch(database_url, "select key, error from views.dead_letters")
    assert (key, error.split(":")[0]) == ("stream-0", "InvalidInput")


async def test_given_partitions_when_projected_and_rebuilt_then_all_of_it_in_order(
    database_url: str, pool: Pool
) -> None:
    projection = accounts(Parser("ü"), partitions=3)
    install(database_url, projection)
    events = [Noted(account=f"k{n % 7}", note="ü" if n == 20 else str(n)) for n in range(100)]
    at = await happens(database_url, *events)
    # when
    projectors = [Projector(projection, pool, database_url, partition=n, batch=9) for n in range(3)]
    assert await asyncio.gather(*(each.catch_up(at) for each in projectors)) == [at] * 3
    # then
    expected = []
    for key in range(7):
        mine = [n for n in range(key, 100, 7) if not (key == 20 % 7 and n >= 20)]
        expected.append((f"k{key}", 0, [text for n in mine for text in ("…", str(n))]))
    assert await fetch(database_url, ROWS) == expected
    parked = len(range(20, 100, 7))
    [(generation, state, *_, position, letters)] = await fetch(database_url, STATUS)
    assert (generation, state, position, letters) == (1, "live", at.number, parked)
    assert sorted(letters for (letters,) in await fetch(database_url, COUNTED)) == [0, 0, parked]
    # when
    request = RebuildRequest(name="accounts", version=1, actor="Grace", reason="to see")
    done = await rebuild(projection, database_url, request)
    # then
    assert done.outcome == "swapped"
    assert await fetch(database_url, ROWS) == expected
    [(generation, state, *_, position, letters)] = await fetch(database_url, STATUS)
    assert (generation, state, position, letters) == (2, "live", at.number, parked)


class Moved(Event, name="letters.moved", version=2):
    """Its key was called otherwise once, and is a number."""

    house: int

    @upcast(1)
    @staticmethod
    def number_is_house(data: dict[str, Any]) -> dict[str, Any]:
        return {"house": data["number"]}


def test_given_an_old_version_without_the_key_when_asked_then_the_upcaster_tells_it() -> None:
    projection = Projection("p", version=1)
    projection.on(Moved, key="house")(lambda event, fact, rows: None)
    new = logged(Moved(house=7), 1, {"stream": "s"})
    assert projection.key_of(new) == "7"
    assert projection.key_of(new._replace(schema_version=1, data='{"number": 7}')) == "7"
    assert projection.key_of(new._replace(schema_version=1, data="{}")) == "s", "nobody can tell"


def test_given_a_key_that_is_no_field_when_declared_then_told_so() -> None:
    projection = Projection("p", version=1)
    with pytest.raises(TypeError, match="Paid has no field 'nobody' to be its key"):
        projection.on(Paid, key="nobody")
    with pytest.raises(TypeError, match="begin at 1"):
        Projection("p", version=1, partitions=0)
