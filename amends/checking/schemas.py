"""Every event ever released can be read, and states that changed have a raised snapshot version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema

from amends.app import App
from amends.checking.examples import examples_of
from amends.checking.released import Kept, Kind, difference, written
from amends.checking.verdict import Checked, Failure
from amends.errors import AmendsError
from amends.messages import Event

__all__ = ["check_events", "check_states", "events_of", "schema_of"]

WORDS = {"title", "description", "discriminator"}
"""What a schema says for people, and names of classes; changing these changes nothing that is stored."""


def events_of(app: App) -> list[type[Event]]:
    """The events that an application writes or follows, by name."""
    written_ = {event.message_name: event for aggregate in app.aggregates for event in aggregate.events}
    followed = [name for projection in app.projections for name in projection.handlers]
    followed += [name for manager in app.process_managers for name in manager.handlers]
    read = {name: Event.registry.classes[name] for name in followed if name not in written_}
    return [cls for name, cls in sorted({**written_, **read}.items()) if name and issubclass(cls, Event)]


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """JSON schema of a model's data, without names of classes or words for people.

    Raises:
        pydantic.errors.PydanticInvalidForJsonSchema: a field has a type that JSON schemas can't tell.
    """
    schema = model.model_json_schema(mode="validation")
    definitions = schema.pop("$defs", {})
    plain = _plain(schema, definitions, ())
    assert isinstance(plain, dict)
    return plain


def check_events(app: App, folder: Path, *, accept: bool) -> Checked:
    """See that every version of every event is kept as it was released, and can be read.

    Args:
        app: whose events.
        folder: of the files.
        accept: write the files of new versions.
    """
    kind = Kind(folder, accept=accept)
    events = events_of(app)
    failures = [failure for event in events for failure in _check_event(event, kind)]
    kept = list(kind.all())
    failures += [failure for each in kept for failure in _unreadable(each)]
    told = f"{len(kept)} versions of {len(events)} events in {folder}"
    return Checked(name="events can be read", looked_at=told, failures=tuple(failures), accepted=tuple(kind.accepted))


def check_states(app: App, folder: Path, *, accept: bool) -> Checked:
    """See that an aggregate whose state has changed has a raised snapshot version; arguments as for `check_events`."""
    kind, failures = Kind(folder, accept=accept), []
    for aggregate in sorted(app.aggregates, key=lambda each: each.category):
        name, version = aggregate.category, aggregate.snapshot_version
        try:
            schema = schema_of(aggregate)
        except PydanticInvalidForJsonSchema as error:
            failures.append(_untold(f"The state of {name}", error))
            continue
        kept = kind.find(name, version)
        if kept is not None and kept.content.get("schema") != schema:
            told = difference(written(kept.content.get("schema") or {}), written(schema))
            mend = f"Raise the aggregate's snapshot_version to {version + 1}, so that old snapshots are ignored"
            failures.append(Failure(what=f"The state of {name} is not that of snapshot version {version}:\n{told}",
                                    mend=f"{mend}. {_unreleased(kept.path)}"))  # fmt: skip
        elif kept is None and not kind.add(name, version, {"schema": schema}):
            failures.append(_new(f"Snapshot version {version} of {name}", kind.path(name, version)))
    told = f"{len(app.aggregates)} aggregates in {folder}"
    return Checked(name="snapshots fit", looked_at=told, failures=tuple(failures), accepted=tuple(kind.accepted))


def _check_event(event: type[Event], kind: Kind) -> Iterable[Failure]:
    name, version = event.message_name, event.schema_version
    for older in range(1, version):
        if kind.find(name, older) is None:
            yield Failure(
                what=f"{name}: nothing is kept of version {older}, which the log may hold",
                mend=f"Put {kind.path(name, older)} back, or run `amends check --accept` on code of that version",
            )
    try:
        schema = schema_of(event)
    except PydanticInvalidForJsonSchema as error:
        yield _untold(name, error)
        return
    kept = kind.find(name, version)
    if kept is not None:
        if kept.content.get("schema") != schema:
            told = difference(written(kept.content.get("schema") or {}), written(schema))
            yield Failure(
                what=f"{name}: version {version} is released, and its schema has changed:\n{told}",
                mend=f"Raise the version to {version + 1} and add an upcaster, @upcast({version}). "
                + _unreleased(kept.path),
            )
        return
    examples = examples_of(event, schema)
    if not examples:
        yield Failure(
            what=f"{name}: no example of version {version} can be made up that its own rules let pass",
            mend="Give its fields Field(examples=[…]) that pass together, and accept again",
        )
    elif not kind.add(name, version, {"schema": schema, "examples": examples}):
        yield _new(f"Version {version} of {name}", kind.path(name, version))


def _unreadable(kept: Kept) -> Iterable[Failure]:
    """What is wrong with the examples of a version: this code can't read one, or reads it as something else."""
    examples = kept.content.get("examples")
    if not isinstance(examples, list) or not examples:
        yield Failure(what=f"{kept.path} has no examples", mend='Give it at least one, in a list "examples"')
        return
    for number, example in enumerate(examples, 1):
        try:
            read = Event.registry.read(kept.name, kept.version, example)
        except (AmendsError, LookupError, TypeError, ValueError, AttributeError) as error:
            why = f"{type(error).__name__}: {error}"
        else:
            same = kept.version != read.schema_version or read.model_dump(mode="json") == example
            why = "" if same else "it comes back as something else"
        if why:
            yield Failure(
                what=f"{kept.name}: example {number} of version {kept.version} can no longer be read: {why}",
                mend="The log may hold events like it: keep the class, its name and its upcasters, and let its fields "
                f"take what they took; the example is in {kept.path}",
            )


def _new(what: str, path: Path) -> Failure:
    return Failure(what=f"{what} is new: there is no {path}", mend="`amends check --accept` writes it; commit the file")


def _unreleased(path: Path) -> str:
    return f"If that version was never released, delete {path} and run `amends check --accept`"


def _untold(what: str, error: Exception) -> Failure:
    told = str(error).splitlines()[0]
    return Failure(what=f"{what}: no JSON schema can be made: {told}", mend="Use types that JSON can tell")


def _plain(schema: Any, definitions: Mapping[str, Any], within: tuple[str, ...]) -> Any:
    """A schema with its definitions where they are used, except one within itself, and without words."""
    match schema:
        case {"$ref": str(ref), **rest}:
            name = ref.rpartition("/")[2]
            if name in within:
                return {"$within": len(within) - within.index(name)}
            found = _plain(definitions[name], definitions, (*within, name))
            return {**found, **_plain(rest, definitions, within)}
        case {"properties": dict(fields), **rest}:
            plain = {name: _plain(field, definitions, within) for name, field in fields.items()}
            return {**_plain(rest, definitions, within), "properties": plain}
        case dict():
            kept = {key: value for key, value in schema.items() if key not in WORDS}
            return {
                key: sorted(value) if key == "required" else value if key in ("default", "const", "enum", "examples")
                else _plain(value, definitions, within)
                for key, value in kept.items()
            }  # fmt: skip
        case list():
            return [_plain(part, definitions, within) for part in schema]
        case _:
            return schema
