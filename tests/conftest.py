"""Real servers, started once a session: PostgreSQL and Temporal; a database and a task queue for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import hypothesis
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr
from temporalio.worker import Worker

from amends.app import App, install
from amends.connect import connect
from amends.embedded import EmbeddedPostgres, EmbeddedTemporal, free_port
from amends.logs import configure_logs
from amends.settings import Settings
from amends.visibility import SEARCH_ATTRIBUTES
from amends.worker import open_worker, start_followers
from app import app as shop_app

hypothesis.settings.register_profile("thorough", max_examples=1000)  # pytest --hypothesis-profile thorough

FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
"""Facts of a test need not survive the machine."""


@pytest.fixture(scope="session", autouse=True)
def logs() -> None:
    """Logs go to standard error, warnings and worse only."""
    configure_logs(Settings(log_level="warning"))


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL of this session; the login is its superuser."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), free_port(), options=FAST)
    try:
        server.start()
        server.wait_ready()
        yield server.url
    finally:
        server.stop()


@pytest.fixture(scope="session")
def temporal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTemporal]:
    """A Temporal server of this session, with the shop's search attributes."""
    attributes = {**SEARCH_ATTRIBUTES, **shop_app.search_attributes}
    server = EmbeddedTemporal(
        tmp_path_factory.mktemp("temporal"),
        free_port(),
        None,
        db_path=None,
        search_attributes=attributes,
        time_skipping=True,
    )
    try:
        server.start()
        server.wait_ready()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def template(postgres_url: str) -> str:
    """Name of a database with the shop's schema, to copy."""
    name = f"template_{uuid4().hex[:8]}"
    _execute(postgres_url, sql.SQL("create database {}").format(sql.Identifier(name)))
    install(shop_app, _database(postgres_url, name))
    return name


@pytest.fixture
def database_url(postgres_url: str, template: str) -> Iterator[str]:
    """A database of this test: migrated, the shop's read models installed, empty."""
    name = f"test_{uuid4().hex}"
    copy = sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template))
    _execute(postgres_url, copy)
    yield _database(postgres_url, name)
    _execute(postgres_url, sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def settings(database_url: str, temporal: EmbeddedTemporal, tmp_path: Path) -> Settings:
    """Settings of this test: its database, a task queue of its own."""
    return Settings(
        home=tmp_path / "amends",
        database_url=SecretStr(database_url),
        temporal_address=temporal.address,
        task_queue=f"test-{uuid4().hex}",
        drain_seconds=5,
    )


RunWorker = Callable[..., AbstractAsyncContextManager[Worker]]


@pytest.fixture
def run_worker(settings: Settings) -> RunWorker:
    """`async with run_worker(app):` runs a worker of an app in this process, with all that follows the feed."""

    @asynccontextmanager
    async def run(app: App = shop_app, settings: Settings = settings) -> AsyncIterator[Worker]:
        client = await connect(settings)
        async with open_worker(app, settings, client) as worker:
            running = asyncio.create_task(worker.run())
            await start_followers(app, settings, client)
            try:
                yield worker
            finally:
                await worker.shutdown()
                await running

    return run


def _execute(url: str, statement: sql.Composed) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def _database(url: str, name: str) -> str:
    return make_conninfo(url, dbname=name)
