"""Contenders that need other people's libraries (the extra `bench`), each in a module of its own."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bench.harness import Absent, Contender, Sample
from bench.servers import Servers

__all__ = ["absent", "optional"]


def optional(module: str, *names: str) -> list[type[Contender[Any]]]:
    """Contenders of a module here; where its library is not installed, stand-ins that say so.

    Args:
        module: its name.
        names: of the classes.
    """
    try:
        found = import_module(f"bench.peers.{module}")
    except ModuleNotFoundError as error:
        why = f"{error.name} is not installed; `make bench` installs what the benchmarks compare with"
        return [absent(f"{module}.{name}", why) for name in names]
    return [getattr(found, name) for name in names]


def absent(who: str, why: str) -> type[Contender[Any]]:
    """A contender who takes no part, so that the results say that and why.

    Args:
        who: its name.
        why: what is missing.
    """

    class Missing(Contender[Any]):
        """Takes no part."""

        name = who
        note = why

        async def open(self, servers: Servers) -> None:
            """Say why not.

            Raises:
                Absent: always.
            """
            raise Absent(why)

        async def work(self, work: Any) -> Sample:
            """Never called."""
            raise Absent(why)

    return Missing
