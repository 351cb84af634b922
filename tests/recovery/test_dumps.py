"""A dump that is restored into another cluster: nobody skips anything, and nobody writes before it fits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from amends.connect import connect as to_temporal
from amends.database import open_pool
from amends.embedded import EmbeddedPostgres, EmbeddedTemporal
from amends.errors import InvalidInput, StartupError
from amends.feed import Feed
from amends.records import START
from amends.settings import Settings
from amends.transactions import Ids, advance
from amends.worker import open_worker
from app import app
from domain.stock import StockReceived
from tests.cli.typing_in import amends
from tests.engine.readside_shop import append, connect
from tests.importing.legacy import customer, projected, rows, write
from tests.recovery.clusters import cluster, dump, program, restored

XIDS = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
ORDER = "select event_id from amends.events order by xid, position"
STOOD = "select projection, xid::text, position, dead_letters from amends.checkpoints order by 1, 2, 3"
PLACES = "select xid, position from views.inventory_movements order by 1, 2"
BURN = "do $$ begin for n in 1..{} loop perform pg_current_xact_id(); commit; end loop; end $$"


def settings_of(url: str, home: Path, temporal: EmbeddedTemporal | None = None) -> Settings:
    address = "127.0.0.1:1" if temporal is None else temporal.address
    return Settings(home=home, database_url=SecretStr(url), temporal_address=address, task_queue=f"test-{home.name}")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """Another cluster, which counts its transactions from the beginning."""
    with cluster(tmp_path_factory.mktemp("elsewhere")) as server:
        yield server


@pytest.fixture
async def dumped(database_url: str, elsewhere: EmbeddedPostgres, tmp_path: Path) -> tuple[Path, Path]:
    """A log whose transactions are another cluster's future, dumped, and the cluster's roles."""
    [(there,)] = await rows(elsewhere.url, XIDS)
    async with connect(database_url) as connection:
        await connection.execute(BURN.format(int(there) + 5_000).encode())
        for number in range(3):
            await append(connection, f"stock-OLD{number}", 0, StockReceived(sku=f"OLD{number}", quantity=1))
    await projected(database_url)
    roles = tmp_path / "roles.sql"
    program("pg_dumpall", "--roles-only", "--no-role-passwords", f"--file={roles}", url=database_url)
    return dump(database_url, tmp_path / "shop.dump"), roles


@pytest.fixture
def brought(dumped: tuple[Path, Path], elsewhere: EmbeddedPostgres, tmp_path: Path) -> tuple[str, Settings]:
    """The dump, restored in the other cluster."""
    url = brought_to(elsewhere.url, *dumped)
    return url, settings_of(url, tmp_path)


def brought_to(cluster_url: str, file: Path, roles: Path) -> str:
    """Restore a dump into a new database of a cluster, as docs/recovery.md says."""
    program("psql", f"--file={roles}", url=cluster_url)
    name = f"restored_{uuid4().hex[:8]}"
    program("createdb", name, url=cluster_url)
    url = make_conninfo(cluster_url, dbname=name)
    restored(file, url)
    return url


async def test_a_dump_in_another_cluster_is_found_refused_to_writers_and_advanced_so_that_nothing_is_skipped(
    brought: tuple[str, Settings], database_url: str, tmp_path: Path, temporal: EmbeddedTemporal
) -> None:
    # given: what was dumped is not shown there, for it is that cluster's future
    url, settings = brought
    before, stood = await rows(database_url, ORDER), await rows(database_url, STOOD)
    async with open_pool(url, "projector", 1) as pool:
        assert await Feed(pool).read(START, 100) == []
    # then: it is told, and nobody may write yet
    told = await amends("doctor", settings=settings)
    assert told.exit_code == 1
    assert "restored from another cluster" in " ".join(told.stdout.split())
    here = settings_of(url, tmp_path, temporal)
    with pytest.raises(StartupError, match="run `amends advance` first"):
        async with open_worker(app, here, await to_temporal(here)):
            pass
    refused = await amends("import", str(write(tmp_path / "f.jsonl", [customer("Zoë")])), settings=settings)
    assert (refused.exit_code, "amends advance" in refused.stderr) == (2, True), refused.stderr
    assert await rows(url, ORDER) == before
    # when
    done = await amends("advance", settings=settings)
    # then: the same events in the same order, the readers where they stood, the rows with their places
    assert done.exit_code == 0, done.stderr
    assert await rows(url, STOOD) == stood
    assert await rows(url, PLACES) == await rows(database_url, PLACES)
    async with open_pool(url, "projector", 1) as pool:
        feed = Feed(pool)
        known = await feed.read(START, 100)
        assert [(row.event_id,) for row in known] == before
        # and: what comes now comes after it, on old streams and on new ones
        async with connect(url) as connection:
            await append(connection, "stock-OLD0", 1, StockReceived(sku="OLD0", quantity=1))
            await append(connection, "stock-NEW", 0, StockReceived(sku="NEW", quantity=1))
        assert [row.stream for row in await feed.read(known[-1].position, 100)] == ["stock-OLD0", "stock-NEW"]
    # and: read models take it up from where they stood
    await projected(url)
    levels = "select sku, on_hand from views.inventory_levels order by sku"
    assert await rows(url, levels) == [("NEW", 1), ("OLD0", 2), ("OLD1", 1), ("OLD2", 1)]
    # and: a second time there is nothing to do
    again = await amends("advance", settings=settings)
    assert "0 transaction ids have passed" in again.stderr


async def test_what_was_written_too_early_is_counted_for_readers_have_passed_it(brought: tuple[str, Settings]) -> None:
    url, settings = brought
    async with connect(url) as connection:
        await append(connection, "stock-EARLY", 0, StockReceived(sku="EARLY", quantity=1))
    done = await amends("advance", settings=settings)
    assert "1 events were written before that" in " ".join(done.stderr.split())


async def test_too_many_are_refused_with_a_way_out(database_url: str) -> None:
    with (
        psycopg.connect(database_url, autocommit=True) as connection,
        pytest.raises(InvalidInput, match=r"pg_resetwal --epoch=5`.*amends export"),
    ):
        advance(connection, past=4 << 32)


async def test_a_log_of_this_cluster_is_never_ahead(database_url: str) -> None:
    async with connect(database_url) as connection:
        await append(connection, "stock-TEA", 0, StockReceived(sku="TEA", quantity=1))
    [(known,)] = await rows(database_url, "select max(xid)::text::bigint from amends.events")
    [(following,)] = await rows(database_url, XIDS)
    assert not Ids(known, following).ahead
    assert Ids(following, following).ahead


async def test_the_epoch_of_a_stopped_server_can_be_raised_instead(
    dumped: tuple[Path, Path], database_url: str, tmp_path: Path
) -> None:
    """`pg_resetwal --epoch`, as the refusal advises: for logs with more transactions than can be let pass."""
    with cluster(tmp_path / "fresh") as server:
        server.stop()
        made = server._cluster
        made._run(made.launch("pg_resetwal", "--epoch=5", str(made.data)))
        server.start()
        server.wait_ready()
        assert (await rows(server.url, XIDS))[0][0] > 5 << 32
        url = brought_to(server.url, *dumped)
        async with open_pool(url, "projector", 1) as pool:
            feed = Feed(pool)
            known = await feed.read(START, 100)
            assert [(row.event_id,) for row in known] == await rows(database_url, ORDER)
            async with connect(url) as connection:
                await append(connection, "stock-NEW", 0, StockReceived(sku="NEW", quantity=1))
            assert [row.stream for row in await feed.read(known[-1].position, 100)] == ["stock-NEW"]
