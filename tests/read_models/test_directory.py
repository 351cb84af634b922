"""What can be ordered, and who can order: the rows after what has happened."""

from datetime import UTC, datetime

from amends import Money
from amends.testing import given
from domain.customer import CustomerRegistered, EmailChanged
from domain.product import PriceChanged, ProductAdded, ProductDiscontinued
from read_models.directory import catalogue, directory, members

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)

added = ProductAdded(sku="TEA", name="Tea", price=Money(amount=450, currency="EUR"))
registered = CustomerRegistered(customer_id="c1", name="Ada Lovelace", email="ada@example.org")


def test_given_a_product_when_its_price_changes_then_the_new_one_counts_and_the_rest_stays() -> None:
    case = given(directory).when(added)
    case.then_row(catalogue, "TEA", name="Tea", price=450, currency="EUR", discontinued=False)
    dearer = PriceChanged(sku="TEA", price=Money(amount=500, currency="EUR"))
    case.when(dearer).then_row(catalogue, "TEA", name="Tea", price=500, currency="EUR", discontinued=False)


def test_given_a_product_when_it_is_discontinued_then_it_stays_in_the_catalogue_marked_so() -> None:
    case = given(directory, added).when(ProductDiscontinued(sku="TEA"))
    case.then_row(catalogue, "TEA", name="Tea", price=450, discontinued=True).then_no_row(catalogue, "CUP")


def test_given_a_customer_when_registered_then_known_by_id_and_time_without_personal_data() -> None:
    case = given(directory).when(registered, recorded_at=NOON)
    case.then_row(members, "c1", registered_at=NOON)
    case = case.when(EmailChanged(customer_id="c1", email="lovelace@example.org"))
    case.then_row(members, "c1", registered_at=NOON)
    told = str(case.rows)
    assert "c1" in told
    assert not any(personal in told for personal in ("Ada", "Lovelace", "@"))
