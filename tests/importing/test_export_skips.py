"""What is parked or was left out of a read model is so in the same read model of another database."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from amends.database import conninfo, open_pool
from amends.exporting import export_log
from amends.feed import Feed
from amends.projection import Projection
from amends.projection_operator import open_operator
from amends.projector import Projector
from amends.restoring import restore_log
from tests.engine.accounts import ROWS, WHO, Noted, Paid, Parser, accounts, happens
from tests.engine.readside_shop import fetch, install

SKIPPED = """
select key, position, stream, event, error, attempts, state, actor, reason, parked_at, settled_at
from views.dead_letters where state = 'skipped' order by position
"""

PARKED = "select key, position, event, error, state from views.dead_letters order by position"


@pytest.fixture
def other_url(postgres_url: str, template: str) -> Iterator[str]:
    """Another empty database."""
    name = sql.Identifier(f"other_{uuid4().hex}")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {} template {}").format(name, sql.Identifier(template)))
        yield make_conninfo(postgres_url, dbname=name._obj[0])
        connection.execute(sql.SQL("drop database {} with (force)").format(name))


def exported(url: str) -> bytes:
    file = io.BytesIO()
    with psycopg.connect(conninfo(url, "owner"), autocommit=True) as connection:
        export_log(connection, file, [])
    return file.getvalue()


def restored(url: str, file: bytes) -> dict[str, int]:
    with psycopg.connect(conninfo(url, "owner"), autocommit=True) as connection:
        return restore_log(connection, io.BytesIO(file), [])


async def projected(url: str, projection: Projection) -> list[tuple[Any, ...]]:
    async with open_pool(url, "projector", 4) as pool:
        for partition in range(projection.partitions):
            projector = Projector(projection, pool, url, partition=partition)
            await projector.catch_up(await Feed(pool).head())
            await projector.redrive()
    return await fetch(url, ROWS)


def lines(file: bytes) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in file.splitlines()[1:]]
    for line in found:
        line["row"].pop("xid", None)
    return found


@pytest.mark.parametrize("parser", [Parser("ü"), Parser()], ids=["still fails", "mended"])
@pytest.mark.parametrize("partitions", [1, 3])
async def test_given_skipped_events_when_the_log_is_restored_then_the_views_are_the_same_and_the_decisions_are_kept(
    database_url: str, other_url: str, parser: Parser, partitions: int
) -> None:
    # given: an event that was skipped, with others behind it
    served = accounts(Parser("ü"), partitions=partitions)
    install(database_url, served)
    notes = [Noted(account=key, note=text) for key in "abcd" for text in ("x", "ü", "y")]
    await happens(database_url, *notes, Paid(account="e", amount=1))
    await projected(database_url, served)
    async with open_operator(database_url) as operator:
        for position in (2, 5, 8, 11):
            await operator.skip("accounts", position, *WHO)
    before = await projected(database_url, served)
    assert before[:-1] == [(key, 0, ["…", "x", "…", "y"]) for key in "abcd"]
    # when
    file = exported(database_url)
    again = accounts(parser, partitions=partitions)
    install(other_url, again)
    restored(other_url, file)
    # then
    assert await projected(other_url, again) == before
    kept = await fetch(other_url, SKIPPED)
    assert kept == await fetch(database_url, SKIPPED)
    assert [(row[1], row[6:9]) for row in kept] == [(at, ("skipped", *WHO)) for at in (2, 5, 8, 11)]
    assert lines(exported(other_url)) == lines(file)


async def test_given_an_event_skipped_in_a_version_when_restored_for_another_one_then_it_is_asked_again(
    database_url: str, other_url: str
) -> None:
    install(database_url, accounts(Parser("ü")))
    await happens(database_url, Noted(account="a", note="ü"))
    await projected(database_url, accounts(Parser("ü")))
    async with open_operator(database_url) as operator:
        await operator.skip("accounts", 1, *WHO)
    # when
    install(other_url, accounts(version=2))
    restored(other_url, exported(database_url))
    # then
    assert await projected(other_url, accounts(version=2)) == [("a", 0, ["…", "ü"])]
    assert await fetch(other_url, SKIPPED) == []


async def test_given_many_keys_that_were_parked_one_by_one_when_restored_then_they_are_parked_at_once(
    database_url: str, other_url: str
) -> None:
    # given: every event of a kind fails, and each was a single case when it happened
    install(database_url, accounts(Parser("ü")))
    for n in range(12):
        await happens(database_url, Noted(account=f"k{n:02}", note="ü"), Paid(account="fine", amount=1))
        before = await projected(database_url, accounts(Parser("ü")))
    # when
    install(other_url, accounts(Parser("ü")))
    restored(other_url, exported(database_url))
    # then: nothing is parked before it is met
    assert await fetch(other_url, PARKED) == []
    assert await projected(other_url, accounts(Parser("ü"))) == before == [("fine", 12, [])]
    assert await fetch(other_url, PARKED) == await fetch(database_url, PARKED)
    assert len(await fetch(other_url, PARKED)) == 12
