"""What is sold: price, whether it is there, whether it still is sold; and finding it by words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlalchemy import BigInteger, Boolean, Column, DateTime, Text, select, type_coerce

from amends import Recorded
from amends.asking import PAGE, AnyText, Limit, checked
from amends.changes import Rows
from amends.paging import Page, paged
from amends.projection import Projection
from amends.query import Query, many
from domain.product import PriceChanged, ProductAdded, ProductDiscontinued
from domain.stock import StockLapsed, StockReceived, StockReleased, StockReserved
from read_models.searching import NO_TYPOS, document, folded, matching, trigram_index, typos_forgiven, word_index

__all__ = ["FoundProduct", "ProductRow", "catalog", "product_page", "product_search", "products", "search_products"]

WORDS = "coalesce(words, '')"

catalog = Projection("product_catalog", version=2)

catalogue = catalog.table(
    "product_catalog",
    Column("sku", Text, primary_key=True, comment="The product."),
    Column("name", Text, comment="What customers read; null until the product is added, though goods may have come."),
    Column("price", BigInteger, comment="For one piece, in minor units."),
    Column("currency", Text, comment="ISO 4217 currency of the price."),
    Column("discontinued", Boolean, nullable=False, default=False, comment="No longer sold."),
    Column("available", BigInteger, nullable=False, default=0, comment="Pieces that can still be reserved."),
    Column("added_at", DateTime(timezone=True), comment="When it was added to the catalogue."),
    Column("priced_at", DateTime(timezone=True), comment="Since when it has this price."),
    Column("discontinued_at", DateTime(timezone=True), comment="Since when it is no longer sold."),
    Column("words", Text, comment="Its name and SKU as searches see them: small letters and digits, no accents."),
    word_index("product_catalog_by_word", WORDS),
    trigram_index("product_catalog_by_letters", "words"),
    comment="One row a product: name, price, how many are available, whether it is sold.",
    computed={
        "in_stock": ("not discontinued and added_at is not null and available > 0", "Whether it can be ordered now."),
        "document": (document(WORDS), "What full-text searches find it by: document @@ to_tsquery('simple', 'tea:*')."),
    },
)


@catalog.on(ProductAdded, key="sku")
def added(event: ProductAdded, fact: Recorded, rows: Rows) -> None:
    """A product is on sale."""
    rows(catalogue, event.sku).set(
        name=event.name,
        price=event.price.amount,
        currency=event.price.currency,
        added_at=fact.recorded_at,
        priced_at=fact.recorded_at,
        words=folded(f"{event.name} {event.sku}"),
    )


@catalog.on(PriceChanged, key="sku")
def repriced(event: PriceChanged, fact: Recorded, rows: Rows) -> None:
    """A product has another price."""
    rows(catalogue, event.sku).set(price=event.price.amount, currency=event.price.currency, priced_at=fact.recorded_at)


@catalog.on(ProductDiscontinued, key="sku")
def discontinued(event: ProductDiscontinued, fact: Recorded, rows: Rows) -> None:
    """A product is no longer sold."""
    rows(catalogue, event.sku).set(discontinued=True, discontinued_at=fact.recorded_at)


@catalog.on(StockReceived, key="sku")
def received(event: StockReceived, fact: Recorded, rows: Rows) -> None:
    """Goods came in. When they leave it changes nothing: they were promised before."""
    rows(catalogue, event.sku).add(available=event.quantity)


@catalog.on(StockReserved, key="sku")
def reserved(event: StockReserved, fact: Recorded, rows: Rows) -> None:
    """Goods were promised."""
    rows(catalogue, event.sku).add(available=-event.quantity)


@catalog.on(StockReleased, key="sku")
def released(event: StockReleased, fact: Recorded, rows: Rows) -> None:
    """A promise was taken back."""
    rows(catalogue, event.sku).add(available=event.quantity)


@catalog.on(StockLapsed, key="sku")
def lapsed(event: StockLapsed, fact: Recorded, rows: Rows) -> None:
    """A promise was forgotten about."""
    rows(catalogue, event.sku).add(available=event.quantity)


class ProductRow(BaseModel):
    """A product as `views.product_catalog` shows it; the price in minor units."""

    sku: str
    name: str
    price: int
    currency: str
    discontinued: bool
    available: int
    in_stock: bool
    added_at: datetime
    priced_at: datetime
    discontinued_at: datetime | None


class FoundProduct(ProductRow):
    """A product that was searched for, and how well it fits: more is better."""

    rank: float


_catalog = catalog.view("product_catalog")
_shown = [_catalog.c[name] for name in ProductRow.model_fields]
_added = _catalog.c.added_at.is_not(None)  # goods that came in for a product nobody has added have left a row


@checked
def products(skus: Sequence[str]) -> Query[list[ProductRow]]:
    """The products with these SKUs, as far as there are any."""
    return many(select(*_shown).where(_added, _catalog.c.sku.in_(skus)).order_by(_catalog.c.sku), ProductRow)


@checked
def product_page(
    *,
    discontinued: bool | None = None,
    in_stock: bool | None = None,
    currency: str | None = None,
    limit: Limit = PAGE,
    after: str | None = None,
) -> Query[Page[ProductRow]]:
    """The catalogue by SKU, page by page.

    Args:
        discontinued: only products that are no longer sold, or only the others.
        in_stock: only products that can be ordered now, or only the others.
        currency: only products priced in it.
        limit: most products.
        after: a page's `next`.

    Raises:
        InvalidInput: a limit or cursor that can't be one; names it.
    """
    found = select(*_shown).where(_added)
    if discontinued is not None:
        found = found.where(_catalog.c.discontinued.is_(discontinued))
    if in_stock is not None:
        found = found.where(type_coerce(_catalog.c.in_stock, Boolean).is_(in_stock))
    if currency is not None:
        found = found.where(_catalog.c.currency == currency)
    return paged(found, ProductRow, by=[_catalog.c.sku], limit=limit, after=after)


@checked
def product_search(
    words: AnyText,
    *,
    discontinued: bool | None = False,
    typos: bool = False,
    limit: Limit = PAGE,
    after: str | None = None,
) -> Query[Page[FoundProduct]]:
    """Products by words of name and SKU, those that fit best first, page by page.

    Args:
        words: what somebody has typed, beginnings of words will do; any text can be asked for, though not found.
        discontinued: leave out what is no longer sold; None shows it too, True nothing else.
        typos: forgive them, in a database that can; `search_products` finds that out.
        limit: most products.
        after: a page's `next`.

    Raises:
        InvalidInput: a limit or cursor that can't be one; names it.
    """
    fits, rank = matching(words, _catalog.c.document, _catalog.c.words, typos=typos)
    rank = rank.label("rank")
    found = select(*_shown, rank).where(_added, fits)
    if discontinued is not None:
        found = found.where(_catalog.c.discontinued.is_(discontinued))
    page = paged(found, FoundProduct, by=[rank, _catalog.c.sku], descending=True, limit=limit, after=after)
    return replace(page, refused=NO_TYPOS)


async def search_products(
    ask: Callable[[Query[Any]], Awaitable[Any]],
    words: AnyText,
    *,
    discontinued: bool | None = False,
    limit: Limit = PAGE,
    after: str | None = None,
) -> Page[FoundProduct]:
    """Products by words, typos forgiven where the database can; see `product_search`.

    Args:
        ask: answers queries.
        words: what somebody has typed.
        discontinued: as `product_search`.
        limit: most products.
        after: a page's `next`.

    Raises:
        InvalidInput: a limit or cursor that can't be one; names it.
    """
    typos = await ask(typos_forgiven())
    found: Page[FoundProduct] = await ask(
        product_search(words, discontinued=discontinued, typos=typos, limit=limit, after=after)
    )
    return found
