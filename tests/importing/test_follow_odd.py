"""Odd rows of another system's tables: each is told with its reason, and all others are followed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from amends.settings import Settings
from tests.cli.typing_in import amends
from tests.importing.legacy import projected, rows, said
from tests.importing.test_follow import ARTICLES, CLIENTS, COUNT, EVENTS, VISITS, Legacy, Look, happened, legacy, look

__all__ = ["legacy", "look"]

ODD = ["null", "'infinity'", "'-infinity'", "'0044-03-15 BC'", "'10000-01-01'"]

UNSEEN = "watermark: column {!r} has no number or time by which anybody could see it change"

SINCE = 'member_since = { column = "since", convert = "datetime" }'


@pytest.mark.parametrize("changed", ODD)
async def test_a_row_whose_watermark_becomes_none_is_told_once_and_the_others_are_followed(
    changed: str, legacy: Legacy, look: Look, tmp_path: Path, database_url: str
) -> None:
    # given: two customers, followed
    clients = legacy.mapping("clients.toml", CLIENTS)
    legacy.run("insert into clients values (1, 'Ann', 'ann@example.org'), (2, 'Bob', 'bob@example.org')")
    await look(clients)
    # when: the watermark of one is lost while it changes, and a third comes
    legacy.run(f"update clients set mail = 'ann@example.net', changed = {changed} where no = 1")
    legacy.run("insert into clients values (3, 'Cid', 'cid@example.org')")
    [people], done = await look(clients)
    # then
    assert (people["imported"], people["rejected"], people["behind"], done.exit_code) == (1, 1, 0, 3), done.stderr
    [entry] = said(tmp_path / "follow.rejected.jsonl")
    assert (entry["kind"], entry["id"], entry["outcome"]) == ("customer", "1", "rejected")
    assert entry["reason"] == UNSEEN.format("changed")
    # and: mended, it is followed
    legacy.run("update clients set changed = clock_timestamp() where no = 1")
    [people], done = await look(clients)
    assert (people["updated"], people["rejected"], done.exit_code) == (1, 0, 0)
    assert (await happened(database_url))[-1] == ("customer.email_changed", {"email": "ann@example.net"})


async def test_a_number_that_is_missing_for_a_watermark_is_told(legacy: Legacy, look: Look, tmp_path: Path) -> None:
    legacy.run("alter table visits drop constraint visits_pkey")
    legacy.run("alter table visits alter id drop not null")
    legacy.run("insert into visits values (7, 'TEA', 5), (null, 'JAM', 3)")
    [found], _ = await look(legacy.mapping("visits.toml", VISITS.replace('key = "id"', 'key = "sku"')))
    assert (found["imported"], found["rejected"]) == (1, 1)
    [entry] = said(tmp_path / "follow.rejected.jsonl")
    assert (entry["id"], entry["reason"]) == ("JAM", UNSEEN.format("id"))


@pytest.mark.parametrize("since", ["infinity", "-infinity", "0044-03-15 BC", "10000-01-01"])
async def test_a_time_that_is_none_here_is_rejected_by_its_field_and_the_others_are_followed(
    since: str, legacy: Legacy, look: Look, tmp_path: Path
) -> None:
    legacy.run("alter table clients add since timestamptz")
    legacy.run("insert into clients values (1, 'Ann', 'ann@example.org', default, %s)", since)
    legacy.run("insert into clients values (2, 'Bob', 'bob@example.org', default, '2020-01-01')")
    [people], done = await look(legacy.mapping("clients.toml", CLIENTS + SINCE))
    assert (people["imported"], people["rejected"], done.exit_code) == (1, 1, 3), done.stderr
    [entry] = said(tmp_path / "follow.rejected.jsonl")
    assert (entry["id"], entry["reason"].partition(" as ")[0]) == ("1", "member_since: column 'since' must be a time")


async def test_rows_without_a_watermark_are_compared_all_the_same(
    legacy: Legacy, look: Look, settings: Settings, database_url: str
) -> None:
    articles = legacy.mapping("articles.toml", ARTICLES)
    legacy.run("insert into articles values ('TEA', 'Tea', 4), ('JAM', 'Jam', 3)")
    await look(articles)
    await projected(database_url)
    legacy.run("update articles set price = 5, changed = null where code = 'TEA'")
    done = await amends("compare", articles, "--from", legacy.url, "--json", settings=settings)
    found = json.loads(done.stdout)
    assert (found["records"], found["same"], found["unreadable"]) == (2, 1, 0)
    assert [(d["id"], d["column"], d["theirs"], d["ours"]) for d in found["differences"]] == [
        ("TEA", "price", 500, 400)
    ]


async def test_a_row_whose_watermark_goes_back_is_found_by_a_comparison_and_taken_by_beginning_again(
    legacy: Legacy, look: Look, settings: Settings, database_url: str
) -> None:
    # given: a price that changes while the watermark goes back behind the overlap, which no look can see
    articles = legacy.mapping("articles.toml", ARTICLES)
    legacy.run("insert into articles values ('TEA', 'Tea', 4), ('JAM', 'Jam', 3)")
    await look(articles)
    legacy.run("update articles set price = 5, changed = '2001-01-01' where code = 'TEA'")
    [goods], _ = await look(articles)
    assert goods["updated"] == 0
    # when, then
    await projected(database_url)
    done = await amends("compare", articles, "--from", legacy.url, "--json", settings=settings)
    assert [(d["id"], d["column"]) for d in json.loads(done.stdout)["differences"]] == [("TEA", "price")]
    [goods], _ = await look(articles, "--again")
    assert goods["updated"] == 1


@pytest.mark.parametrize("amount", ["12.5" + "0" * 30 + "1", "0." + "1" * 40, "1" * 28 + ".91", "1" * 31 + ".5"])
async def test_an_amount_of_many_digits_is_rejected_by_its_field_and_never_rounded(
    amount: str, legacy: Legacy, look: Look, tmp_path: Path
) -> None:
    legacy.run("alter table articles alter price type numeric")
    legacy.run("insert into articles values ('TEA', 'Tea', %s::numeric), ('JAM', 'Jam', 3)", amount)
    [goods], done = await look(legacy.mapping("articles.toml", ARTICLES))
    assert (goods["imported"], goods["rejected"], done.exit_code) == (1, 1, 3), done.stderr
    [entry] = said(tmp_path / "follow.rejected.jsonl")
    assert (entry["id"], entry["reason"].partition(":")[0].partition(".")[0]) == ("TEA", "price")


# What a product's rules say


async def test_an_end_is_followed_though_the_currency_that_changes_with_it_can_not_be(
    legacy: Legacy, look: Look, database_url: str, tmp_path: Path
) -> None:
    # given
    articles = legacy.mapping("articles.toml", ARTICLES)
    legacy.run("insert into articles values ('TEA', 'Tea', 4), ('JAM', 'Jam', 3)")
    await look(articles)
    # when
    legacy.run("update articles set cur = 'USD', sold = false, changed = localtimestamp where code = 'TEA'")
    for _ in range(2):
        [goods], done = await look(articles)
        # then: it has ended, once, and what can't be followed is told
        assert (goods["updated"], goods["rejected"], done.exit_code) == (0, 1, 3)
        [entry] = said(tmp_path / "follow.rejected.jsonl")
        assert (entry["id"], entry["outcome"]) == ("TEA", "rejected")
        assert (await rows(database_url, EVENTS))[2:] == [("product.discontinued", {})]
    # and: set right, nothing is left to be told
    legacy.run("update articles set cur = 'EUR', changed = localtimestamp where code = 'TEA'")
    [goods], done = await look(articles)
    assert (goods["rejected"], done.exit_code) == (0, 0)
    assert await rows(database_url, COUNT) == [(3,)]


async def test_the_part_of_a_change_that_was_followed_can_change_again(
    legacy: Legacy, look: Look, database_url: str
) -> None:
    articles = legacy.mapping("articles.toml", ARTICLES)
    legacy.run("insert into articles values ('TEA', 'Tea', 4)")
    await look(articles)
    legacy.run("update articles set cur = 'USD', changed = localtimestamp")
    await look(articles)
    for price in (5, 6):
        legacy.run("update articles set cur = 'EUR', price = %s, changed = localtimestamp", price)
        [goods], done = await look(articles)
        assert (goods["updated"], done.exit_code) == (1, 0)
    prices = "select (data #>> '{price,amount}')::int from amends.events order by position"
    assert [price for (price,) in await rows(database_url, prices)] == [400, 500, 600]


@pytest.mark.parametrize(
    ("change", "outcome", "reason"),
    [
        ("title = 'Green tea'", "changed", "name: has changed, which can't be followed, and stays as it was"),
        ("price = 5", "rejected", "ProductIsDiscontinued: The product is no longer sold (sku=TEA); it stays as it was"),
        ("sold = true", "changed", "nothing of what has changed in it can be taken over"),
    ],
)
async def test_a_product_that_is_no_longer_sold_stays_as_it_was_and_the_reason_says_so(
    change: str, outcome: str, reason: str, legacy: Legacy, look: Look, tmp_path: Path, database_url: str
) -> None:
    articles = legacy.mapping("articles.toml", ARTICLES)
    legacy.run("insert into articles values ('TEA', 'Tea', 4, 'EUR', false)")
    await look(articles)
    legacy.run(f"update articles set {change}, changed = localtimestamp")
    [goods], done = await look(articles)
    assert (goods[outcome], done.exit_code) == (1, 3)
    [entry] = said(tmp_path / "follow.rejected.jsonl")
    assert (entry["id"], entry["outcome"], entry["reason"]) == ("TEA", outcome, reason)
    assert await rows(database_url, COUNT) == [(2,)]
