"""Commands for the versions of the workers' code."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from amends.cli.history import time_of
from amends.cli.people import Json, answers, print_json, reached, screen
from amends.connect import connect
from amends.errors import StartupError
from amends.settings import Settings
from amends.versioning import Version, make_current, versions_of

__all__ = ["deploy", "versions"]


def deploy(
    build_id: Annotated[str | None, typer.Argument(help="The version; without it AMENDS_BUILD_ID.")] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the version's first worker.")] = 60.0,
) -> None:
    """Let new sagas start on a version of the workers' code; those that run stay on theirs."""
    settings = Settings()
    build_id = build_id or settings.build_id
    if build_id is None:
        raise StartupError("Say which version: amends deploy BUILD_ID, or set AMENDS_BUILD_ID")

    async def run() -> Sequence[Version]:
        client = await connect(reached(settings))
        await make_current(client, settings, build_id, wait)
        return await versions_of(client, settings)

    found = asyncio.run(run())
    screen.print(f"New sagas start on {build_id} now.", highlight=False)
    _show(found)


def versions(json: Json = False) -> None:
    """Show the versions of the workers' code, and how many running sagas still need each."""
    settings = Settings()

    async def run() -> Sequence[Version]:
        return await versions_of(await connect(reached(settings)), settings)

    found = asyncio.run(run())
    if json:
        print_json(found)
    else:
        _show(found)


def _show(found: Sequence[Version]) -> None:
    table = Table()
    for heading in ("Version", "Status", "Sagas", "Since"):
        table.add_column(heading, justify="right" if heading == "Sagas" else "left")
    for version in found:
        table.add_row(version.build_id, version.status, str(version.sagas), time_of(version.created_at))
    answers().print(table)
