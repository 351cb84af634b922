"""Typos: forgiven where the database has pg_trgm. Runs on a PostgreSQL of this machine that brings the extension."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.dialects.postgresql.base import PGDialect

from amends.app import install
from amends.embedded import EmbeddedPostgres, cluster, free_port
from amends.projection import Projection
from amends.query import Query
from amends.reader import Reader
from amends.rebuild_request import RebuildRequest
from amends.rebuilding import rebuild
from app import app
from read_models.customer_profile import search_customers
from read_models.customers import customers
from read_models.product_catalog import catalog, product_search, search_products
from read_models.searching import typos_forgiven
from tests.conftest import FAST
from tests.read_models.past import NOON, Past, added, eur, registered

EXTENSION = Path("extension") / "pg_trgm.control"


def programs() -> Path | None:
    """The newest PostgreSQL of the machine with pg_trgm, as Debian lays them out."""
    extended = [folder.parents[1] for folder in Path("/usr/share/postgresql").glob(f"*/{EXTENSION}")]
    folders = [Path("/usr/lib/postgresql") / folder.name / "bin" for folder in sorted(extended, reverse=True)]
    return next((folder for folder in folders if (folder / "initdb").is_file()), None)


FOUND = programs()

pytestmark = pytest.mark.skipif(
    FOUND is None, reason="no PostgreSQL with pg_trgm on this machine (Debian: apt-get install postgresql)"
)


@pytest.fixture(scope="module")
def extended_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with pg_trgm, and then the shop's read models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "find_postgres", lambda: FOUND)
        server = EmbeddedPostgres(tmp_path_factory.mktemp("extended"), free_port(), options=FAST)
    try:
        server.start()
        server.wait_ready()
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("create extension pg_trgm")
        install(app, server.url)
        yield server.url
    finally:
        server.stop()


@pytest.fixture(scope="module")
async def forgiving(extended_url: str) -> AsyncIterator[Past]:
    """A shop with a catalogue and customers, in such a database."""
    async with Reader(extended_url, 2) as reader:
        past = Past(extended_url, reader)
        past.happened(NOON, added("TEA-1", "Assam, second flush", eur(1290)), added("TEA-2", "Darjeeling", eur(1890)))
        past.happened(NOON, added("TEA-3", "Lapsang Souchong, smoked", eur(1150)), added("CUP", "Glass cup", eur(1250)))
        past.happened(NOON, registered("ada", "Ada Lovelace", "countess@analytical.example"))
        past.happened(NOON, registered("grace", "Grace Hopper", "grace.hopper@navy.example"))
        yield past


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("assam", "TEA-1"),
        ("asam", "TEA-1"),
        ("assma", "TEA-1"),
        ("secnd flush", "TEA-1"),
        ("darjeelign", "TEA-2"),
        ("darjiling", "TEA-2"),
        ("souchon", "TEA-3"),
        ("lapsnag suchong", "TEA-3"),
        ("glas cpu", None),
        ("espresso", None),
        ("", None),
    ],
)
async def test_given_pg_trgm_when_a_product_is_searched_with_a_typo_then_what_was_meant_comes_first(
    forgiving: Past, typed: str, meant: str | None
) -> None:
    assert await forgiving.ask(typos_forgiven()) is True
    found = [row.sku for row in (await search_products(forgiving.ask, typed)).items]
    assert found[:1] == ([] if meant is None else [meant])


async def test_given_pg_trgm_when_a_customer_is_searched_with_a_typo_then_found(forgiving: Past) -> None:
    for typed, meant in (("lovelcae", "ada"), ("hoper", "grace"), ("gracce hopper", "grace"), ("contess", "ada")):
        assert [row.customer_id for row in (await search_customers(forgiving.ask, typed)).items] == [meant], typed


async def test_given_pg_trgm_when_a_word_is_spelled_right_then_it_comes_before_what_is_only_alike(
    forgiving: Past,
) -> None:
    forgiving.happened(NOON, added("ALIKE", "Assan", eur(1)))
    found = (await search_products(forgiving.ask, "assam")).items
    assert [row.sku for row in found] == ["TEA-1", "ALIKE"]
    page = await search_products(forgiving.ask, "assam", limit=1)
    rest = await search_products(forgiving.ask, "assam", limit=1, after=page.next)
    assert [row.sku for row in (*page.items, *rest.items)] == ["TEA-1", "ALIKE"]


async def test_given_pg_trgm_when_a_large_catalogue_is_searched_then_both_indexes_find_the_rows(
    forgiving: Past,
) -> None:
    await forgiving.sql(
        """
        insert into read_models.product_catalog_v2 (sku, name, words, price, currency, added_at, priced_at)
        select 'x' || n, 'x', md5(n::text) || ' ' || md5((-n)::text), 1, 'EUR', now(), now()
        from generate_series(1, 20000) as n returning 1
        """
    )
    with psycopg.connect(forgiving.url, autocommit=True) as connection:
        connection.execute("vacuum analyze read_models.product_catalog_v2")
    plan = await explained(forgiving, product_search("darjiling", typos=True))
    assert "_by_word" in plan
    assert "_by_letters" in plan
    assert "Seq Scan" not in plan
    plain = await explained(forgiving, product_search("darj"))
    assert "_by_word" in plain
    assert "Seq Scan" not in plain
    assert [row.sku for row in (await search_products(forgiving.ask, "darjiling")).items] == ["TEA-2"]


@pytest.mark.parametrize("projection", [customers, catalog], ids=lambda projection: projection.name)
async def test_given_pg_trgm_when_a_searched_read_model_is_rebuilt_then_it_has_its_index_of_letters_again(
    extended_url: str, projection: Projection
) -> None:
    request = RebuildRequest(name=projection.name, version=projection.version, actor="test", reason="test", accept=True)
    done = await rebuild(projection, extended_url, request)
    assert done.outcome == "swapped"
    with psycopg.connect(extended_url) as connection:
        built = f"{projection.name}%_g{done.generation}%letters%"
        found = connection.execute("select count(*) from pg_indexes where indexname like %s", (built,)).fetchone()
    assert found == (1,)


async def explained(past: Past, query: Query[Any]) -> str:
    dialect = PGDialect()  # type: ignore[no-untyped-call]
    compiled = query.statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    return "\n".join(line for (line,) in await past.sql(f"explain {compiled}"))
