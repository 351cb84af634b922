"""Whatever was taken over is compared, field by field, whoever adds one; and personal data stay unsaid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from amends.settings import Settings
from domain.imports import RECORDS
from tests.cli.typing_in import amends
from tests.importing.legacy import customer, euros, order, product, projected, stock, write

SINCE = "2019-03-01T10:00:00Z"
LINE = {"sku": "TEA", "quantity": 2, "unit_price": euros(450)}

TAKEN_OVER: dict[str, dict[str, Any]] = {
    "customer": customer("ann", member_since=SINCE),
    "product": product("TEA"),
    "stock": stock("TEA", 40),
    "order": order("o1", "ann", reason="kept", total=euros(900), paid=euros(900), refunded=euros(100)),
}

OTHERWISE: dict[tuple[str, str], tuple[Any, set[str]]] = {
    ("customer", "name"): ("Somebody Else", {"name"}),
    ("customer", "email"): ("else@example.org", {"email"}),
    ("customer", "member_since"): ("2019-03-01T10:00:01Z", {"registered_at"}),
    ("product", "name"): ("Green tea", {"name"}),
    ("product", "price"): (euros(451), {"price"}),
    ("product", "discontinued"): (True, {"discontinued"}),
    ("stock", "quantity"): (0, {"on_hand"}),
    ("order", "customer_id"): ("bob", {"customer_id"}),
    ("order", "lines"): ([LINE | {"unit_price": {"amount": 450, "currency": "USD"}}], {"lines", "currency"}),
    ("order", "total"): (euros(901), {"total"}),
    ("order", "status"): ("cancelled", {"status"}),
    ("order", "reason"): (None, {"reason"}),
    ("order", "paid"): (euros(899), {"paid"}),
    ("order", "refunded"): (euros(101), {"refunded"}),
    ("order", "placed_at"): ("2018-03-01T10:00:00Z", {"placed_at"}),
    ("order", "ended_at"): ("2020-03-01T10:00:00Z", {"ended_at"}),
}
"""For each field another value, and the columns that differ then."""


async def test_each_field_that_was_taken_over_is_compared_and_a_difference_names_key_and_column(
    settings: Settings, database_url: str, tmp_path: Path
) -> None:
    # given
    file = write(tmp_path / "shop.jsonl", TAKEN_OVER.values())
    done = await amends("import", str(file), settings=settings)
    assert done.exit_code == 0, done.stderr
    await projected(database_url)
    done = await amends("compare", str(file), "--json", settings=settings)
    assert (done.exit_code, json.loads(done.stdout)["same"]) == (0, 4), done.stdout
    # when: each field says something else, one at a time
    assert {(kind.kind, name) for kind in RECORDS for name in kind.model_fields} - OTHERWISE.keys() == {
        (kind.kind, "id") for kind in RECORDS
    }
    changed = [TAKEN_OVER[kind] | {name: value} for (kind, name), (value, _) in OTHERWISE.items()]
    file = write(tmp_path / "changed.jsonl", changed)
    done = await amends("compare", str(file), "--json", settings=settings)
    # then
    assert done.exit_code == 3, done.stderr
    found = json.loads(done.stdout)
    assert found["unreadable"] == 0
    for line, ((kind, name), (_, columns)) in enumerate(OTHERWISE.items(), 1):
        differ = [each for each in found["differences"] if each["line"] == line]
        assert {each["column"] for each in differ} == columns, (kind, name)
        assert {(each["kind"], each["id"]) for each in differ} == {(kind, TAKEN_OVER[kind]["id"])}


async def test_what_a_customer_is_called_is_compared_and_never_said(
    settings: Settings, database_url: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "shop.jsonl", [customer("ann", name="Ann Lee", email="ann@example.org")])
    await amends("import", str(file), settings=settings)
    await projected(database_url)
    file = write(tmp_path / "shop.jsonl", [customer("ann", name="Ann Leigh", email="leigh@example.org")])
    for more in ((), ("--json",)):
        done = await amends("compare", str(file), *more, settings=settings)
        assert done.exit_code == 3
        assert all(word in done.stdout for word in ("ann", "name", "email", "[personal]"))
        assert not [word for word in ("Lee", "Leigh", "ann@example", "leigh@example") if word in done.stdout]


async def test_a_product_that_never_had_any_pieces_needs_no_row(
    settings: Settings, database_url: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "shop.jsonl", [stock("TEA", 0)])
    done = await amends("compare", str(file), "--json", settings=settings)
    assert (done.exit_code, json.loads(done.stdout)["same"]) == (0, 1)


async def test_an_order_that_costs_more_than_can_be_counted_is_no_record_and_the_rest_is_compared(
    settings: Settings, database_url: str, tmp_path: Path
) -> None:
    dear = {"sku": "TEA", "quantity": 1000, "unit_price": euros(10**15)}
    file = write(tmp_path / "shop.jsonl", [order("o1", "ann", lines=[dear]), stock("TEA", 0)])
    done = await amends("compare", str(file), "--json", settings=settings)
    found = json.loads(done.stdout)
    assert (done.exit_code, found["unreadable"], found["same"]) == (3, 1, 1)
