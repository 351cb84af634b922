"""The log as a file, and back: another database shows the same, byte by byte, and goes on from there."""

from __future__ import annotations

import asyncio
import json
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection, sql
from pydantic import SecretStr

from amends.database import conninfo, open_pool
from amends.embedded import EmbeddedTemporal
from amends.errors import InvalidInput
from amends.exporting import DERIVED, TABLES
from amends.feed import Feed
from amends.handler import CommandHandler
from amends.reader import Reader
from amends.records import START
from amends.settings import Settings
from amends.store import EventStore
from app import app
from client import TooLate
from domain.stock import ReceiveStock, StockItem, StockReceived
from domain.values import Line
from read_models.order_changes import changes
from tests.cli.typing_in import amends
from tests.engine.readside_shop import append, connect
from tests.importing.legacy import customer, order, projected, rows, write
from tests.kernel.kernel_shop import context
from tests.sagas.shopping import card, transfer
from tests.sagas.till import open_till

TECHNICAL = {"feed_status", "projection_status", "dead_letters"}
"""Views of how things go here, not of what has happened."""

FEED = "select event_id, position, stream, version, recorded_at from amends.events order by xid, position"
STOOD = "select projection, xid::text::bigint, position from amends.checkpoints where projection = any(%s) order by 1"
VIEWS = "select table_name from information_schema.views where table_schema = 'views' order by 1"
KEPT = """
select column_name from information_schema.columns
where table_schema = 'views' and table_name = %s and column_name <> 'xid' order by ordinal_position
"""
"""All columns but the transaction ids: those are the cluster's own."""

TABLES_THERE = "select table_name from information_schema.tables where table_schema = 'amends' order by 1"


@dataclass(frozen=True)
class Exported:
    """A database, what its views show, and the file of its log."""

    url: str
    file: Path
    shown: dict[str, bytes]


async def shown(url: str) -> dict[str, bytes]:
    """What each view shows, as COPY writes it."""
    found = {}
    async with await AsyncConnection.connect(conninfo(url, "reader"), autocommit=True) as connection:
        for (name,) in await (await connection.execute(VIEWS)).fetchall():
            if name in TECHNICAL:
                continue
            columns = [
                sql.Identifier(column) for (column,) in await (await connection.execute(KEPT, (name,))).fetchall()
            ]
            query = sql.SQL("copy (select {} from views.{} t order by t::text) to stdout").format(
                sql.SQL(", ").join(columns), sql.Identifier(name)
            )
            async with connection.cursor().copy(query) as copy:
                found[name] = b"".join([bytes(block) async for block in copy])
    return found


def settings_of(url: str, home: Path) -> Settings:
    return Settings(home=home, database_url=SecretStr(url), temporal_address="127.0.0.1:1")


async def out_of_turn(url: str) -> None:
    """A transaction that is older than another one, and writes after it: positions fall in the feed's order."""
    async with connect(url, autocommit=False) as older, connect(url, autocommit=False) as younger:
        await older.execute(b"select pg_current_xact_id()")
        await append(younger, "stock-YOUNG", 0, StockReceived(sku="YOUNG", quantity=1))
        await younger.commit()
        await append(older, "stock-OLD", 0, StockReceived(sku="OLD", quantity=1))
        await older.commit()


@pytest.fixture(scope="module")
async def exported(
    postgres_url: str, template: str, temporal: EmbeddedTemporal, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    """A shop in which orders have ended in several ways, and its log."""
    folder = tmp_path_factory.mktemp("exported")
    async with open_till(app, postgres_url, template, temporal, folder / "amends") as till:
        completed, _ = await till.completed(2, 3)
        scarce = [Line(sku=await till.product(), quantity=99)]
        declined, short, regretted = await asyncio.gather(
            till.place(card("tok_declined")), till.place(card(), scarce), till.place(transfer())
        )
        with suppress(TooLate):
            await till.shop.cancel(regretted.order_id)
        for placed in (declined, short, regretted):
            await placed.result()
        await (await till.shop.refund_order(completed.order_id)).result()
        await out_of_turn(till.url)
        settings = settings_of(till.url, folder)
        imported = await amends(
            "import", str(write(folder / "f.jsonl", [customer("Zoë"), order(1, "Zoë")])), settings=settings
        )
        assert imported.exit_code == 0, imported.stderr
    await projected(till.url)
    # one process manager has reacted to everything, the other to nothing
    moved = "update amends.checkpoints set xid = (select max(xid) from amends.events), position = 1000000000"
    await rows(till.url, f"{moved} where projection = 'leasing' returning 1")
    file = folder / "log.jsonl"
    done = await amends("export", str(file), settings=settings)
    assert done.exit_code == 0, done.stderr
    return Exported(till.url, file, await shown(till.url))


@pytest.fixture
def here(database_url: str, tmp_path: Path) -> Settings:
    """Settings of an empty database."""
    return settings_of(database_url, tmp_path)


async def test_views_are_the_same_byte_by_byte_and_the_feed_has_the_same_order(
    exported: Exported, here: Settings, database_url: str
) -> None:
    # given: an export of all kinds of endings, in which positions fall
    statuses = "select distinct status || coalesce(': ' || reason, '') from views.order_history order by 1"
    endings = [status for (status,) in await rows(exported.url, statuses)]
    assert {"refunded", "completed", "cancelled: PaymentDeclined", "cancelled: OutOfStock"} <= set(endings)
    before = await rows(exported.url, FEED)
    positions = [row[1] for row in before]
    assert positions != sorted(positions)
    # when
    done = await amends("restore", str(exported.file), settings=here)
    # then
    assert done.exit_code == 0, done.stderr
    assert await rows(database_url, FEED) == before
    await projected(database_url)
    again = await shown(database_url)
    assert again.keys() == exported.shown.keys()
    assert {name for name, text in again.items() if text} >= {
        "order_history",
        "order_timeline",
        "inventory_levels",
        "product_catalog",
        "customers",
        "saga_runs",
        "saga_steps",
    }
    assert [name for name in again if again[name] != exported.shown[name]] == []
    # and: readers see all of it, and process managers go on where they stood
    async with open_pool(database_url, "projector", 1) as pool:
        assert [row.event_id for row in await Feed(pool).read(START, 10_000)] == [row[0] for row in before]
    last = await rows(database_url, "select xid::text::bigint, position from amends.events order by xid, position")
    assert await rows(database_url, STOOD, ["leasing", "replenishing"]) == [
        ("leasing", *last[-1]),
        ("replenishing", 0, 0),
    ]


async def test_a_watcher_s_cursor_goes_on_where_it_was_made_and_is_refused_where_the_log_was_restored(
    exported: Exported, here: Settings, database_url: str
) -> None:
    # given: somebody has watched an order until its last change
    [(order_id,)] = await rows(exported.url, "select order_id from views.order_history where status = 'refunded'")
    async with Reader(exported.url, 1) as reader:
        seen = await reader.changes(changes, order_id, START, 20)
        cursors = [change.cursor for change in seen]
        assert len(set(cursors)) == len(seen) > 3
        for number in (0, 2):
            after = await reader.resume(cursors[number])
            assert await reader.changes(changes, order_id, after, 20) == seen[number + 1 :]
    # when: the log is restored, in the same cluster
    assert (await amends("restore", str(exported.file), settings=here)).exit_code == 0
    await projected(database_url)
    async with Reader(database_url, 1) as reader:
        # then
        for cursor in cursors:
            with pytest.raises(InvalidInput, match=r"after: .* is a place in another log"):
                await reader.resume(cursor)
        again = await reader.changes(changes, order_id, START, 20)
        assert [each.event for each in again] == [each.event for each in seen]
        assert await reader.resume(again[0].cursor) == again[0].position


async def test_work_goes_on_after_it_and_what_was_done_is_not_done_again(
    exported: Exported, here: Settings, database_url: str, tmp_path: Path
) -> None:
    # given
    assert (await amends("restore", str(exported.file), settings=here)).exit_code == 0
    query = "select command_id, payload from amends.commands where name = 'stock.receive' order by number limit 1"
    [(command_id, payload)] = await rows(database_url, query)
    async with open_pool(database_url, "writer", 2) as pool:
        handler = CommandHandler(EventStore(pool), [StockItem])
        # when: an old command comes again, and a new one
        old = await handler.handle(ReceiveStock(**payload), context(command_id))
        new = await handler.handle(ReceiveStock(**payload), context())
    # then
    assert (old.repeated, new.repeated) == (True, False)
    assert new.version > old.version
    assert await rows(database_url, f"select stream from ({FEED}) f order by position desc limit 1") == [(new.stream,)]
    assert (await rows(database_url, FEED))[-1][1] == new.position.number, "it is the last in the feed, too"
    # and: an import that was done there is done here
    again = await amends(
        "import", str(write(tmp_path / "f.jsonl", [customer("Zoë"), order(1, "Zoë")])), "--json", settings=here
    )
    assert json.loads(again.stdout)["already"] == 2
    # and: a claimed address is still claimed
    taken = write(tmp_path / "g.jsonl", [customer("other", email="Zoë@example.org")])
    assert json.loads((await amends("import", str(taken), "--json", settings=here)).stdout)["rejected"] == 1


async def test_the_file_is_the_same_when_it_is_exported_again_but_for_transaction_ids(
    exported: Exported, here: Settings, tmp_path: Path
) -> None:
    assert (await amends("restore", str(exported.file), settings=here)).exit_code == 0
    assert (await amends("export", str(tmp_path / "again.jsonl"), settings=here)).exit_code == 0

    def lines(path: Path) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in path.read_text().splitlines()[1:]]
        for line in found:
            line["row"].pop("xid", None)
        return found

    assert lines(tmp_path / "again.jsonl") == lines(exported.file)


async def test_a_log_with_more_transactions_than_this_cluster_has_had_is_restored_all_the_same(
    exported: Exported, here: Settings, database_url: str, tmp_path: Path
) -> None:
    [(had,)] = await rows(database_url, "select pg_current_xact_id()::text::bigint")
    header, rest = exported.file.read_bytes().split(b"\n", 1)
    many = json.loads(header) | {"transactions": had + 10_000}
    (tmp_path / "long.jsonl").write_bytes(json.dumps(many).encode() + b"\n" + rest)
    assert (await amends("restore", str(tmp_path / "long.jsonl"), settings=here)).exit_code == 0
    assert await rows(database_url, FEED) == await rows(exported.url, FEED)
    async with open_pool(database_url, "projector", 1) as pool:
        assert len(await Feed(pool).read(START, 10_000)) == len(await rows(database_url, FEED))


async def test_only_its_owner_may_read_the_file(exported: Exported) -> None:
    assert stat.S_IMODE(exported.file.stat().st_mode) == 0o600


async def test_a_database_that_is_not_empty_is_refused(exported: Exported, here: Settings, database_url: str) -> None:
    await out_of_turn(database_url)
    before = await rows(database_url, FEED)
    done = await amends("restore", str(exported.file), settings=here)
    assert done.exit_code == 2
    assert "is not empty" in done.stderr
    assert await rows(database_url, FEED) == before


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (lambda text: b"", "not the header of an exported log"),
        (lambda text: b"{}\n" + text, "not the header of an exported log"),
        (lambda text: text.replace(b'"format":1', b'"format":99', 1), "this code reads 1"),
        (lambda text: text.replace(b'"trace"', b'"tracery"', 1), "tracery in events, which this one has not"),
        (lambda text: text[: len(text) // 2], "was changed or cut off"),
        (lambda text: text[: text.rindex(b"\n", 0, len(text) // 2) + 1], "it was cut off"),
        (lambda text: text.rsplit(b"\n", 2)[0] + b"\n" + text.splitlines()[1] + b"\n", "are not as they were exported"),
    ],
)
async def test_a_file_that_is_no_whole_log_leaves_the_database_empty(
    broken: Any, told: str, exported: Exported, here: Settings, database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "broken.jsonl"
    file.write_bytes(broken(exported.file.read_bytes()))
    done = await amends("restore", str(file), settings=here)
    assert done.exit_code == 2, done.stderr
    assert told in " ".join(done.stderr.split())
    assert await rows(database_url, "select count(*) from amends.events") == [(0,)]
    assert await rows(database_url, "select count(*) from amends.commands") == [(0,)]


async def test_every_table_of_the_engine_is_exported_or_said_to_be_derived(database_url: str) -> None:
    there = {name for (name,) in await rows(database_url, TABLES_THERE)}
    assert there == set(TABLES) | DERIVED
