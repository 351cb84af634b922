"""Reads files of records, line by line in bounded memory; what can't be read is told with its line and passed over."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from pydantic import ValidationError
from pydantic_core import from_json

from amends.errors import InvalidInput
from amends.importing.mapping import FileMapping
from amends.importing.records import SourceRecord, as_key, outside
from amends.values import bad_texts, problems_of

__all__ = ["Candidate", "Line", "candidates", "read_csv", "read_jsonl"]

MAX_LINE = 2**20
"""Longest line of a file, in bytes."""

BOM = b"\xef\xbb\xbf"

TOO_LONG = "\x00"
"""Stands for a line of CSV that is too long; no cell may be that, or hold it."""

_ENDINGS = ("\n", "\r")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file, or a row of a table.

    Args:
        number: where it begins, from 1.
        done: bytes of the file that have been read with it.
        data: what it holds.
        problems: what is wrong with it, as field → complaint, when it can't be read.
    """

    number: int
    done: int
    data: Mapping[str, Any]
    problems: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A line as the record it is to be.

    Args:
        line: its number, from 1.
        done: bytes of the file that have been read with it.
        kind: of the record; empty when not known.
        key: of the record; empty when not known.
        record: that, when it is one.
        problems: what is wrong with it, as field → complaint, when it is none.
    """

    line: int
    done: int
    kind: str
    key: str
    record: SourceRecord | None
    problems: Mapping[str, str]


def candidates(lines: Iterable[Line], kinds: Sequence[type[SourceRecord]]) -> Iterator[Candidate]:
    """Lines as records.

    Args:
        lines: each with its data, `kind` and `id` among them.
        kinds: classes of the records that there are.
    """
    known = {each.kind: each for each in kinds}
    for line in lines:
        data = dict(line.data)
        kind, key = data.pop("kind", None), data.get("id")
        told = as_key(str(key)) if type(key) in (str, int) and key != "" else ""
        problems = dict(line.problems or {})
        record = None
        if not problems and (not isinstance(kind, str) or kind not in known):
            there = f"there are {', '.join(sorted(known))}"
            problems = {"kind": f"is missing; {there}" if kind is None else f"there is no {str(kind)[:50]!r}; {there}"}
        elif not problems:
            try:
                record = known[kind].model_validate(data)
            except ValidationError as error:
                problems = problems_of(error)
            else:
                problems = outside(record)
                record = None if problems else record
        yield Candidate(
            line.number, line.done, kind if isinstance(kind, str) and kind in known else "", told, record, problems
        )


def read_jsonl(path: Path) -> Iterator[Line]:
    """A file with one JSON object a line, in UTF-8; empty lines are passed over.

    Args:
        path: the file.

    Raises:
        InvalidInput: there is no such file, or it may not be read.
    """
    with _opened(path) as file:
        number = done = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            done += len(line)
            if len(line) > MAX_LINE:
                while not line.endswith(b"\n") and (line := file.readline(MAX_LINE)):
                    done += len(line)
                yield Line(number, done, {}, {"line": f"is longer than {MAX_LINE} bytes"})
                continue
            if number == 1:
                line = line.removeprefix(BOM)
            if line.strip():
                yield _json(number, done, line)


def read_csv(path: Path, mapping: FileMapping) -> Iterator[Line]:
    """A file with a header and one record a row, mapped to fields.

    Args:
        path: the file.
        mapping: which column becomes which field, and how the file is written.

    Raises:
        InvalidInput: there is no such file, it may not be read, or its header can't, or lacks a column of the mapping.
    """
    csv.field_size_limit(MAX_LINE)
    with _opened(path) as file:
        encoding = "utf-8-sig" if mapping.encoding == "utf-8" else mapping.encoding  # passes over the mark of a BOM
        text = TextIOWrapper(file, encoding, errors="surrogateescape", newline="")
        rows = csv.reader(_bounded(text), delimiter=mapping.delimiter, strict=True)
        try:
            header = next(rows, [])
        except csv.Error as error:
            raise InvalidInput({"header": f"{path} can't be read: {error}"}) from error
        except UnicodeError as error:
            raise InvalidInput({"header": f"{path} can't be read as {mapping.encoding}: {error}"}) from error
        missing = sorted(mapping.columns() - set(header))
        if missing:
            told = f"lacks {', '.join(map(repr, missing))}, which the mapping names; it has {', '.join(header)[:500]}"
            raise InvalidInput({"header": f"{path} {told}"})
        while True:
            number = rows.line_num + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except (csv.Error, UnicodeError) as error:
                yield Line(number, file.tell(), {}, {"line": f"can't be read: {error}"})
                continue
            if row:
                yield _row(number, file.tell(), header, row, mapping)


def _bounded(text: TextIO) -> Iterator[str]:
    """Lines of a text; one that is too long is not even kept in memory."""
    while line := text.readline(MAX_LINE):
        if len(line) == MAX_LINE and not line.endswith(_ENDINGS):
            while (rest := text.readline(MAX_LINE)) and not rest.endswith(_ENDINGS):
                pass
            line = f"{TOO_LONG}\n"
        yield line


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb", buffering=2**18)
    except OSError as error:
        raise InvalidInput({"file": f"{path} can't be read: {error.strerror}"}) from error


def _json(number: int, done: int, line: bytes) -> Line:
    try:
        data = from_json(line.decode(), allow_inf_nan=False)
    except UnicodeDecodeError as error:
        return Line(
            number, done, {}, {"line": f"is not UTF-8: byte {error.start + 1} of it is {line[error.start]:#04x}"}
        )
    except ValueError as error:
        return Line(number, done, {}, {"line": f"is no JSON: {error}"})
    if not isinstance(data, dict):
        return Line(number, done, {}, {"line": "is no JSON object"})
    return Line(number, done, data, bad_texts(data) or None if b"\\u0000" in line else None)


def _row(number: int, done: int, header: list[str], row: list[str], mapping: FileMapping) -> Line:
    if row == [TOO_LONG]:
        return Line(number, done, {}, {"line": f"is longer than {MAX_LINE} characters"})
    if len(row) != len(header):
        return Line(number, done, {}, {"line": f"has {len(row)} columns where the header has {len(header)}"})
    for column, cell in zip(header, row, strict=True):
        if not cell.isascii() and any("\udc80" <= character <= "\udcff" for character in cell):
            return Line(number, done, {}, {column: f"is not {mapping.encoding}"})
        if "\x00" in cell:
            return Line(number, done, {}, {column: "text can't hold a NUL character"})
    data, problems = mapping.record(dict(zip(header, row, strict=True)))
    return Line(number, done, data, problems or None)
