"""Products: what the shop sells, and for how much."""

from __future__ import annotations

from typing import Self, assert_never

from amends import Aggregate, Command, Decision, Event, Key, Money, Refused
from domain.values import PositiveMoney, ShortText

__all__ = [
    "AddProduct",
    "ChangePrice",
    "CurrencyFixed",
    "DiscontinueProduct",
    "PriceChanged",
    "Product",
    "ProductAdded",
    "ProductCommand",
    "ProductDiscontinued",
    "ProductEvent",
    "ProductExists",
    "ProductIsDiscontinued",
    "UnknownProduct",
]


class ProductExists(Refused):
    """There is a product with this SKU already"""


class UnknownProduct(Refused):
    """There is no product with this SKU"""


class ProductIsDiscontinued(Refused):
    """The product is no longer sold"""


class CurrencyFixed(Refused):
    """A product keeps the currency it was first priced in"""


class AddProduct(Command, name="product.add"):
    """Start to sell a product.

    Args:
        sku: what it is known by, for ever.
        name: what customers read.
        price: for one piece, in minor units.
    """

    sku: Key
    name: ShortText
    price: PositiveMoney


class ChangePrice(Command, name="product.change_price"):
    """Sell a product for another price from now on.

    Args:
        sku: which product.
        price: for one piece, in minor units, in the product's currency.
    """

    sku: Key
    price: PositiveMoney


class DiscontinueProduct(Command, name="product.discontinue"):
    """Stop to sell a product.

    Args:
        sku: which product.
    """

    sku: Key


class ProductAdded(Event, name="product.added"):
    """A product is on sale.

    Args:
        sku: what it is known by.
        name: what customers read.
        price: for one piece, in minor units.
    """

    sku: Key
    name: str
    price: Money


class PriceChanged(Event, name="product.price_changed"):
    """A product has another price.

    Args:
        sku: which product.
        price: the new one, for one piece, in minor units.
    """

    sku: Key
    price: Money


class ProductDiscontinued(Event, name="product.discontinued"):
    """A product is no longer sold.

    Args:
        sku: which product.
    """

    sku: Key


ProductCommand = AddProduct | ChangePrice | DiscontinueProduct
ProductEvent = ProductAdded | PriceChanged | ProductDiscontinued


class Product(Aggregate[ProductCommand, ProductEvent], category="product", key="sku"):
    """A product: its price can change but not its currency, and once discontinued it stays so.

    Args:
        price: for one piece, in minor units; none while nobody has added the product.
        discontinued: no longer sold.
    """

    price: Money | None = None
    discontinued: bool = False

    def decide(self, command: ProductCommand) -> Decision:
        """What may be done to a product."""
        match command:
            case AddProduct(sku=sku) if self.price is not None:
                raise ProductExists(sku=sku)
            case AddProduct(sku=sku):
                return [ProductAdded(sku=sku, name=command.name, price=command.price)]
            case _ if self.price is None:
                raise UnknownProduct(sku=command.sku)

            case ChangePrice(price=price) if price == self.price:
                return []
            case ChangePrice(sku=sku) if self.discontinued:
                raise ProductIsDiscontinued(sku=sku)
            case ChangePrice(sku=sku, price=price) if price.currency != self.price.currency:
                raise CurrencyFixed(sku=sku, currency=self.price.currency, wanted=price.currency)
            case ChangePrice(sku=sku, price=price):
                return [PriceChanged(sku=sku, price=price)]

            case DiscontinueProduct() if self.discontinued:
                return []
            case DiscontinueProduct(sku=sku):
                return [ProductDiscontinued(sku=sku)]
            case _:
                assert_never(command)

    def evolve(self, event: ProductEvent) -> Self:
        """The product after an event."""
        match event:
            case ProductAdded(price=price) | PriceChanged(price=price):
                return self.having(price=price)
            case ProductDiscontinued():
                return self.having(discontinued=True)
            case _:
                assert_never(event)
