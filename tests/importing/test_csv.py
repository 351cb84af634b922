"""CSV with a mapping: columns become fields, cells become values, and what does not fit is told with its column."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from amends.errors import InvalidInput
from amends.importing.mapping import FieldMapping, FileMapping, load_mapping
from amends.importing.reading import Line, read_csv
from amends.settings import Settings
from tests.cli.typing_in import amends
from tests.importing.legacy import euros, projected, rows, said

ORDERS = """
kind = "order"
delimiter = ";"
encoding = "cp1252"
[fields]
id = "number"
customer_id = "client"
lines = { column = "items", convert = "json" }
total = { column = "total", convert = "money", currency = "EUR", decimal = ",", thousands = "." }
status = { column = "state", values = { D = "completed", X = "cancelled" } }
reason = "note"
placed_at = { column = "placed", convert = "datetime", format = "%d.%m.%Y %H:%M", zone = "Europe/Berlin" }
ended_at = { column = "ended", convert = "datetime", format = "%d.%m.%Y %H:%M", zone = "Europe/Berlin" }
"""

LINE = '"[{""sku"": ""TEA"", ""quantity"": 3, ""unit_price"": {""amount"": 100050, ""currency"": ""EUR""}}]"'


def mapping(**fields: Any) -> FileMapping:
    return FileMapping(kind="thing", fields={name: FieldMapping(**each) for name, each in fields.items()})


def lines(path: Path, how: FileMapping) -> list[Line]:
    return list(read_csv(path, how))


async def test_a_csv_file_with_a_mapping_is_imported(settings: Settings, database_url: str, tmp_path: Path) -> None:
    # given: a file as a German spreadsheet writes it, one row with an unknown state, one too short, one over two lines
    (tmp_path / "orders.toml").write_text(ORDERS)
    text = [
        "number;client;items;total;state;note;placed;ended;unused",
        f"1;7;{LINE};3.001,50;D;;01.07.2019 10:00;02.07.2019 09:30;x",
        f'2;7;{LINE};3.001,50;X;"zu spät\n";01.12.2019 10:00;02.12.2019 09:30;x',
        f"3;7;{LINE};3.001,50;?;;01.07.2019 10:00;02.07.2019 09:30;x",
        "4;7",
        f"5;7;{LINE};3.001,505;D;;01.07.2019 10:00;02.07.2019 09:30;x",
    ]
    (tmp_path / "orders.csv").write_text("\n".join(text) + "\n", encoding="cp1252")
    # when
    options = ("--map", str(tmp_path / "orders.toml"), "--json")
    done = await amends("import", str(tmp_path / "orders.csv"), *options, settings=settings)
    # then
    assert done.exit_code == 3, done.stderr
    assert json.loads(done.stdout)["imported"] == 2
    assert [(e["line"], e["reason"]) for e in said(tmp_path / "orders.csv.rejected.jsonl")] == [
        (5, "status: column 'state' must be one of D, X"),
        (6, "line: has 2 columns where the header has 9"),
        (7, "total: column 'total' has more decimal places than EUR has"),
    ]
    await projected(database_url)
    query = "select order_id, status, reason, total, placed_at::text from views.order_history order by 1"
    assert await rows(database_url, query) == [
        ("1", "completed", None, 300150, "2019-07-01 08:00:00+00"),
        ("2", "cancelled", "zu spät", 300150, "2019-12-01 09:00:00+00"),
    ]


@pytest.mark.parametrize(
    ("cell", "how", "value"),
    [
        ("12.50", {"convert": "money", "currency": "EUR"}, {"amount": 1250, "currency": "EUR"}),
        ("-1", {"convert": "money", "currency": "JPY"}, {"amount": -1, "currency": "JPY"}),
        ("1,234.5", {"convert": "money", "currency": "KWD", "thousands": ","}, {"amount": 1234500, "currency": "KWD"}),
        ("1.234.567,5", {"convert": "number", "decimal": ",", "thousands": "."}, Decimal("1234567.5")),
        ("-12.345", {"convert": "integer", "decimal": ",", "thousands": "."}, -12345),
        ("1234,50", {"convert": "money", "currency": "EUR", "decimal": ",", "thousands": "."}, euros(123450)),
        ("+.5", {"convert": "number"}, Decimal("0.5")),
        ("7", {"convert": "integer"}, 7),
        (" 7 ", {}, "7"),
        ("", {}, None),
        ("yes", {"convert": "boolean"}, True),
        ("0", {"convert": "boolean"}, False),
        ("2024-02-29", {"convert": "date"}, date(2024, 2, 29)),
        ("2024-02-29T12:00:00+02:00", {"convert": "datetime"}, datetime(2024, 2, 29, 10, tzinfo=UTC)),
        ("2024-07-01 12:00", {"convert": "datetime", "zone": "Europe/Berlin"}, datetime(2024, 7, 1, 10, tzinfo=UTC)),
        ('{"a": [1]}', {"convert": "json"}, {"a": [1]}),
        ("b", {"values": {"b": 2}}, 2),
    ],
)
def test_a_cell_becomes_a_value(cell: str, how: dict[str, Any], value: Any) -> None:
    data, problems = mapping(it={"column": "c", **how}).record({"c": cell})
    assert problems == {}
    assert data == {"kind": "thing"} | ({"it": value} if value is not None else {})


@pytest.mark.parametrize(
    ("cell", "how", "told"),
    [
        ("12.505", {"convert": "money", "currency": "EUR"}, "has more decimal places than EUR has"),
        ("1.234,5", {"convert": "money", "currency": "EUR"}, "must be a number"),
        ("1.5", {"convert": "money", "currency": "EUR", "decimal": ","}, "must be a number"),
        ("1e999", {"convert": "money", "currency": "EUR"}, "must be a number"),
        ("1e999999999", {"convert": "money", "currency": "EUR"}, "must be a number"),
        ("12.50", {"convert": "money", "currency": "EUR", "decimal": ",", "thousands": "."}, "must be a number"),
        ("1.2.3,4", {"convert": "number", "decimal": ",", "thousands": "."}, "must be a number"),
        ("1234.567", {"convert": "number", "decimal": ",", "thousands": "."}, "must be a number"),
        ("1,234.567", {"convert": "number", "decimal": ",", "thousands": "."}, "must be a number"),
        ("1_000", {"convert": "integer"}, "must be a number"),
        ("\u0661\u0662", {"convert": "integer"}, "must be a number"),
        ("9" * 40, {"convert": "number"}, "must be a number"),
        ("nan", {"convert": "number"}, "must be a number"),
        ("1.5", {"convert": "integer"}, "must be a whole number"),
        ("maybe", {"convert": "boolean"}, "must be true or false"),
        ("2024-02-30", {"convert": "date"}, "must be a date"),
        ("2024-02-29 12:00", {"convert": "datetime"}, "has no time zone"),
        ("noon", {"convert": "datetime"}, "must be a time"),
        ("0001-01-01T00:00:00+01:00", {"convert": "datetime"}, "is not within the years"),
        ("0001-01-01 00:00", {"convert": "datetime", "zone": "Europe/Berlin"}, "is not within the years"),
        ("{", {"convert": "json"}, "is no JSON"),
        ("c", {"values": {"b": 2}}, "must be one of b"),
    ],
)
def test_a_cell_that_does_not_fit_is_told_with_its_column_and_not_what_it_is(
    cell: str, how: dict[str, Any], told: str
) -> None:
    data, problems = mapping(it={"column": "c", **how}).record({"c": cell})
    assert data == {"kind": "thing"}
    assert problems["it"].startswith(f"column 'c' {told}")


def test_constants_and_fields_within_fields() -> None:
    how = FileMapping.model_validate(
        {
            "kind": "product",
            "fields": {
                "id": "sku",
                "price.amount": {"column": "cents", "convert": "integer"},
                "price.currency": {"value": "EUR"},
            },
        }
    )
    assert how.record({"sku": "TEA", "cents": "450"}) == (
        {"kind": "product", "id": "TEA", "price": {"amount": 450, "currency": "EUR"}},
        {},
    )


def test_what_can_t_be_decoded_or_parsed_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_bytes(b'\xef\xbb\xbfname,age\nAnn,1\nB\xfcb,2\n"C"x,3\nNUL\x00,4\n\nDan,5\n')
    found = lines(file, FileMapping.model_validate({"kind": "thing", "fields": {"id": "name", "age": "age"}}))
    assert [(line.number, dict(line.data).get("id"), dict(line.problems or {})) for line in found] == [
        (2, "Ann", {}),
        (3, None, {"name": "is not utf-8"}),
        (4, None, {"line": "can't be read: ',' expected after '\"'"}),
        (5, None, {"name": "text can't hold a NUL character"}),
        (7, "Dan", {}),
    ]


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_line_that_is_too_long_is_told_and_the_rest_is_read(quote: str, tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_text(f"name,age\nAnn,1\n{quote}{'x' * 3_000_000}{quote},2\nDan,3\n")
    found = lines(file, FileMapping.model_validate({"kind": "thing", "fields": {"id": "name", "age": "age"}}))
    assert [(line.number, dict(line.data).get("id"), dict(line.problems or {})) for line in found] == [
        (2, "Ann", {}),
        (3, None, {"line": "is longer than 1048576 characters"}),
        (4, "Dan", {}),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"fields": {"id": "a"}, "delimiter": ";;"}', "map.delimiter"),
        ('{"fields": {"id": "a"}, "encoding": "klingon"}', "there is no encoding 'klingon'"),
        ('{"fields": {"id": "a"}, "encoding": "rot13"}', "map.encoding: .*'rot13' is no encoding of text"),
        ('{"fields": {"id": "a"}, "encoding": "base64"}', "map.encoding: .*'base64' is no encoding of text"),
        ('{"fields": {"id": {"column": "a", "convert": "magic"}}}', "map.fields.id.convert: .*there is no 'magic'"),
        ('{"fields": {"id": {"column": "a", "zone": "Moon/Base"}}}', "there is no time zone 'Moon/Base'"),
        ('{"fields": {"id": {"column": "a", "value": 1}}}', "needs either a column or a value"),
        ('{"fields": {"id": {"column": "a", "convert": "money"}}}', "money needs either a currency"),
        ('{"fields": {"id": "a"}, "colour": 1}', "map.colour: Extra inputs"),
        ("{", "neither TOML"),
    ],
)
def test_a_mapping_that_can_t_be_is_told_with_its_field(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(InvalidInput, match=told):
        load_mapping(tmp_path / "m.json")


def test_a_header_without_a_mapped_column_is_told(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InvalidInput, match="lacks 'c', which the mapping names; it has a, b"):
        lines(tmp_path / "f.csv", FileMapping.model_validate({"fields": {"id": "c"}}))


@pytest.mark.parametrize(
    ("text", "encoding", "told"),
    [
        (b'"a"b,c\n1,2\n', "utf-8", "header: .*f.csv can't be read: ',' expected after"),
        ("a,b\n1,2\n".encode("utf-16-le"), "utf-16", "header: .*f.csv can't be read as utf-16: "),
    ],
)
def test_a_header_that_can_t_be_read_is_told(text: bytes, encoding: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_bytes(text)
    with pytest.raises(InvalidInput, match=told):
        lines(tmp_path / "f.csv", FileMapping.model_validate({"fields": {"id": "a"}, "encoding": encoding}))


def test_a_field_within_a_field_that_is_no_object_is_told() -> None:
    fields = {"price": "cents", "price.amount": "cents", "price.amount.euros": "cents"}
    _, problems = FileMapping.model_validate({"kind": "product", "fields": fields}).record({"cents": "450"})
    assert problems == {
        "price.amount": "column 'cents' can't be put into 'price', which is no object",
        "price.amount.euros": "column 'cents' can't be put into 'price', which is no object",
    }


async def test_csv_without_a_mapping_is_told(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("a,b\n")
    done = await amends("import", str(tmp_path / "f.csv"), settings=settings)
    assert done.exit_code == 2
    assert "say by --map" in " ".join(done.stderr.split())
