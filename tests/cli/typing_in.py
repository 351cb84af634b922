"""Typing in commands of the command line, inside this process: quicker than one of its own for each."""

from __future__ import annotations

import asyncio

from typer.testing import CliRunner, Result

from amends.cli.program import program
from amends.settings import Settings

__all__ = ["amends"]


async def amends(*arguments: str, settings: Settings | None = None, **environment: str) -> Result:
    """Run `amends` with these arguments, in a thread, for it has an event loop of its own.

    Args:
        arguments: as typed.
        settings: whose servers it is to use.
        environment: further variables.
    """
    env = {"COLUMNS": "200", **environment}
    if settings is not None:
        assert settings.database_url is not None
        env["AMENDS_DATABASE_URL"] = settings.database_url.get_secret_value()
        env["AMENDS_TEMPORAL_ADDRESS"] = str(settings.temporal_address)
        env["AMENDS_TASK_QUEUE"] = settings.task_queue
        env["AMENDS_HOME"] = str(settings.home)
    return await asyncio.to_thread(lambda: CliRunner().invoke(program(Settings()), arguments, env=env))
