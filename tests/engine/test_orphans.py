"""What an application no longer has can be dropped as a whole, and nothing else can."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Column, Integer, Text

from amends.app import App
from amends.app import install as install_app
from amends.database import Pool, open_pool
from amends.errors import NothingToDo, ProjectionError
from amends.orphans import drop_orphan
from amends.projection import Projection
from amends.rebuild_request import RebuildRequest
from amends.rebuilding import rebuild
from tests.engine.accounts import Noted, Parser, accounts, happens
from tests.engine.bells import doorman
from tests.engine.readside_shop import connect, fetch, install

WHO = ("Grace", "nobody reads it")
LEFT = """
select relname from pg_class where relname like 'account%' and relkind in ('r', 'v') and relnamespace in
    ('views'::regnamespace, 'read_models'::regnamespace) order by 1
"""
KNOWN = """
select 'c' from amends.checkpoints where projection = %(p)s union all
select 'g' from amends.generations where projection = %(p)s union all
select 'd' from amends.dead_letters where projection = %(p)s
"""


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, "projector", 4) as pool:
        yield pool


async def known(url: str, name: str) -> list[Any]:
    async with connect(url) as connection:
        return await (await connection.execute(KNOWN.encode(), {"p": name})).fetchall()


async def built_twice(url: str) -> None:
    """A projection with an old build, the one that is served, and an event that is parked."""
    install(url, accounts())
    await happens(url, Noted(account="a", note="ü"))
    request = RebuildRequest(name="accounts", version=1, actor="Grace", reason="to see", accept=True)
    await rebuild(accounts(Parser("ü")), url, request)
    # given: its worker is gone for a while
    await fetch(url, "update amends.checkpoints set beat_at = clock_timestamp() - interval '16 s' returning 1")


async def test_given_a_projection_that_is_no_longer_in_the_application_when_dropped_then_all_of_it_is_gone(
    database_url: str,
) -> None:
    await built_twice(database_url)
    assert await fetch(database_url, LEFT) == [("accounts",), ("accounts_v1",), ("accounts_v1_g2",)]
    # when
    gone = drop_orphan(database_url, App(), "accounts", *WHO)
    # then
    assert gone == ["views.accounts", "read_models.accounts_v1", "read_models.accounts_v1_g2"]
    assert await fetch(database_url, LEFT) == []
    assert await known(database_url, "accounts") == []
    told = "select action, actor, reason, detail -> 'dropped' from views.projection_log order by number desc limit 1"
    assert await fetch(database_url, told) == [("drop", *WHO, gone)]
    with pytest.raises(NothingToDo, match="There is no projection 'accounts'"):
        drop_orphan(database_url, App(), "accounts", *WHO)


async def test_given_one_that_is_declared_followed_or_built_upon_when_dropped_then_refused_and_nothing_is_gone(
    database_url: str,
) -> None:
    await built_twice(database_url)
    before = await known(database_url, "accounts")
    with pytest.raises(ProjectionError, match="the application has it"):
        drop_orphan(database_url, App(projections=[accounts()]), "accounts", *WHO)
    async with connect(database_url) as connection:
        await connection.execute("create view mine as select * from views.accounts")
        with pytest.raises(ProjectionError, match=r"others are built upon it.*mine"):
            drop_orphan(database_url, App(), "accounts", *WHO)
        await connection.execute("drop view mine")
    await fetch(database_url, "update amends.checkpoints set beat_at = clock_timestamp() returning 1")
    with pytest.raises(ProjectionError, match="some worker follows it"):
        drop_orphan(database_url, App(), "accounts", *WHO)
    assert await known(database_url, "accounts") == before
    assert len(await fetch(database_url, LEFT)) == 3


async def test_given_a_view_that_another_projection_has_taken_over_when_dropped_then_the_view_stays(
    database_url: str,
) -> None:
    def of(name: str, version: int) -> Projection:
        projection = Projection(name, version=version)
        columns = Column("k", Text, primary_key=True, comment="Key."), Column("n", Integer, comment="Number.")
        projection.table("account_list", *columns, comment="A row a key.")
        return projection

    install(database_url, of("old", 1))
    install(database_url, of("new", 2))
    # when
    gone = drop_orphan(database_url, App(projections=[of("new", 2)]), "old", *WHO)
    # then
    assert gone == ["read_models.account_list_v1"]
    assert await fetch(database_url, "select * from views.account_list") == []


async def test_given_a_process_manager_that_is_taken_out_when_dropped_then_its_checkpoint_is_gone(
    database_url: str,
) -> None:
    install_app(App(process_managers=[doorman("greeting")]), database_url)
    assert drop_orphan(database_url, App(), "greeting", *WHO) == []
    assert await known(database_url, "greeting") == []
