"""Texts that look like others, or like nothing: one spelling for each key, and nothing in it that nobody sees."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from amends import Money
from amends.errors import InvalidInput
from amends.settings import Settings
from client import Shop
from domain.customer import EmailTaken, RegisterCustomer
from domain.product import AddProduct
from domain.stock import ReceiveStock
from tests.conftest import RunWorker
from tests.edges.odd import UNSEEN
from tests.sagas.given import rows
from tests.sagas.shopping import STORED

PRICE = Money(amount=1, currency="EUR")

SAME = [
    "ann@example.org",
    " ANN@Example.ORG\t",
    "\uff41\uff4e\uff4e@example.org",
    "ann\uff20example\uff0eorg",
    "a\u207fn@example.org",
]
"""One address, in letters of full width, superscript and capitals."""

KEEPS = ["Zoë", "נועה", "می\u200cخواهم", "山田", "👩\u200d💻", "O'Neil-Ñuñez", "e\u0301", "أحمد\u200f"]
"""Names that people have, some with joiners and marks of direction that belong to their spelling."""


@pytest.fixture
async def shop(settings: Settings, run_worker: RunWorker) -> AsyncIterator[Shop]:
    async with run_worker(), await Shop.connect(settings) as shop:
        yield shop


@pytest.mark.parametrize("character", UNSEEN.values(), ids=UNSEEN.keys())
def test_given_a_character_that_nobody_sees_when_it_is_in_a_key_or_an_address_then_that_is_refused_by_name(
    character: str,
) -> None:
    for sku in (f"AB{character}C", f"ABC{character}", f"{character}ABC"):
        with pytest.raises(InvalidInput, match=r"^sku: "):
            ReceiveStock(sku=sku, quantity=1)
    for email in (f"an{character}n@example.org", f"ann@exam{character}ple.org"):
        with pytest.raises(InvalidInput, match=r"^email: "):
            RegisterCustomer(customer_id="c1", name="Ann", email=email)
    with pytest.raises(InvalidInput, match=r"^name: "):
        AddProduct(sku="s1", name=character, price=PRICE)


@pytest.mark.parametrize("character", ["\u202e", "\u202a", "\u2066", "\u2029", "\x1b", "\n"])
def test_given_a_name_that_turns_its_direction_or_ends_its_line_when_made_then_it_is_refused(character: str) -> None:
    with pytest.raises(InvalidInput, match=r"name: .*must not contain control characters"):
        AddProduct(sku="s1", name=f"invoice{character}fdp.exe", price=PRICE)


@pytest.mark.parametrize("name", KEEPS)
def test_given_a_name_that_somebody_has_when_taken_then_it_is_kept_as_it_is(name: str) -> None:
    assert RegisterCustomer(customer_id="c1", name=name, email="a@example.org").name == name


@pytest.mark.parametrize(
    "sku", ["\uff21\uff22\uff23", "\u0410\u0412\u0421", "AB\u212a", "ABC\u0301", "\u1d2c\u1d2e\u1d9c"]
)
def test_given_a_key_in_letters_that_look_like_others_when_made_then_it_is_refused_rather_than_normalised(
    sku: str,
) -> None:
    with pytest.raises(InvalidInput, match=r"^sku: "):
        ReceiveStock(sku=sku, quantity=1)


async def test_given_an_address_that_is_taken_when_it_is_spelt_otherwise_then_it_is_taken_all_the_same(
    shop: Shop, database_url: str
) -> None:
    # given
    await shop.execute(RegisterCustomer(customer_id="c0", name="Ann", email=SAME[0]))
    [(_, events, _)] = await rows(database_url, STORED)
    for number, spelling in enumerate(SAME[1:], 1):
        # when, then
        with pytest.raises(EmailTaken):
            await shop.execute(RegisterCustomer(customer_id=f"c{number}", name="Ann", email=spelling))
    [(_, after, _)] = await rows(database_url, STORED)
    assert after == events
