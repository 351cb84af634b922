"""Makes examples of an event up, from its schema alone: one with everything in it, one with what it must have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from amends.errors import InvalidInput
from amends.messages import Event

__all__ = ["examples_of"]

Path = tuple[str, ...]

TEXTS = ("example", "EUR", "a@example.org", "2031-05-01T10:00:00Z", "2031-05-01", "10:00:00", "1", "1.5", "P1D")
"""What a text may be that obeys rules of its own; the first that passes is taken."""

FORMATS = {
    "date-time": "2031-05-01T10:00:00Z",
    "date": "2031-05-01",
    "time": "10:00:00Z",
    "duration": "P1DT2H",
    "uuid": "0e5c2f34-9d1a-4a8e-8f0e-1f2a3b4c5d6e",
    "email": "a@example.org",
    "uri": "https://example.org/",
    "binary": "ZXhhbXBsZQ==",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}

TRIES = 200
"""Most attempts until a document passes."""


def examples_of(event: type[Event], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Documents as the log would hold them, none where no document can be made up that the event's rules let pass.

    Args:
        event: the class.
        schema: of it, as `schemas.schema_of` makes it.
    """
    found: list[dict[str, Any]] = []
    for full in (True, False):
        stored = _passing(event, schema, full)
        if stored is not None and stored not in found:
            found.append(stored)
    return found


def _passing(event: type[Event], schema: dict[str, Any], full: bool) -> dict[str, Any] | None:
    choices: dict[Path, int] = {}
    for _ in range(TRIES):
        document = _value(schema, (), choices, full)
        try:
            return event(**document).model_dump(mode="json")
        except InvalidInput as wrong:
            if not _choose_otherwise(choices, [tuple(field.split(".")) for field in wrong.problems]):
                return None
    return None


def _choose_otherwise(choices: dict[Path, int], wrong: Sequence[Path]) -> bool:
    """Take the next choice where it was wrong; returns whether there is any left."""
    changed = False
    for path in list(choices):
        if any(path[: len(each)] == each or each[: len(path)] == path for each in wrong):
            changed = changed or choices[path] + 1 < len(TEXTS)
            choices[path] += 1
    return changed


def _value(schema: Any, path: Path, choices: dict[Path, int], full: bool) -> Any:
    if not isinstance(schema, dict) or "$within" in schema:
        return None
    for said in ("const", "examples", "enum", "default"):
        if said in schema and not (said == "default" and full):
            return schema[said][0] if said in ("examples", "enum") else schema[said]
    for said in ("anyOf", "oneOf"):
        if said in schema:
            ways = sorted(schema[said], key=lambda way: ("$within" in way, (way.get("type") == "null") is full))
            return _value(ways[0], path, choices, full)
    match schema.get("type"):
        case "object":
            return dict(_fields(schema, path, choices, full))
        case "array":
            return _items(schema, path, choices, full)
        case "integer" | "number":
            return _number(schema)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _text(schema, path, choices)


def _fields(schema: dict[str, Any], path: Path, choices: dict[Path, int], full: bool) -> Iterator[tuple[str, Any]]:
    for name, field in schema.get("properties", {}).items():
        if full or name in schema.get("required", ()):
            yield name, _value(field, (*path, name), choices, full)
    extra = schema.get("additionalProperties")
    if full and isinstance(extra, dict):
        yield "example", _value(extra, (*path, "example"), choices, full)


def _items(schema: dict[str, Any], path: Path, choices: dict[Path, int], full: bool) -> list[Any]:
    fixed = schema.get("prefixItems", [])
    items = [_value(item, (*path, str(number)), choices, full) for number, item in enumerate(fixed)]
    endless = "$within" in schema.get("items", {})
    wanted = max(schema.get("minItems", 0), int(full and not endless))
    while "items" in schema and len(items) < wanted:
        items.append(_value(schema["items"], (*path, str(len(items))), choices, full))
    return items


def _number(schema: dict[str, Any]) -> int | float:
    least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
    most = schema.get("maximum", schema.get("exclusiveMaximum", 10**18) - 1)
    wanted: int | float = min(max(7, least), most)
    return wanted if schema["type"] == "integer" else float(wanted)


def _text(schema: dict[str, Any], path: Path, choices: dict[Path, int]) -> str:
    if schema.get("format") in FORMATS:
        return FORMATS[schema["format"]]
    taken = TEXTS[min(choices.setdefault(path, 0), len(TEXTS) - 1)]
    return taken.ljust(schema.get("minLength", 0), "e")[: schema.get("maxLength")]
