"""The catalogue: price, what is there, what is no longer sold; and finding products whatever somebody types."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import given as for_all
from hypothesis import strategies as st
from sqlalchemy import Connection

from amends.query import Query
from amends.schema import owner_engine
from amends.testing import given
from domain.product import PriceChanged, ProductDiscontinued
from domain.stock import StockCommitted, StockLapsed, StockReceived, StockReleased, StockReserved
from read_models.product_catalog import (
    catalog,
    catalogue,
    product_page,
    product_search,
    products,
    search_products,
)
from read_models.searching import folded, typos_forgiven
from tests.read_models.past import NOON, Past, added, eur, usd

HOUR = timedelta(hours=1)

tea = added("TEA", "Tea", eur(450))
came = StockReceived(sku="TEA", quantity=10)
promised = StockReserved(sku="TEA", reservation_id="o1", quantity=4)


def test_given_a_product_when_its_price_changes_then_the_new_one_counts_and_the_rest_stays() -> None:
    case = given(catalog).when(tea, recorded_at=NOON)
    case.then_row(*(catalogue, "TEA"), name="Tea", price=450, currency="EUR", discontinued=False, available=0)
    case.then_row(catalogue, "TEA", added_at=NOON, priced_at=NOON, discontinued_at=None, words="tea tea")
    case = case.when(PriceChanged(sku="TEA", price=eur(500)), recorded_at=NOON + HOUR)
    case.then_row(catalogue, "TEA", name="Tea", price=500, currency="EUR", added_at=NOON, priced_at=NOON + HOUR)


def test_given_a_product_when_it_is_discontinued_then_it_stays_in_the_catalogue_marked_so() -> None:
    case = given(catalog, tea).when(ProductDiscontinued(sku="TEA"), recorded_at=NOON)
    case.then_row(catalogue, "TEA", name="Tea", price=450, discontinued=True, discontinued_at=NOON)
    case.then_no_row(catalogue, "CUP")


def test_given_goods_when_they_are_promised_given_up_and_leave_then_what_is_available_follows() -> None:
    case = given(catalog, tea).when(came, promised).then_row(catalogue, "TEA", available=6)
    for end in (StockReleased, StockLapsed):
        case.when(end(sku="TEA", reservation_id="o1", quantity=4)).then_row(catalogue, "TEA", available=10)
    case.when(StockCommitted(sku="TEA", reservation_id="o1", quantity=4)).then_row(catalogue, "TEA", available=6)


async def test_given_products_when_asked_for_then_each_tells_whether_it_can_be_ordered_now(past: Past) -> None:
    past.happened(
        NOON, tea, came, added("CUP", "Cup", eur(1250)), added("OLD", "Old", usd(1)), ProductDiscontinued(sku="OLD")
    )
    past.happened(NOON, StockReceived(sku="OLD", quantity=5), StockReceived(sku="NOBODYS", quantity=5))
    rows = await past.ask(products(["TEA", "CUP", "OLD", "NOBODYS", "NONE"]))
    told = {row.sku: (row.available, row.discontinued, row.in_stock) for row in rows}
    assert told == {"TEA": (10, False, True), "CUP": (0, False, False), "OLD": (5, True, False)}

    async def skus(**filters: object) -> list[str]:
        return [row.sku for row in (await past.ask(product_page(**filters))).items]  # type: ignore[arg-type]

    assert await skus() == ["CUP", "OLD", "TEA"]
    assert await skus(discontinued=False) == ["CUP", "TEA"]
    assert await skus(in_stock=True) == ["TEA"]
    assert await skus(in_stock=False, discontinued=False) == ["CUP"]
    assert await skus(currency="USD") == ["OLD"]
    page = await past.ask(product_page(limit=2))
    assert await skus(limit=2, after=page.next) == ["TEA"]


# Searching

STRANGE = [
    *("", " ", "' or 1=1 --", "a & | ! ( <-> :*", "%", "\\", "\0", "\ud800", "٣ 木 ﷺ"),
    *("tea" * 3000, "a " * 5000),
]
"""What people, and programs, type."""


def shelves(past: Past) -> None:
    past.happened(NOON, added("TEA-ASSAM", "Assam, second flush, 250 g", eur(1290)))
    past.happened(NOON, added("TEA-DARJEELING", "Darjeeling, first flush, 100 g", eur(1890)))
    past.happened(NOON, added("TEA-PUERH", "Pu-erh cake, aged, 357 g", eur(4900)))
    past.happened(NOON, added("CUP-TEA", "Tea cup, glass", eur(1250)), added("CREME", "Crème brûlée dish", eur(900)))
    past.happened(NOON, added("OLD-TEA", "Old tea", eur(1)), ProductDiscontinued(sku="OLD-TEA"))


async def found(past: Past, words: str, **options: object) -> list[str]:
    return [row.sku for row in (await past.ask(product_search(words, **options))).items]  # type: ignore[arg-type]


async def test_given_products_when_searched_by_words_then_beginnings_do_in_any_order_case_and_accent(
    past: Past,
) -> None:
    shelves(past)
    for words in ("assam", "ASS", "flush assam", "Assam tea", "tea-assam", "second, 250"):
        assert await found(past, words) == ["TEA-ASSAM"], words
    assert set(await found(past, "flush")) == {"TEA-ASSAM", "TEA-DARJEELING"}
    assert await found(past, "creme brulee") == await found(past, "CRÈME BRÛLÉE") == ["CREME"]
    assert await found(past, "pu-erh") == await found(past, "puerh") == ["TEA-PUERH"]
    assert await found(past, "ssam") == await found(past, "assam cup") == await found(past, "old") == []
    assert await found(past, "old", discontinued=None) == await found(past, "tea", discontinued=True) == ["OLD-TEA"]


async def test_given_products_when_several_fit_then_the_one_that_says_it_most_comes_first_and_pages_go_on_from_there(
    past: Past,
) -> None:
    shelves(past)
    past.happened(NOON, added("TEA-TEA", "Tea for tea", eur(1)))
    every = await past.ask(product_search("tea"))
    ranks = [row.rank for row in every.items]
    assert every.items[0].sku == "TEA-TEA"
    assert ranks == sorted(ranks, reverse=True)
    walked: list[str] = []
    after = None
    while not walked or after:
        page = await past.ask(product_search("tea", limit=2, after=after))
        walked += [row.sku for row in page.items]
        after = page.next
    assert walked == [row.sku for row in every.items]
    assert len(walked) == 5


async def test_given_any_text_when_it_is_searched_for_then_there_is_an_answer(past: Past, database_url: str) -> None:
    shelves(past)
    engine = owner_engine(database_url)
    with engine.connect() as connection:

        @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
        @for_all(st.text(max_size=60))
        def check(words: str) -> None:
            asked(connection, product_search(words))

        check()
        for words in (
            "",
            " ",
            "' or 1=1 --",
            "a & | ! ( <-> :*",
            "\0",
            "\ud800",
            "tea" * 3000,
            "a " * 5000,
            "%",
            "\\",
            "٣ 木 ﷺ",
        ):
            asked(connection, product_search(words))
    engine.dispose()
    assert await found(past, "") == await found(past, "!?") == []


def asked(connection: Connection, query: Query[Any]) -> Any:
    return query.read([dict(row) for row in connection.execute(query.statement).mappings()])


def test_given_words_when_folded_then_small_letters_and_digits_without_accents_are_left() -> None:
    assert folded("  Crème-Brûlée (Ø 12,5 cm) ") == "creme brulee ø 12 5 cm"
    assert folded("STRAẞE straße ﬁn ℡ ½") == "strasse strasse fin tel 1 2"
    assert folded("\0\ud800'&|!:*\\") == ""


async def test_given_a_database_without_pg_trgm_when_searched_then_words_spelled_right_are_found_all_the_same(
    past: Past,
) -> None:
    shelves(past)
    assert await past.ask(typos_forgiven()) is False
    assert [row.sku for row in (await search_products(past.ask, "assam")).items] == ["TEA-ASSAM"]
    assert (await search_products(past.ask, "asam")).items == []
    assert await past.sql("select count(*) from pg_indexes where indexname like '%letters'") == [(0,)]
