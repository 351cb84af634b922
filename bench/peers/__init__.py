"""Contenders that need other people's libraries (the extra `bench`), each in a module of its own."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bench.harness import Absent, Contender, Sample
from bench.servers import Servers

__all__ = ["optional"]


def optional(module: str, *names: str) -> list[type[Contender[Any]]]:
    """Contenders of a module here; where its library is not installed, stand-ins that say so.

    Args:
        module: its name.
        names: of the classes.
    """
    try:
        found = import_module(f"bench.peers.{module}")
    except ModuleNotFoundError as error:
        return [_missing(f"{module}.{name}", error.name or module) for name in names]
    return [getattr(found, name) for name in names]


def _missing(who: str, library: str) -> type[Contender[Any]]:
    class Missing(Contender[Any]):
        """Takes no part."""

        name = who
        note = f"needs {library}"

        async def open(self, servers: Servers) -> None:
            """Say why not.

            Raises:
                Absent: always.
            """
            raise Absent(f"{library} is not installed; `make bench` installs what the benchmarks compare with")

        async def work(self, work: Any) -> Sample:
            """Never called."""
            raise Absent(library)

    return Missing
