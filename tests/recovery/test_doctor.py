"""`amends doctor`: each thing that can be wrong is found, and told with what to do about it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from amends.connect import connect
from amends.doctor import examination
from amends.embedded import free_port
from amends.settings import Settings
from amends.sweep import schedule_sweep, sweep_id
from domain.stock import StockReceived
from tests.cli.typing_in import amends
from tests.conftest import RunWorker
from tests.engine.readside_shop import append
from tests.engine.readside_shop import connect as to_log
from tests.sagas.given import rows, until
from tests.sagas.travels import book, travelling, undone

WHO = ("--actor", "ann", "--reason", "test")


async def told(settings: Settings, *, wrong: bool = True) -> dict[str, tuple[str, str, str]]:
    """What is found, by what was looked at."""
    done = await amends("doctor", "--json", settings=settings)
    assert isinstance(done.exception, SystemExit | None), repr(done.exception)
    found = {each["what"]: (each["health"], each["told"], each["advice"]) for each in json.loads(done.stdout)}
    assert done.exit_code == int(any(health == "wrong" for health, *_ in found.values()))
    assert (done.exit_code == 1) is wrong, found
    assert all(advice for health, _, advice in found.values() if health == "wrong"), "each says what to do"
    return found


async def well(settings: Settings) -> None:
    """Wait until nothing is wrong: followers begin one after another."""

    async def asked() -> bool:
        return (await amends("doctor", settings=settings)).exit_code == 0

    await until("all is well", asked)


async def test_given_an_installation_that_is_well_when_things_go_wrong_then_each_is_told(
    settings: Settings, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    client = await connect(settings)
    async with run_worker():
        # given
        await schedule_sweep(client, settings.task_queue)
        await well(settings)
        shown = await amends("doctor", settings=settings)
        assert "✔" in shown.stdout
        assert "✘" not in shown.stdout
        # when: somebody pauses a read model, the sweep is gone, the clocks differ, a follower is ended
        await amends("views", "pause", "order_history", *WHO, settings=settings)
        await client.get_schedule_handle(sweep_id(settings.task_queue)).delete()
        await client.get_workflow_handle(f"projection-customers@{settings.task_queue}").terminate()
        monkeypatch.setattr(examination, "database_clock", ahead)
        found = await told(settings)
        # then
        health, problem, advice = found["read model order_history"]
        assert (health, problem) == ("wrong", "paused by ann: test")
        assert advice.startswith("amends views resume order_history")
        assert found["sweep"][0] == "wrong"
        assert f"projection-customers@{settings.task_queue}" in found["followers"][1]
        assert found["clocks"][0] == "wrong"
        assert "this machine's clock" in found["clocks"][1]
        assert "Temporal's clock" in found["clocks"][1]
        assert found["workers"][0] == found["search attributes"][0] == found["roles"][0] == "well"
        # and: a transaction that stays open is named, with what ends it
        monkeypatch.setattr("amends.doctor.log_side.HELD", 0.0)
        async with to_log(url, autocommit=False) as open_:
            await append(open_, "stock-TEA", 0, StockReceived(sku="TEA", quantity=1))
            _, problem, advice = (await told(settings))["feed"]
            assert f"process {open_.info.backend_pid}" in problem
            assert advice == f"end that: select pg_terminate_backend({open_.info.backend_pid})"


async def ahead(url: str) -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


async def test_given_nobody_works_when_asked_then_it_is_told_and_so_is_a_checkpoint_past_the_log(
    settings: Settings,
) -> None:
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    moved = "update amends.checkpoints set xid = '1', position = 1000 where projection = 'customers' returning 1"
    assert await rows(url, moved) == [(1,)]
    found = await told(settings)
    assert found["workers"][1] == f"nobody polls the task queue {settings.task_queue!r}"
    assert "past the end of the log" in found["read model customers"][1]
    assert found["read model customers"][2].startswith("amends views rebuild customers")
    assert "nobody has followed it yet" in found["read model order_history"][1]


async def test_given_a_schema_that_is_older_or_newer_or_not_there_when_asked_then_it_says_what_to_do(
    settings: Settings, postgres_url: str
) -> None:
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    for version, advice in (("0001", "amends migrate"), ("9999", "deploy the newer code")):
        await rows(url, "update amends.alembic_version set version_num = %s returning 1", version)
        assert (await told(settings))["schema"][2] == advice
    empty = f"empty_{settings.task_queue[-12:]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"create database {empty}".encode())
    bare = settings.model_copy(update={"database_url": SecretStr(make_conninfo(url, dbname=empty))})
    found = await told(bare)
    assert found["schema"] == ("wrong", "there is none", "amends migrate")


async def test_given_a_server_that_is_away_when_asked_then_the_rest_is_looked_at_all_the_same(
    settings: Settings,
) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    url = SecretStr(f"postgresql://ann:secret@{nowhere}/shop")
    found = await told(settings.model_copy(update={"database_url": url}))
    assert found["database"][0] == "wrong"
    assert "secret" not in str(found)
    assert found["clocks"][0] == "unknown"
    assert found["Temporal"][0] == "well"
    found = await told(settings.model_copy(update={"temporal_address": nowhere}))
    assert nowhere in found["Temporal"][1]
    assert found["schema"][0] == "well"


LETTER = """
insert into amends.dead_letters (projection, version, generation, partition, key, xid, position, stream, event, error)
select projection, version, generation, 0, 'TEA', '1', 1, 'stock-TEA', 'stock.received', 'no such column'
from amends.checkpoints where projection = 'customers' returning 1
"""

ALERT = """
insert into amends.projection_log (projection, version, generation, action, actor, reason)
values ('customers', 1, 1, %s, 'amends', 'parked: one event') returning 1
"""


async def test_given_what_waits_for_people_when_asked_then_each_is_named_until_somebody_sees_to_it(
    settings: Settings, run_worker: RunWorker
) -> None:
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    async with travelling(settings, run_worker) as trips:
        # given
        handle = await trips.start(book("stuck car"), book("full cruise"))

        async def parked() -> bool:
            return f"saga {handle.id}" in await told(settings)

        await until("it is parked", parked)
        await rows(url, LETTER)
        await rows(url, ALERT, "alert")
        # then
        found = await told(settings)
        assert "book stuck car" in found[f"saga {handle.id}"][1]
        assert found[f"saga {handle.id}"][2] == f"amends saga show {handle.id}"
        assert found["dead letters of customers"][1] == "1 events are parked"
        assert found["dead letters of customers"][2] == "amends views dead-letters list customers"
        assert found["alert of customers"][1] == "parked: one event"
        # when: somebody sees to them
        await amends("saga", "skip", handle.id, *WHO, settings=settings)
        await undone(handle)
        await rows(url, ALERT, "retry")
        await rows(url, "delete from amends.dead_letters returning 1")
        # then
        found = await told(settings)
        assert found["sagas"][0] == found["alerts"][0] == found["dead letters"][0] == "well"
