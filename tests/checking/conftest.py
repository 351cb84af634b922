"""What the tests of the checks have in common: modules of an application, written for a test."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Protocol
from uuid import uuid4

import pytest

from amends.messages import Command, Event

__all__ = ["Write"]


class Write(Protocol):
    """Imports a source as a module of its own; what it declares takes the place of what the one before declared."""

    def __call__(self, source: str) -> ModuleType: ...


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Write a module of an application, and import it; its messages are forgotten in the end."""
    names: list[str] = []
    before = {registry: dict(registry.classes) for registry in (Event.registry, Command.registry)}

    def forget() -> None:
        for registry, classes in before.items():
            registry.classes.clear()
            registry.classes.update(classes)

    def written(source: str) -> ModuleType:
        forget()
        name = f"written_{uuid4().hex}"
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        names.append(name)
        spec.loader.exec_module(module)
        return module

    yield written
    forget()
    for name in names:
        del sys.modules[name]
