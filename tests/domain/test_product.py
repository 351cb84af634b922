"""Products: priced in one currency, discontinued for good."""

import pytest

from amends import InvalidInput, Money
from amends.testing import given
from domain.product import (
    AddProduct,
    ChangePrice,
    CurrencyFixed,
    DiscontinueProduct,
    PriceChanged,
    Product,
    ProductAdded,
    ProductDiscontinued,
    ProductExists,
    ProductIsDiscontinued,
    UnknownProduct,
)

CHEAP, DEAR = Money(amount=250, currency="EUR"), Money(amount=990, currency="EUR")
DOLLARS = Money(amount=250, currency="USD")

add = AddProduct(sku="tea", name="Tea", price=CHEAP)
added = ProductAdded(sku="tea", name="Tea", price=CHEAP)
raise_price = ChangePrice(sku="tea", price=DEAR)
raised = PriceChanged(sku="tea", price=DEAR)
discontinue = DiscontinueProduct(sku="tea")
discontinued = ProductDiscontinued(sku="tea")


def test_a_product_is_added() -> None:
    given(Product).when(add).then(added).then_claims()


@pytest.mark.parametrize("events", [[added], [added, raised], [added, discontinued]])
def test_a_sku_is_used_once(events: list[ProductAdded]) -> None:
    given(Product, *events).when(add).then_refused(ProductExists, sku="tea")


def test_its_price_changes() -> None:
    case = given(Product, added).when(raise_price).then(raised)
    assert case.state.price == DEAR


def test_the_same_price_is_no_change() -> None:
    given(Product, added).when(ChangePrice(sku="tea", price=CHEAP)).then_nothing()
    given(Product, added, raised).when(raise_price).then_nothing()


def test_it_keeps_its_currency() -> None:
    change = ChangePrice(sku="tea", price=DOLLARS)
    given(Product, added).when(change).then_refused(CurrencyFixed, sku="tea", currency="EUR", wanted="USD")


def test_it_is_discontinued_once() -> None:
    given(Product, added).when(discontinue).then(discontinued)
    given(Product, added, discontinued).when(discontinue).then_nothing()


def test_its_price_stays_once_discontinued() -> None:
    given(Product, added, discontinued).when(raise_price).then_refused(ProductIsDiscontinued, sku="tea")
    given(Product, added, discontinued).when(ChangePrice(sku="tea", price=CHEAP)).then_nothing()


@pytest.mark.parametrize("command", [raise_price, discontinue])
def test_what_was_never_added_can_not_change(command: ChangePrice | DiscontinueProduct) -> None:
    given(Product).when(command).then_refused(UnknownProduct, sku="tea")


@pytest.mark.parametrize("amount", [0, -1])
def test_a_price_is_more_than_zero(amount: int) -> None:
    nothing = Money(amount=amount, currency="EUR")
    with pytest.raises(InvalidInput, match="price: Value error, must be more than zero"):
        AddProduct(sku="tea", name="Tea", price=nothing)
    with pytest.raises(InvalidInput, match="price"):
        ChangePrice(sku="tea", price=nothing)


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "Te\x00a"])
def test_a_name_is_short_and_printable(name: str) -> None:
    with pytest.raises(InvalidInput, match="name"):
        AddProduct(sku="tea", name=name, price=CHEAP)
