"""Code and schema that don't go together are told so, by an error of its own kind: worker, client, migration."""

from __future__ import annotations

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from pydantic import SecretStr

from amends.connect import connect
from amends.database import conninfo
from amends.errors import DowngradeRefused, SchemaTooNew, SchemaTooOld, StartupError
from amends.revisions import MARK, head, known
from amends.schema import migrate, owner_engine
from amends.settings import Settings
from amends.worker import open_worker
from app import app as shop_app
from client import Shop
from read_models import order_history

TOMORROW = "9999"


def migrated_by_newer_code(url: str) -> None:
    with psycopg.connect(conninfo(url, "owner")) as connection:
        connection.execute("update amends.alembic_version set version_num = %s", (TOMORROW,))
        connection.execute(MARK.format(TOMORROW).encode())


def schema_of(url: str) -> tuple[str]:
    with psycopg.connect(conninfo(url, "owner")) as connection:
        row = connection.execute("select version_num from amends.alembic_version").fetchone()
    assert row is not None
    return row


def url_of(settings: Settings) -> str:
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()


async def test_given_a_database_of_newer_code_when_a_worker_starts_then_it_says_so_and_takes_no_work(
    settings: Settings,
) -> None:
    migrated_by_newer_code(url_of(settings))
    with pytest.raises(SchemaTooNew, match=rf"revision {TOMORROW}, and this code knows revisions up to {head()}"):
        async with open_worker(shop_app, settings, await connect(settings)):
            pytest.fail("it would take work")


async def test_given_a_database_of_newer_code_when_a_client_asks_then_it_says_so(settings: Settings) -> None:
    migrated_by_newer_code(url_of(settings))
    async with await Shop.connect(settings) as shop:
        for _ in range(2):
            with pytest.raises(SchemaTooNew, match="Deploy that code here, too"):
                await shop.query(order_history.orders_of("ann"))


def test_given_a_database_of_newer_code_when_migrated_then_it_says_so_and_nothing_is_changed(database_url: str) -> None:
    migrated_by_newer_code(database_url)
    with pytest.raises(SchemaTooNew, match=TOMORROW), owner_engine(database_url).begin() as connection:
        migrate(connection)
    assert schema_of(database_url) == (TOMORROW,)


async def test_given_a_database_that_is_not_migrated_far_enough_when_a_worker_starts_then_it_says_what_to_do(
    settings: Settings, postgres_url: str
) -> None:
    with psycopg.connect(conninfo(url_of(settings), "owner")) as connection:
        connection.execute(MARK.format(known()[0]).encode())
    empty = settings.model_copy(update={"database_url": SecretStr(postgres_url)})
    for told, where in ((f"is at revision {known()[0]}", settings), ("is not made yet", empty)):
        with pytest.raises(SchemaTooOld, match=f"{told}.*amends migrate"):
            async with open_worker(shop_app, where, await connect(where)):
                pytest.fail("it would take work")


@pytest.mark.parametrize("target", ["-1", "0001", "base"])
def test_given_a_schema_when_it_is_to_be_taken_back_then_that_is_refused_and_nothing_is_changed(
    target: str, database_url: str
) -> None:
    config = Config()
    config.set_main_option("script_location", "amends:migrations")
    refused = pytest.raises(DowngradeRefused, match=f"at revision {head()} and is not taken back")
    with refused, owner_engine(database_url).begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, target)
    assert schema_of(database_url) == (head(),)


def test_given_alembic_itself_when_run_then_it_says_which_command_migrates() -> None:
    config = Config()
    config.set_main_option("script_location", "amends:migrations")
    with pytest.raises(StartupError, match="amends migrate"):
        command.upgrade(config, "head")


def test_given_a_migration_when_it_stops_early_then_it_goes_on_later_but_never_back(postgres_url: str) -> None:
    with owner_engine(postgres_url).connect() as connection:
        migrate(connection, "0003")
        migrate(connection)
        with pytest.raises(DowngradeRefused, match="to 0003"):
            migrate(connection, "0003")
        connection.rollback()
