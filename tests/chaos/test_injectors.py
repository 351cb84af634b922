"""Faults do what they say: clocks jump, connections are cut at the commit, before and after."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from chaos.injectors.clock import Clock
from chaos.injectors.disk import fail_writes, let_writes
from chaos.links import ANSWERED, COMMITTING, Link

NOW = "import time; print(time.time(), time.monotonic())"


async def test_a_clock_jumps_for_the_process_that_was_started_with_it_and_for_no_other(tmp_path: Path) -> None:
    # given
    clock = Clock(tmp_path, "worker-1")
    if not clock.can_jump:
        pytest.skip("it takes Linux and a C compiler")

    # when
    clock.set(-3600)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", NOW, env={**os.environ, **clock.environment}, stdout=asyncio.subprocess.PIPE
    )
    wall, steady = map(float, (await process.communicate())[0].split())

    # then
    assert time.time() - wall == pytest.approx(3600, abs=60)
    assert time.monotonic() - steady == pytest.approx(0, abs=60)


@pytest.fixture
async def link(database_url: str) -> AsyncIterator[Link]:
    link = Link("test → PostgreSQL", int(str(conninfo_to_dict(database_url)["port"])))
    await link.open()
    yield link
    await link.close()


async def _insert(database_url: str, link: Link) -> None:
    url = make_conninfo(database_url, port=link.port, sslmode="disable", gssencmode="disable")
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("insert into kept values (1)")


async def _kept(database_url: str) -> int:
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        row = await (await connection.execute("select count(*) from kept")).fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture
async def kept(database_url: str) -> str:
    """A database with an empty table."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute("create table kept (number integer)")
    return database_url


async def test_a_lost_answer_leaves_the_commit_standing(kept: str, link: Link) -> None:
    # when
    link.lose_answers(ANSWERED, 1)
    with pytest.raises(psycopg.OperationalError):
        await _insert(kept, link)
    await _insert(kept, link)

    # then
    assert await _kept(kept) == 2


async def test_a_commit_that_is_cut_off_rolls_back(kept: str, link: Link) -> None:
    # when
    link.lose_questions(COMMITTING, 1)
    with pytest.raises(psycopg.OperationalError):
        await _insert(kept, link)
    await _insert(kept, link)

    # then
    assert await _kept(kept) == 1


async def test_a_link_that_refuses_lets_nobody_in_until_it_is_restored(kept: str, link: Link) -> None:
    # when
    link.refuse()
    with pytest.raises(psycopg.OperationalError):
        await _insert(kept, link)
    link.restore()
    await _insert(kept, link)

    # then
    assert await _kept(kept) == 1


async def test_a_link_that_stalls_passes_on_what_it_has_kept_back(kept: str, link: Link) -> None:
    # when
    link.stall()
    inserting = asyncio.create_task(_insert(kept, link))
    done, _ = await asyncio.wait({inserting}, timeout=0.5)
    link.restore()
    await inserting

    # then
    assert not done
    assert await _kept(kept) == 1


INSERT = """
insert into amends.events (stream, version, name, schema_version, data, correlation_id, causation_id, command_id, actor)
values ('chaos', 1, 'nothing', 1, '{}', '-', '-', '-', '-')
"""


async def test_where_no_disk_can_be_filled_writes_fail_as_on_a_full_one(database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        # when
        await fail_writes(database_url)
        with pytest.raises(psycopg.errors.DiskFull):
            await connection.execute(INSERT)
        assert await let_writes(database_url)

        # then
        await connection.execute(INSERT)
