"""A projection that has changed has a raised version, so that it is built anew and not half and half."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from amends.app import App
from amends.checking.released import Kept, Kind
from amends.checking.source_prints import print_of
from amends.checking.verdict import Checked, Failure
from amends.errors import InvalidInput
from amends.merging import DIALECT
from amends.messages import Event
from amends.projection import Projection
from amends.read_tables import ReadTable

__all__ = ["check_projections", "description_of"]


def description_of(projection: Projection) -> dict[str, Any]:
    """What makes a projection's rows: tables, computed columns, and a fingerprint of each function.

    Args:
        projection: of the application.

    Raises:
        InvalidInput: the source of a function can't be read.
    """
    return {
        "partitions": projection.partitions,
        "tables": {table.name: _table(table) for table in projection.tables.values()},
        "views": {table.name: _computed(table) for table in projection.tables.values() if table.view},
        "events": {name: _handled(projection, name) for name in projection.handlers},
    }


def check_projections(app: App, folder: Path, *, accept: bool) -> Checked:
    """See that projections are as they were released in their version.

    Args:
        app: whose projections.
        folder: of the files.
        accept: write the files of new versions.
    """
    kind = Kind(folder, accept=accept)
    failures = [failure for projection in app.projections for failure in _check(projection, kind)]
    newest: dict[str, Kept] = {}
    for kept in kind.all():
        newest[kept.name] = max(newest.get(kept.name, kept), kept, key=lambda each: each.version)
    for projection in app.projections:
        name, last = projection.name, newest.get(projection.name)
        if last is not None and last.version > projection.version:
            told = f"{name}: version {last.version} is released, and the code has version {projection.version}"
            failures.append(Failure(what=told, mend=f"Give it version {last.version + 1}: versions only go up"))
    told = f"{len(app.projections)} projections in {folder}"
    return Checked(
        name="read models have versions", looked_at=told, failures=tuple(failures), accepted=tuple(kind.accepted)
    )


def _check(projection: Projection, kind: Kind) -> Iterator[Failure]:
    name, version = projection.name, projection.version
    path = kind.path(name, version)
    try:
        description = description_of(projection)
    except InvalidInput as error:
        yield Failure(what=f"{name}: {error}", mend="Write the function down in a module")
        return
    kept = kind.find(name, version)
    if kept is not None:
        if changes := list(_changes(kept.content, description)):
            yield Failure(
                what=f"{name}: version {version} is released, and has changed: {'; '.join(changes)}",
                mend=f"Raise the projection's version to {version + 1}: rows made so far would not fit the new ones. "
                f"If version {version} was never released, or what it makes is the same for every event, delete {path} "
                "and run `amends check --accept`",
            )
    elif not kind.add(name, version, description):
        yield Failure(
            what=f"Version {version} of projection {name} is new: there is no {path}",
            mend="`amends check --accept` writes it; commit the file",
        )


def _changes(was: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """What differs, part by part."""
    words = {"events": "what {} does", "tables": "table {}", "views": "computed columns of view {}"}
    for part, told in words.items():
        before, after = was.get(part, {}), now[part]
        changed = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
        yield from (told.format(name) for name in changed)
    if was.get("partitions") != now["partitions"]:
        yield f"partitions, from {was.get('partitions')} to {now['partitions']}"


def _table(table: ReadTable) -> list[str]:
    made = table.defined(1)
    indexes = sorted(made.indexes, key=lambda index: str(index.name))
    statements: list[ExecutableDDLElement] = [CreateTable(made), *(CreateIndex(index) for index in indexes)]
    texts = [str(each.compile(dialect=DIALECT)) for each in statements]
    return [" ".join(line.split()) for text in texts for line in text.splitlines() if line.strip()]


def _computed(table: ReadTable) -> dict[str, str]:
    return {name: " ".join(expression.split()) for name, (expression, _) in table.computed.items()}


def _handled(projection: Projection, name: str) -> str:
    key = projection.keys.get(name)
    return print_of(projection.handlers[name], *_methods(name)) + (f" by {key}" if key else "")


def _methods(name: str) -> Iterator[FunctionType]:
    """What an event can tell besides its fields; not how older versions of it are read, which leaves its meaning."""
    for cls in Event.registry.classes[name].__mro__:
        if issubclass(cls, Event) and cls is not Event:
            for member in vars(cls).values():
                function = member.fget if isinstance(member, property) else member
                if isinstance(function, FunctionType) and function.__module__ == cls.__module__:  # and not pydantic's
                    yield function
