"""Connections that nobody else can read or take part in: TLS to PostgreSQL, mutual TLS and an API key to Temporal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from amends.connect import connect
from amends.database import open_pool
from amends.embedded import EmbeddedTemporal
from amends.errors import ServerFailed, StartupError, Unavailable
from amends.reader import Reader
from amends.settings import Settings
from read_models import order_history
from tests.edges.certificates import Authority, Issued
from tests.edges.encrypted import encrypted_postgres, encrypted_temporal

API_KEY = "swordfish-api-key"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def ours(folder: Path) -> Authority:
    return Authority(folder, "ours")


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Authority:
    return Authority(folder, "theirs")


@pytest.fixture
async def postgres(database_url: str, ours: Authority) -> AsyncIterator[str]:
    async with encrypted_postgres(database_url, ours.issue("postgres")) as url:
        yield url


def verified(url: str, authority: Authority, **more: str) -> str:
    return make_conninfo(url, sslmode="verify-full", sslrootcert=str(authority.cert), **more)


async def test_given_a_url_that_asks_for_tls_when_connected_then_it_is_encrypted_to_a_server_that_we_know(
    postgres: str, ours: Authority
) -> None:
    async with open_pool(verified(postgres, ours), "writer", 1) as pool, pool.connection() as connection:
        assert connection.pgconn.ssl_in_use
        assert await (await connection.execute("select current_user")).fetchone() == ("amends_writer",)
    async with Reader(verified(postgres, ours), 1) as reader:
        assert await reader.query(order_history.order("o1")) is None


async def test_given_a_server_of_another_authority_when_connected_then_the_error_says_that_it_is_not_trusted(
    postgres: str, theirs: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amends.database.CONNECT_SECONDS", 0.5)
    url = verified(postgres, theirs)
    with pytest.raises(ServerFailed, match=r"No connection to PostgreSQL at .*certificate verify failed"):
        async with open_pool(url, "writer", 1):
            pass
    async with Reader(url, 1) as reader:
        with pytest.raises(Unavailable, match="certificate verify failed"):
            await reader.query(order_history.order("o1"))


async def test_given_a_server_by_another_name_than_its_certificate_s_when_connected_then_it_is_not_trusted(
    postgres: str, ours: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amends.database.CONNECT_SECONDS", 0.5)
    elsewhere = verified(postgres, ours, host="db.example.org", hostaddr="127.0.0.1")
    with pytest.raises(ServerFailed, match="does not match host name"):
        async with open_pool(elsewhere, "writer", 1):
            pass


@pytest.fixture
async def address(temporal: EmbeddedTemporal, ours: Authority) -> AsyncIterator[str]:
    async with encrypted_temporal(temporal.address, ours.issue("temporal"), ours) as address:
        yield address


def shown(monkeypatch: pytest.MonkeyPatch, authority: Authority, client: Issued | None) -> None:
    """Say in Temporal's own environment whom to trust, and who we are."""
    monkeypatch.setenv("TEMPORAL_TLS", "true")
    monkeypatch.setenv("TEMPORAL_TLS_SERVER_CA_CERT_PATH", str(authority.cert))
    if client is not None:
        monkeypatch.setenv("TEMPORAL_TLS_CLIENT_CERT_PATH", str(client.cert))
        monkeypatch.setenv("TEMPORAL_TLS_CLIENT_KEY_PATH", str(client.key))


async def test_given_temporal_s_own_environment_when_connected_then_it_is_by_mutual_tls_with_the_api_key(
    address: str, ours: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    shown(monkeypatch, ours, ours.issue("client"))
    monkeypatch.setenv("TEMPORAL_API_KEY", API_KEY)
    # when
    client = await connect(Settings(temporal_address=address))
    # then: it answers, behind TLS that asks for a certificate
    assert (await client.count_workflows("WorkflowId = 'none'")).count == 0
    config = client.service_client.config
    assert config.api_key == API_KEY
    assert config.tls


@pytest.mark.parametrize("wrong", ["no certificate", "theirs", "they are theirs", "no tls"])
async def test_given_a_client_or_server_that_is_not_known_when_connected_then_it_is_refused_and_said_where_to_look(
    wrong: str, address: str, ours: Authority, theirs: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    if wrong != "no tls":
        client = {"no certificate": None, "theirs": theirs.issue("stranger"), "they are theirs": ours.issue("client")}
        shown(monkeypatch, theirs if wrong == "they are theirs" else ours, client[wrong])
    with pytest.raises(ServerFailed, match=rf"No Temporal server answers at {address} .*TEMPORAL_TLS") as refused:
        await connect(Settings(temporal_address=address))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("TEMPORAL_TLS_SERVER_CA_CERT_PATH", "/nowhere/ca.pem"), ("TEMPORAL_CONFIG_FILE", "/proc/self/mem")],
)
async def test_given_an_environment_of_temporal_s_that_can_not_be_read_when_connected_then_it_is_said(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_TLS", "true")
    monkeypatch.setenv(name, value)
    with pytest.raises(StartupError, match="Temporal's own environment"):
        await connect(Settings(temporal_address="127.0.0.1:1"))


def test_given_an_api_key_when_the_settings_are_shown_then_it_is_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_API_KEY", API_KEY)
    assert API_KEY not in repr(Settings(database_url=SecretStr("postgresql://a:b@c/d")))
