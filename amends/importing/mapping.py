"""Maps the columns of a file or a table to the fields of records."""

from __future__ import annotations

import codecs
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import from_json

from amends.errors import InvalidInput
from amends.importing.converters import CONVERTERS, Conversion
from amends.money import Currency
from amends.values import Value, problems_of

__all__ = ["FieldMapping", "FileMapping", "TableMapping", "load_mapping"]


class FieldMapping(Value):
    """Where a field comes from.

    Args:
        column: the column; or
        value: a constant.
        convert: how its text becomes the field: text, integer, number, boolean, money, datetime, date or json.
        values: text → field, for a column of codes; what is not listed is rejected.
        currency: for money: ISO 4217 code; or
        currency_column: the column that has it.
        decimal: for numbers and money: what stands before the fraction.
        thousands: for numbers and money: what may stand between groups of digits.
        format: for datetime and date: as Python's strptime has it; ISO 8601 when not given.
        zone: for datetime: the time zone of times without one, e.g. Europe/Berlin.
    """

    column: str | None = None
    value: Any = None
    convert: str = "text"
    values: Mapping[str, Any] | None = None
    currency: Currency | None = None
    currency_column: str | None = None
    decimal: str = "."
    thousands: str = ""
    format: str | None = None
    zone: str | None = None

    @field_validator("convert")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in CONVERTERS:
            raise ValueError(f"there is no {name!r}; there are {', '.join(sorted(CONVERTERS))}")
        return name

    @field_validator("zone")
    @classmethod
    def _zone(cls, name: str | None) -> str | None:
        try:
            return name and ZoneInfo(name).key
        except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
            raise ValueError(f"there is no time zone {name!r}") from None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.column is None) is (self.value is None):
            raise ValueError("needs either a column or a value")
        if self.convert == "money" and (self.currency is None) is (self.currency_column is None):
            raise ValueError("money needs either a currency or a currency_column")
        return self

    def columns(self) -> set[str]:
        """The columns it reads."""
        return {column for column in (self.column, self.currency_column) if column is not None}

    def read(self, row: Mapping[str, Any]) -> Any:
        """The field's value; None when the cell is empty, so that the field is left out.

        Raises:
            ValueError: the cell does not fit; says what it must be, never what it is.
        """
        if self.column is None:
            return self.value
        cell = row[self.column]
        if isinstance(cell, str):
            cell = cell.strip()
        if cell is None or cell == "":
            return None
        if self.values is not None:
            if str(cell) not in self.values:
                raise ValueError(f"must be one of {', '.join(self.values)}")
            return self.values[str(cell)]
        currency = self.currency or str(row[self.currency_column] if self.currency_column else "")
        how = Conversion(currency, self.decimal, self.thousands, self.format, self.zone)
        return CONVERTERS[self.convert](cell, how)


class FileMapping(Value):
    """How a file or a table is read: `amends import FILE.csv --map MAPPING.toml`.

    Args:
        fields: field → where it comes from; a dot leads into a field: "price.amount".
        kind: of all its records, unless the fields have a `kind`.
        delimiter: between the columns of a file.
        encoding: of a file's text.
    """

    fields: Mapping[str, FieldMapping]
    kind: str | None = None
    delimiter: str = Field(",", min_length=1, max_length=1)
    encoding: str = "utf-8"

    @field_validator("fields", mode="before")
    @classmethod
    def _short(cls, fields: Any) -> Any:
        """A text instead of a mapping is the column's name."""
        if not isinstance(fields, Mapping):
            return fields
        return {name: {"column": each} if isinstance(each, str) else each for name, each in fields.items()}

    @field_validator("encoding")
    @classmethod
    def _codec(cls, name: str) -> str:
        try:
            found = codecs.lookup(name).name
        except LookupError:
            raise ValueError(f"there is no encoding {name!r}") from None
        try:
            "".encode(found)  # codecs from bytes to bytes, or from text to text, refuse that
        except (LookupError, UnicodeError):
            raise ValueError(f"{name!r} is no encoding of text") from None
        return found

    def columns(self) -> set[str]:
        """The columns it needs."""
        return set().union(*(each.columns() for each in self.fields.values()))

    def record(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """A row as the data of a record, and what is wrong with it, as field → complaint.

        Args:
            row: column → text or value.
        """
        data: dict[str, Any] = {} if self.kind is None else {"kind": self.kind}
        problems = {}
        for name, each in self.fields.items():
            try:
                value = each.read(row)
            except (ValueError, ArithmeticError) as error:
                problems[name] = f"column {each.column!r} {error}"
                continue
            if value is not None and (blocked := _put(data, name.split("."), value)) is not None:
                problems[name] = f"column {each.column!r} can't be put into {blocked!r}, which is no object"
        return data, problems


def _put(data: dict[str, Any], path: list[str], value: Any) -> str | None:
    """Put a value where a path leads; or say which field on the way holds something else already."""
    place = data
    for depth, part in enumerate(path[:-1], 1):
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            return ".".join(path[:depth])
    place[path[-1]] = value
    return None


class TableMapping(FileMapping):
    """How a table of another database is followed: `amends follow MAPPING.toml`.

    Args:
        table: its name, with the schema where needed; a view will do.
        key: the column that names a row; no two rows share one.
        watermark: the column that grows whenever a row is written: updated_at, or an id where rows only come.
        overlap: how far behind the watermark each look begins, for what was committed late: seconds, or numbers.
        where: a condition in SQL that leaves rows out.
    """

    table: str
    key: str
    watermark: str
    overlap: float = Field(60, ge=0)
    where: str | None = None

    def columns(self) -> set[str]:
        """The columns it needs."""
        return super().columns() | {self.key, self.watermark}


M = type[FileMapping] | type[TableMapping]


def load_mapping(path: Path, kind: M = FileMapping) -> Any:
    """Read a mapping from a TOML or JSON file.

    Args:
        path: ends in .toml or .json.
        kind: of a file or of a table.

    Raises:
        InvalidInput: it can't be read, or names something that there is not.
    """
    try:
        text = path.read_text("utf-8")
        data = tomllib.loads(text) if path.suffix == ".toml" else from_json(text)
    except OSError as error:
        raise InvalidInput({"map": f"{path} can't be read: {error.strerror}"}) from error
    except ValueError as error:
        raise InvalidInput({"map": f"{path} is neither TOML (.toml) nor JSON: {error}"}) from error
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise InvalidInput({f"map.{field}": told for field, told in problems_of(error).items()}) from None
