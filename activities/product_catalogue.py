"""The catalogue, read from the products' own streams."""

from __future__ import annotations

from activities.catalogue import Catalogue
from amends import Context
from amends.handler import CommandHandler
from domain.product import Product, ProductIsDiscontinued, UnknownProduct
from domain.values import Line, PricedLine

__all__ = ["ProductCatalogue"]


class ProductCatalogue(Catalogue):
    """Looks each product up where its price is decided.

    Args:
        handler: knows the state of every aggregate.
    """

    def __init__(self, handler: CommandHandler) -> None:
        self._handler = handler

    async def price(self, lines: tuple[Line, ...], context: Context) -> tuple[PricedLine, ...]:
        """Price the lines, in the order given."""
        return tuple([await self._price(line) for line in lines])

    async def _price(self, line: Line) -> PricedLine:
        product, version = await self._handler.state(Product, line.sku)
        if version == 0 or product.price is None:
            raise UnknownProduct(sku=line.sku)
        if product.discontinued:
            raise ProductIsDiscontinued(sku=line.sku)
        return PricedLine(sku=line.sku, quantity=line.quantity, unit_price=product.price)
