"""The folder of what has been released: a file each, written once and never changed by this program."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from difflib import unified_diff
from pathlib import Path
from typing import Any, NamedTuple

from amends.errors import InvalidInput

__all__ = ["Kept", "Kind", "difference", "read_json", "written"]

NAME = re.compile(r"(?P<name>.+)\.v(?P<version>[1-9]\d*)\.json")
"""What a file is called: the thing and its version."""

LINES = 12
"""Most lines of a difference that are told; the rest is in the file."""


class Kept(NamedTuple):
    """What a file says."""

    name: str
    version: int
    path: Path
    content: dict[str, Any]


class Kind:
    """The files of one kind of thing, `<name>.v<version>.json` each.

    Args:
        folder: where they are.
        accept: write files of what is new; otherwise only look.
    """

    def __init__(self, folder: Path, *, accept: bool) -> None:
        self._folder, self._accept = folder, accept
        self.accepted: list[str] = []

    def path(self, name: str, version: int) -> Path:
        """The file of a thing in a version, whether it is there or not."""
        return self._folder / f"{name}.v{version}.json"

    def all(self) -> Iterator[Kept]:
        """Every file there is.

        Raises:
            InvalidInput: one is called otherwise, or is no JSON.
        """
        for path in sorted(self._folder.glob("*.json")):
            said = NAME.fullmatch(path.name)
            if said is None:
                raise InvalidInput({str(path): "is to be called <name>.v<version>.json"})
            yield Kept(said["name"], int(said["version"]), path, read_json(path))

    def find(self, name: str, version: int) -> Kept | None:
        """What the file of a thing says, if there is one."""
        path = self.path(name, version)
        return Kept(name, version, path, read_json(path)) if path.exists() else None

    def add(self, name: str, version: int, content: Mapping[str, Any]) -> bool:
        """Write the file of something new, if that is wanted; returns whether it was.

        Args:
            name: of the thing.
            version: of it.
            content: what the file is to say.
        """
        if not self._accept:
            return False
        path = self.path(name, version)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x") as file:  # what is there is never changed
            file.write(written(content))
        self.accepted.append(str(path))
        return True


def written(content: Mapping[str, Any]) -> str:
    """JSON as it stands in the files: readable, and the same for the same content."""
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """What a file says.

    Raises:
        InvalidInput: it can't be read, or is no JSON object.
    """
    try:
        said = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput({str(path): f"can't be read: {error}"}) from None
    if not isinstance(said, dict):
        raise InvalidInput({str(path): "is no JSON object"})
    return said


def difference(was: str, is_: str) -> str:
    """What changed between two texts, in a few lines."""
    lines = [
        line
        for line in unified_diff(was.splitlines(), is_.splitlines(), "released", "now", lineterm="", n=1)
        if not line.startswith(("---", "+++", "@@"))
    ]
    more = [f"… and {len(lines) - LINES} lines more"] if len(lines) > LINES else []
    return "\n".join([*lines[:LINES], *more])
